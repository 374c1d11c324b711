"""How values show themselves in a notebook. What draws them stands above what is drawn, so it is found by its name, when a
notebook asks.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def shown(how: str, value: Any) -> str:
    """The HTML or SVG that `cnnc.notebook` has of a value."""
    return str(getattr(import_module("cnnc.notebook"), how)(value))
