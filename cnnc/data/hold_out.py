"""The part of a data set that is held out to test on, where it has none of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.random import SPLIT, permutation
from cnnc.diagnostics import Diagnostic

HELD_OUT = 0.1  # share of all samples
SHOWN = 8  # classes that a message lists
Numbers = NDArray[np.int64]


def tenth(labels: NDArray[Any], seed: int) -> tuple[Numbers, Numbers]:
    """The indices to train on and those to test on, both sorted: a tenth of all, at least one, is held out.

    Of each class its share, by largest remainders, and never its last sample: every class is trained. Which samples,
    and which of equal remainders, follows from the seed. Where no class has two samples, nothing is held out.
    """
    classes, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    count = max(1, round(len(labels) * HELD_OUT)) if len(labels) > 1 else 0
    room = counts - 1
    share = counts * count / max(len(labels), 1)
    held = np.minimum(np.floor(share).astype(np.int64), room)
    while (left := min(count, int(room.sum())) - int(held.sum())) > 0:
        chance = permutation(seed, SPLIT, 1, len(classes))
        first = np.lexsort((np.argsort(chance), -(share - held)))
        held[[c for c in first if held[c] < room[c]][:left]] += 1
    order = permutation(seed, SPLIT, 0, len(labels))
    groups = np.argsort(of[order], kind="stable")  # the shuffled samples, class by class
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    tested = place < np.repeat(held, counts)
    return np.sort(order[groups[~tested]]), np.sort(order[groups[tested]])


def untested(labels: NDArray[Any], test: Numbers, names: Sequence[str] | None) -> Diagnostic | None:
    """A warning (W0601) that names the classes of which nothing is held out."""
    classes, counts = np.unique(labels, return_counts=True)
    missing = ~np.isin(classes, labels[test])
    if not missing.any():
        return None

    def listed(which: NDArray[np.bool_]) -> str:
        shown = [str(c) if names is None else names[int(c)] for c in classes[which][:SHOWN]]
        more = int(which.sum()) - len(shown)
        return ", ".join(shown) + (f" and {more} more" if more else "")

    single, few = missing & (counts == 1), missing & (counts > 1)
    notes = []
    if single.any():
        notes.append(f"of one sample, which is trained and cannot be split: {listed(single)}")
    if few.any():
        notes.append(f"of too few samples for a tenth: {listed(few)}")
    return Diagnostic(
        "W0601",
        f"{int(missing.sum())} of {len(classes)} classes are not tested: {len(test)} of {len(labels)} samples are held out",
        notes=tuple(notes),
        help="give a part to test on: x_test and y_test, or the folders train/ and test/",
        severity="warning",
    )
