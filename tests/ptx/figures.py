"""What decides the speed of a kernel, counted while it runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from tests.ptx.registers import Array

WARP, BANKS, SECTOR = 32, 32, 32


@dataclass
class Figures:
    """Sums over all warps.

    instructions: by name. shared_requests, shared_cycles: accesses to shared memory, and the cycles that they take; shared_least
    is the fewest for as many bytes: more are bank conflicts. sectors: pieces of 32 bytes of global memory that are read or
    written; sectors_least the fewest for as many different bytes. barriers: of blocks.
    """

    instructions: Counter[str] = field(default_factory=Counter)
    shared_requests: int = 0
    shared_cycles: int = 0
    shared_least: int = 0
    sectors: int = 0
    sectors_least: int = 0
    barriers: int = 0

    def count_global(self, lanes: Array, address: Array, size: int) -> None:
        """An access of `size` bytes, at most 16, by each of the lanes."""
        warp = lanes // WARP << 48
        self.sectors += len(np.unique(warp | address // SECTOR))
        different = np.unique(warp | address // size) >> 48
        each = np.unique(different, return_counts=True)[1] * size
        self.sectors_least += int((-(-each // SECTOR)).sum())

    def count_shared(self, lanes: Array, address: Array, size: int) -> None:
        """A cycle serves each bank once, with one word of 4 bytes that any number of lanes want. Accesses of 8 and 16 bytes go by
        halves and quarters of a warp, of which two go together where lanes i, i ^ 1 or lanes i, i ^ 2 want the same.
        """
        words = max(1, size // 4)
        warps, row = np.unique(lanes // WARP, return_inverse=True)
        table = np.full((len(warps), WARP), -1, np.int64)
        table[row, lanes % WARP] = address // 4
        paired = np.zeros(len(warps), bool)
        if words > 1:
            four = table.reshape(-1, 8, 2, 2)
            paired = (four[..., 0] == four[..., 1]).all((1, 2)) | (four[:, :, 0] == four[:, :, 1]).all((1, 2))
        for together, chosen in ((1, table[~paired]), (2, table[paired])):
            if not len(chosen):
                continue
            groups = chosen.reshape(-1, together * WARP // words)
            least = np.full(len(groups), 1)
            cycles = np.maximum(self._cycles(groups, words), least)
            used = (groups >= 0).any(1)
            self.shared_cycles += int(cycles[used].sum())
            self.shared_least += int(used.sum())
        self.shared_requests += len(warps)

    @staticmethod
    def _cycles(groups: Array, words: int) -> Array:
        """How often the bank that is wanted most has to answer, for each group of accesses that go together."""
        number, column = np.nonzero(groups >= 0)
        wanted = (number[:, None] << 32 | groups[number, column][:, None] + np.arange(words)).reshape(-1)
        wanted = np.unique(wanted)
        banks = (wanted >> 32) * BANKS + (wanted & 0xFFFFFFFF) % BANKS
        return np.bincount(banks, minlength=len(groups) * BANKS).reshape(-1, BANKS).max(1)
