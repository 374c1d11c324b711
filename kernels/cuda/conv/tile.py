"""Tiles of an implicit matrix product. Nothing here imports Numba."""

from __future__ import annotations

from dataclasses import dataclass

from ..target import LANES

Parameters = tuple[int, int, int, int]


@dataclass(frozen=True)
class Tile:
    """What a block computes: `pixels` x `filters`, by `down` x `across` warps. An entry is one tap and one block of channels: 8 numbers
    of each pixel and 8 of each filter; a step of the main loop takes ENTRIES of them from shared memory, while the copies of STAGES - 1
    later steps are under way.
    """

    pixels: int
    filters: int
    down: int
    across: int

    @property
    def threads(self) -> int:
        """Two for each pixel, of which each copies 16 bytes of an entry."""
        return 32 * self.down * self.across

    @property
    def tall(self) -> int:
        """Pixels of a thread, 8 apart."""
        return self.pixels // self.down // 8

    @property
    def wide(self) -> int:
        """Filters of a thread: fours, 16 apart."""
        return self.filters // self.across // 4

    @property
    def stage(self) -> int:
        """Floats of a step in shared memory."""
        return ENTRIES * LANES * (self.pixels + self.filters)

    @property
    def shared(self) -> int:
        """Bytes of shared memory."""
        return 4 * STAGES * self.stage

    @property
    def resident(self) -> int:
        """Blocks on a multiprocessor, for 128 registers a thread."""
        return 512 // self.threads

    @property
    def parameters(self) -> Parameters:
        return self.pixels, self.filters, self.down, self.across


ENTRIES, STAGES = 2, 3
TILES = tuple(
    Tile(*numbers) for numbers in ((128, 128, 2, 4), (128, 64, 4, 2), (64, 128, 1, 4), (64, 64, 2, 2), (32, 32, 1, 2))
)
