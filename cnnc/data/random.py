"""Counter-based random numbers: what is drawn follows from (seed, epoch, sample) alone, in whatever order it is asked
for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

SHUFFLE, SPLIT, AUGMENT = 1, 2, 3  # streams: uses that must not share numbers


def philox(key: tuple[int, int], counter: tuple[NDArray[np.uint64], ...]) -> list[NDArray[np.uint64]]:
    """Philox4x32-10 (Salmon et al., 2011): the four words of each counter, itself four words; all below 2^32, uint64
    [n].
    """
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c, (k0, k1) = list(counter), key
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> half) ^ c[1] ^ np.uint64(k0), p1 & low, (p0 >> half) ^ c[3] ^ np.uint64(k1), p0 & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def words(seed: int, stream: int, epoch: int, samples: NDArray[Any], draws: int = 1) -> NDArray[np.uint32]:
    """uint32 [len(samples), draws], uniform. The key is the seed (64 bits); the counter is (sample, group of four
    draws, epoch, stream).
    """
    sample = np.asarray(samples, np.uint64)
    groups = [np.full_like(sample, g) for g in range(-(-draws // 4))]
    when, use = np.full_like(sample, epoch), np.full_like(sample, stream)
    key = (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF)
    drawn = [w for g in groups for w in philox(key, (sample & np.uint64(0xFFFFFFFF), g, when, use))]
    return np.stack(drawn[:draws], axis=1).astype(np.uint32)


def uniform(seed: int, stream: int, epoch: int, samples: NDArray[Any], draws: int = 1) -> NDArray[np.float64]:
    """float64 [len(samples), draws] in [0, 1)."""
    return words(seed, stream, epoch, samples, draws).astype(np.float64) * 2.0**-32


def permutation(seed: int, stream: int, epoch: int, count: int) -> NDArray[np.int64]:
    """A permutation of 0..count - 1."""
    return np.argsort(words(seed, stream, epoch, np.arange(count))[:, 0], kind="stable").astype(np.int64)
