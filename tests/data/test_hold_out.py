"""The tenth that is held out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc.data.dataset import Dataset
from cnnc.data.hold_out import tenth, untested

SORTED = np.repeat(np.arange(10), 3)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=120), st.integers(0, 2**63 - 1))
@settings(max_examples=30, deadline=None)
def test_every_class_stays_in_training(labels: list[int], seed: int) -> None:
    y = np.array(labels)
    train, test = tenth(y, seed)
    assert sorted([*train, *test]) == list(range(len(y)))
    assert set(y[train]) == set(y)
    room = len(y) - len(set(labels))
    assert len(test) == (min(room, max(1, round(len(y) / 10))) if len(y) > 1 else 0)
    for c in set(labels):
        share = labels.count(c) * len(test) / len(y)
        assert (y[test] == c).sum() <= np.ceil(share) + 1
    warning = untested(y, test, None)
    missing = set(labels) - set(y[test])
    assert (warning is None) == (not missing)


@pytest.mark.parametrize("n", [10, 30, 100])
def test_a_large_class_has_its_tenth(n: int) -> None:
    y = np.repeat([0, 1, 2], [n, 2 * n, 3 * n])
    assert np.bincount(y[tenth(y, 1)[1]]).tolist() == [n // 10, n // 5, 3 * n // 10]


def test_the_seed_decides() -> None:
    tests = [tuple(tenth(SORTED, seed)[1]) for seed in range(20)]
    assert tests[3] == tuple(tenth(SORTED, 3)[1])
    assert len(set(tests)) > 15
    assert {int(SORTED[i]) for t in tests for i in t} == set(range(10))
    assert all(len({int(SORTED[i]) for i in t}) == 3 for t in tests), "equal shares come first"


def test_classes_that_are_not_tested_are_named() -> None:
    y = np.array([0] * 40 + [1] + [2] * 3)
    warning = untested(y, tenth(y, 0)[1], ("cat", "dog", "fox"))
    assert warning is not None
    assert "2 of 3 classes are not tested: 4 of 44 samples are held out" in str(warning)
    assert "of one sample, which is trained and cannot be split: dog" in str(warning)
    assert "of too few samples for a tenth: fox" in str(warning)
    x = np.zeros((44, 1, 2, 2), np.float32)
    data = Dataset.from_arrays(x, y, seed=5)
    assert [w.code for w in data.warnings] == ["W0601"]
    assert "split: 1" in str(data.warnings[0])
    assert not np.array_equal(data.test.numbers, Dataset.from_arrays(x, y, seed=6).test.numbers)
    assert not Dataset.from_arrays(x, y, x, y).warnings
    assert not Dataset.from_arrays(x, y, hold_out=False).warnings
