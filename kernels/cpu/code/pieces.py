"""Pieces of kernels that several families have in common."""

from __future__ import annotations

from numba import types

from .vector import piece

INT = types.int64


def _panel_at(unit: int, panel: int, full: int) -> tuple[int, int]:
    """The first block of a panel, and how many it has: `full` panels of so many, then those left over, each a panel of its own."""
    if unit < full:
        return unit * panel, panel
    return full * panel + unit - full, 1


panel_at = piece((INT, INT, INT), _panel_at, types.UniTuple(INT, 2))
