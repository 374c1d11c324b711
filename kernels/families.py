"""Families of kernels, collected from the modules that define them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from typing import Any


def collected(package: str, path: Iterable[str], name: str) -> dict[str, Any]:
    """What a package's `__getattr__` gives for `FAMILIES`: the families that its modules list there, by name. Raises
    AttributeError for any other name.
    """
    if name != "FAMILIES":
        raise AttributeError(f"module {package!r} has no attribute {name!r}")
    families: dict[str, Any] = {}
    for info in pkgutil.walk_packages(path, f"{package}."):
        for family in getattr(importlib.import_module(info.name), "FAMILIES", ()):
            assert family.name not in families, family.name
            families[family.name] = family
    return families
