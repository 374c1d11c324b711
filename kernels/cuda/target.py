"""The chips that kernels are compiled for."""

from __future__ import annotations

from dataclasses import dataclass

LANES = 8  # channels to a block of a layout
KIB = 1024


@dataclass(frozen=True)
class Chip:
    """name: what LLVM and ptxas call it. ptx: the version of PTX that it takes at least. shared: bytes of shared memory that a block
    may ask for. multiprocessors: of the largest product, at so many MHz.
    """

    name: str
    ptx: int
    shared: int
    multiprocessors: int
    megahertz: int


CHIPS = {
    chip.name: chip
    for chip in (
        Chip("sm_80", 78, 163 * KIB, 108, 1410),
        Chip("sm_86", 78, 99 * KIB, 84, 1740),
        Chip("sm_89", 78, 99 * KIB, 142, 2520),
        Chip("sm_90", 80, 227 * KIB, 132, 1980),
        Chip("sm_100", 86, 227 * KIB, 148, 1965),
        Chip("sm_120", 87, 99 * KIB, 188, 2617),
    )
}
LEAST = CHIPS["sm_80"]  # what is compiled for it runs on all of them


def named(name: str) -> Chip:
    """The chip of that name; KeyError where there is none."""
    return CHIPS[name]
