"""Data sets: where they come from, their parts, their batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnc.data import augment
from cnnc.data.augment import AUGMENTATIONS, ColorJitter, RandomCrop, RandomFlip, RandomShift
from cnnc.data.dataset import Dataset
from cnnc.data.images import load_image
from cnnc.data.random import philox, uniform
from cnnc.diagnostics import CnncError
from cnnc.frontend.inputs import Preprocess
from cnnc.frontend.recipes import AUGMENTATIONS as LANGUAGE

DIGITS = Path(__file__).parents[2] / "examples" / "data"
RNG = np.random.default_rng(0)
X = RNG.random((23, 1, 6, 6)).astype(np.float32)
Y = RNG.integers(0, 4, 23)


def rejected(code: str, make: Any) -> None:
    with pytest.raises(CnncError) as e:
        make()
    assert e.value.diagnostics[0].code == code, e.value
    assert e.value.exit_code == 3


def test_philox_is_the_published_generator() -> None:
    """Known answers of Random123 (Salmon et al., 2011)."""

    def words(key: tuple[int, int], counter: list[int]) -> list[int]:
        return [int(w[0]) for w in philox(key, tuple(np.array([c], np.uint64) for c in counter))]

    ones = 0xFFFFFFFF
    assert words((0, 0), [0, 0, 0, 0]) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    assert words((ones, ones), [ones] * 4) == [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    assert words((0xA4093822, 0x299F31D0), [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]) == [
        0xD16CFE09,
        0x94FDCCEB,
        0x5001E420,
        0x24126EA1,
    ]


def test_draws_are_uniform_and_apart() -> None:
    draws = uniform(3, 1, 0, np.arange(20_000), 6)
    assert abs(draws.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(draws.T) - np.eye(6)).max() < 0.03
    assert not np.array_equal(draws, uniform(3, 1, 1, np.arange(20_000), 6))
    assert not np.array_equal(draws, uniform(3, 2, 0, np.arange(20_000), 6))
    np.testing.assert_array_equal(draws[[7, 3]], uniform(3, 1, 0, np.array([7, 3]), 6))


def test_digits() -> None:
    data = Dataset.open(DIGITS / "digits.npz", Preprocess(), (1, 28, 28))
    assert (len(data.train), len(data.test)) == (1437, 360)
    assert np.bincount(data.test.labels).tolist() == [36] * 10
    tests = np.concatenate([x for x, _ in data.test_batches(100)])
    assert tests.shape == (360, 1, 28, 28)
    assert tests.dtype == np.float32
    assert tests.min() == 0
    assert tests.max() == 1


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_as_png_is_the_digit_of_the_data_set(digit: int) -> None:
    settings = Preprocess(mean=(0.5,), std=(0.5,))
    data = Dataset.open(DIGITS / "digits.npz", settings, (1, 28, 28))
    picture = load_image(DIGITS / f"{digit}.png", settings, (1, 28, 28))
    same = [
        int(y) for x, labels in data.test_batches(100) for i, y in enumerate(labels) if np.array_equal(x[i], picture)
    ]
    assert same == [digit]


def test_batches_cover_an_epoch() -> None:
    data = Dataset.from_arrays(X, Y, hold_out=False)
    batches = list(data.batches(5, seed=1, epoch=0))
    assert [len(x) for x, _ in batches] == [5, 5, 5, 5, 3]
    x, y = np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])
    order = np.lexsort(x.reshape(23, -1).T)
    expected = np.lexsort(X.reshape(23, -1).T)
    np.testing.assert_array_equal(x[order], X[expected])
    np.testing.assert_array_equal(y[order], Y[expected])
    assert y.dtype == np.int64


def test_order_follows_from_seed_and_epoch() -> None:
    data = Dataset.from_arrays(X, Y, hold_out=False)

    def order(seed: int, epoch: int, batch: int = 5, skip: int = 0) -> np.ndarray[Any, Any]:
        return np.concatenate([x for x, _ in data.batches(batch, seed, epoch, skip=skip)])

    np.testing.assert_array_equal(order(1, 2), order(1, 2))
    np.testing.assert_array_equal(order(1, 2), order(1, 2, batch=7))
    np.testing.assert_array_equal(order(1, 2)[10:], order(1, 2, skip=2))
    assert not np.array_equal(order(1, 2), order(1, 3))
    assert not np.array_equal(order(1, 2), order(2, 2))


def test_held_out_part() -> None:
    data = Dataset.from_arrays(X, Y)
    again = Dataset.from_arrays(X, Y)
    assert (len(data.train), len(data.test)) == (21, 2)
    assert not set(data.train.numbers) & set(data.test.numbers)
    np.testing.assert_array_equal(data.test.numbers, again.test.numbers)
    assert len(Dataset.from_arrays(X[:1], Y[:1]).test) == 0


@pytest.mark.parametrize("names", [("x", "y"), ("images", "labels"), ("data", "target"), ("x_train", "y_train")])
def test_names_in_a_file(tmp_path: Path, names: tuple[str, str]) -> None:
    np.savez(tmp_path / "a.npz", **{names[0]: X, names[1]: Y[:, None]})
    assert len(Dataset.open(tmp_path / "a.npz", Preprocess(), (1, 6, 6)).train) == 21


def test_what_is_refused(tmp_path: Path) -> None:
    def opened(name: str = "a.npz", **arrays: Any) -> Any:
        if arrays:
            np.savez(tmp_path / name, **arrays)
        return lambda: Dataset.open(tmp_path / name, Preprocess(), (1, 6, 6))

    rejected("E0627", opened(p=X, q=Y))
    rejected("E0628", opened(x=X, y=Y[:5]))
    rejected("E0628", opened(x=X, y=np.eye(23)))
    rejected("E0628", opened(x=X[:, :, :5], y=Y))
    rejected("E0628", opened(x=X[:, 0, 0], y=Y))
    rejected("E0630", opened(x=X[0, 0, 0, 0], y=Y))
    rejected("E0629", opened(x=X, y=Y + 0.5))
    rejected("E0629", opened(x=X, y=np.full(23, 2**63, np.uint64)))
    rejected("E0630", opened(x=X[:0], y=Y[:0]))
    rejected("E0627", opened("none.npz".replace("npz", "txt")))
    rejected("E0620", opened("none.npz"))
    data = Dataset.from_arrays(X, Y)
    data.check_labels(4)
    rejected("E0629", lambda: data.check_labels(int(Y.max())))
    rejected("E0629", lambda: Dataset.from_arrays(X, Y - 1).check_labels(4))


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("E0701", {"x": [[1.0], [1.0, 2.0]]}),
        ("E0701", {"labels": [[1], [1, 2]]}),
        ("E0628", {"x": np.full(X.shape, "a")}),
        ("E0628", {"x": np.full(X.shape, None)}),
        ("E0629", {"labels": ["cat"] * 23}),
        ("E0629", {"labels": [None] * 23}),
        ("E0629", {"labels": np.full(23, np.datetime64("2024-01-01"))}),
        ("E0629", {"labels": np.full(23, 1j)}),
        ("E0628", {"labels": 3}),
        ("E0627", {"x_test": X}),
        ("E0627", {"y_test": Y}),
        ("E0628", {"x_test": X[:5], "y_test": Y}),
        ("E0701", {"x_test": X, "y_test": [[1], [1, 2]]}),
    ],
)
def test_arrays_that_are_refused(code: str, arguments: dict[str, Any]) -> None:
    rejected(code, lambda: Dataset.from_arrays(**{"x": X, "labels": Y, **arguments}))


def test_arguments_that_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x_train=X, y_train=Y, x_test=X)
    rejected("E0627", lambda: Dataset.open(tmp_path / "a.npz", Preprocess(), (1, 6, 6)))
    for make in (
        *(lambda p=p: Dataset.open(p, Preprocess(), (1, 6, 6)) for p in (None, 3, (X,), b"a")),
        lambda: Dataset.open("a.npz", "settings", (1, 6, 6)),
        lambda: Dataset.open("a.npz", Preprocess(), (1, 6, 6), seed=-1),
        lambda: Dataset.from_arrays(X, Y, preprocess=3),
        lambda: Dataset.from_arrays(X, Y, seed=1.5),
        lambda: Dataset.from_arrays(None, Y),
        lambda: Dataset.from_arrays(X, None),
    ):
        with pytest.raises(CnncError) as e:
            make()
        assert e.value.diagnostics[0].code == "E0706"
    data = Dataset.from_arrays(X, Y)
    for size in (0, -1, 1.5, "a", True):
        for make in (lambda s: data.batches(s, 0, 0), data.test_batches):
            with pytest.raises(CnncError) as e:
                make(size)
            assert e.value.diagnostics[0].code == "E0704"


def folders(root: Path, names: list[str], images: int = 4) -> None:
    for i, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for j in range(images):
            Image.fromarray(np.full((9, 7, 3), 20 * i + j, np.uint8)).save(root / name / f"{j}.png")


def test_folder_of_classes(tmp_path: Path) -> None:
    folders(tmp_path, ["10", "2", "1"])
    data = Dataset.open(tmp_path, Preprocess(scale=1.0), (3, 7, 7))
    assert data.classes == ("1", "2", "10")
    assert (len(data.train), len(data.test)) == (11, 1)
    for x, labels in data.batches(4, 0, 0):
        assert [{0: 2, 1: 1, 2: 0}[int(v) // 20] for v in x[:, 0, 0, 0]] == labels.tolist()


def test_folder_with_parts(tmp_path: Path) -> None:
    folders(tmp_path / "train", ["cat", "dog"])
    folders(tmp_path / "val", ["dog"], images=2)
    data = Dataset.open(tmp_path, Preprocess(), (3, 7, 7))
    assert (len(data.train), len(data.test)) == (8, 2)
    assert data.test.labels.tolist() == [1, 1]
    folders(tmp_path / "val", ["fox"])
    rejected("E0627", lambda: Dataset.open(tmp_path, Preprocess(), (3, 7, 7)))
    (tmp_path / "empty").mkdir()
    rejected("E0630", lambda: Dataset.open(tmp_path / "empty", Preprocess(), (3, 7, 7)))
    rejected("E0623", lambda: Dataset.open(tmp_path, Preprocess(), (7,)))


# ------------------------------------------------------------------------------------------------ augmentation

IMAGES = RNG.integers(0, 256, (40, 3, 8, 10), dtype=np.uint8)
NUMBERS = np.arange(40)
SIZE = (8, 10)


def applied(*changes: augment.Augmentation, epoch: int = 0, numbers: Any = NUMBERS) -> np.ndarray[Any, Any]:
    return augment.augment(IMAGES[numbers], changes, 5, epoch, numbers, SIZE)


def test_augmentations_are_those_of_the_language() -> None:
    assert set(AUGMENTATIONS) == set(LANGUAGE)
    for name, arguments in LANGUAGE.items():
        assert set(arguments) <= set(AUGMENTATIONS[name].__dataclass_fields__)


@pytest.mark.parametrize("change", [RandomShift(2), RandomFlip(), RandomCrop(padding=3), ColorJitter(0.4, 0.4, 0.4)])
def test_augmentation_depends_on_seed_epoch_and_sample_alone(change: augment.Augmentation) -> None:
    whole = applied(RandomFlip(0.3), change)
    assert whole.shape == IMAGES.shape
    assert whole.dtype == np.uint8
    some = np.array([31, 4, 4, 17])
    np.testing.assert_array_equal(applied(RandomFlip(0.3), change, numbers=some), whole[some])
    assert not np.array_equal(whole, applied(RandomFlip(0.3), change, epoch=1))


def test_shift() -> None:
    shifted = applied(RandomShift(2))
    found = set()
    for before, after in zip(IMAGES, shifted, strict=True):
        padded = np.pad(before, [(0, 0), (2, 2), (2, 2)])
        where = [(i, j) for i in range(5) for j in range(5) if np.array_equal(padded[:, i : i + 8, j : j + 10], after)]
        assert len(where) == 1
        found.add(where[0])
    assert len(found) > 10
    np.testing.assert_array_equal(applied(RandomShift(0)), IMAGES)


def test_flip() -> None:
    np.testing.assert_array_equal(applied(RandomFlip(1.0)), IMAGES[..., ::-1])
    np.testing.assert_array_equal(applied(RandomFlip(0.0)), IMAGES)
    half = applied(RandomFlip(0.5))
    flips = [np.array_equal(a, b[..., ::-1]) for a, b in zip(half, IMAGES, strict=True)]
    assert 8 < sum(flips) < 32


def test_jitter() -> None:
    np.testing.assert_array_equal(applied(ColorJitter()), IMAGES)
    floats = IMAGES / np.float32(255)
    brighter = augment.augment(floats, [ColorJitter(brightness=0.5)], 5, 0, NUMBERS, SIZE)
    ratio = brighter[:, 0, 0, 0] / floats[:, 0, 0, 0]
    assert ratio.min() >= 0.5
    assert ratio.max() <= 1.5
    np.testing.assert_allclose(brighter, floats * ratio[:, None, None, None], rtol=1e-4)
    flat = augment.augment(
        np.full((4, 1, 8, 10), 0.5, np.float32), [ColorJitter(contrast=1.0, saturation=1.0)], 5, 0, NUMBERS[:4], SIZE
    )
    np.testing.assert_allclose(flat, 0.5, rtol=1e-5)


def test_crop_from_a_larger_picture(tmp_path: Path) -> None:
    """With resize above the input, an unpadded random crop moves within the resized picture; evaluation takes its
    middle.
    """
    from cnnc.train.loop import canvas

    crop, settings = RandomCrop(), Preprocess(resize=12, crop=(8, 8), scale=1.0)
    assert canvas([crop], settings, (1, 8, 8)) == (12, 12)
    assert canvas([RandomCrop(padding=1)], settings, (1, 8, 8)) is None
    assert canvas([], settings, (1, 8, 8)) is None
    pixels = np.broadcast_to(np.arange(12, dtype=np.uint8), (100, 12, 12))
    np.savez(tmp_path / "a.npz", x=pixels, y=np.zeros(100, int))
    data = Dataset.open(tmp_path / "a.npz", settings, (1, 8, 8), (12, 12))
    lefts = {int(v) for x, _ in data.batches(9, 0, 0, [crop]) for v in x[:, 0, 0, 0]}
    assert lefts == {0, 1, 2, 3, 4}
    assert {int(v) for x, _ in data.test_batches(9) for v in x[:, 0, 0, 0]} == {2}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("random_shfit", {}),
        ("random_shift", {}),
        ("random_shift", {"pixels": -1}),
        ("random_shift", {"pixels": 100}),
        ("random_shift", {"pixel": 1}),
        ("random_flip", {"p": 2}),
        ("random_crop", {"size": 5}),
        ("random_crop", {"size": 0}),
        ("color_jitter", {"contrast": "a"}),
    ],
)
def test_wrong_augmentations(name: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(CnncError) as e:
        augment.build(name, arguments, SIZE)
    assert e.value.diagnostics[0].code == "E0631"
