"""Data sets: images with their labels, split into a part to train on and a part to test on, and the batches of an
epoch.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cnnc.arguments import as_path, of_kind, seed_of, wrong
from cnnc.data.arrays import TEST_NAMES, TRAIN_NAMES, read_arrays
from cnnc.data.augment import Augmentation, augment
from cnnc.data.binary import read_folder
from cnnc.data.folders import Skipped, class_folders, parts
from cnnc.data.hold_out import tenth, untested
from cnnc.data.images import Floats, decode, fit, image_shape, normalize
from cnnc.data.labels import INDICES, Form, Labels, labels_of
from cnnc.data.pixels import as_pixels
from cnnc.data.random import SHUFFLE, permutation
from cnnc.diagnostics import CnncError, Diagnostic, error
from cnnc.files import escaped
from cnnc.foreign import refuse
from cnnc.runtime.inputs import as_array, whole

if TYPE_CHECKING:
    from cnnc.frontend.inputs import Preprocess

KEEP_LIMIT = 1 << 30  # bytes of decoded pictures that are kept in memory


@dataclass(frozen=True)
class Source:
    """Where a data set was read: a file, or a folder and the files of it that are read."""

    root: Path
    files: tuple[Path, ...] = ()


class Samples(Protocol):
    """Images by index: bytes are pixels that are still to be normalized, floats are taken as they are."""

    def __len__(self) -> int: ...

    def take(self, indices: NDArray[Any]) -> NDArray[Any]:
        """[len(indices), C, H, W], uint8 or float32."""
        ...


@dataclass(frozen=True)
class ArraySamples:
    array: NDArray[Any] = field(repr=False)

    def __len__(self) -> int:
        return len(self.array)

    def take(self, indices: NDArray[Any]) -> NDArray[Any]:
        taken: NDArray[Any] = self.array[indices]
        return taken


class FileSamples:
    """Image files, decoded when they are asked for and kept where all of them fit into `KEEP_LIMIT`."""

    def __init__(self, files: Sequence[Path], preprocess: Preprocess, shape: tuple[int, ...]) -> None:
        self.files, self.preprocess, self.shape = tuple(files), preprocess, shape
        fits = len(files) * int(np.prod(shape)) <= KEEP_LIMIT
        self._kept: dict[int, NDArray[np.uint8]] | None = {} if fits else None

    def __len__(self) -> int:
        return len(self.files)

    def _load(self, index: int) -> NDArray[np.uint8]:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        pixels = fit(decode(self.files[index], self.shape[0]), self.preprocess, (self.shape[1], self.shape[2]))
        if self._kept is not None:
            self._kept[index] = pixels
        return pixels

    def take(self, indices: NDArray[Any]) -> NDArray[Any]:
        return np.stack([self._load(int(i)) for i in indices]) if len(indices) else np.zeros((0, *self.shape), np.uint8)


@dataclass(frozen=True)
class Split:
    """Samples and what there is to learn of them, mostly class indices [n]. `numbers` are the samples' indices in
    `samples`: what the random numbers are keyed by.
    """

    samples: Samples = field(repr=False)
    labels: Labels = field(repr=False)
    numbers: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return len(self.numbers)

    def part(self, numbers: NDArray[np.int64]) -> Split:
        return replace(self, numbers=numbers)


@dataclass(frozen=True)
class Dataset:
    """`train` and `test` parts; `shape` is what the network takes for one sample, `classes` their names where the data
    has them; `warnings` say what of it is not used, or not tested.
    """

    train: Split
    test: Split
    shape: tuple[int, ...]
    preprocess: Preprocess
    classes: tuple[str, ...] | None = None
    warnings: tuple[Diagnostic, ...] = ()
    source: Source | None = None

    @property
    def form(self) -> Form:
        """What there is to learn of each sample."""
        labels = self.train.labels
        return Form(labels.shape[1:], "f32" if labels.dtype.kind == "f" else "i64")

    @classmethod
    def open(
        cls,
        path: str | Path,
        preprocess: Preprocess,
        shape: Sequence[int],
        canvas: tuple[int, int] | None = None,
        seed: int = 0,
        form: Form | None = None,
    ) -> Dataset:
        """A data set from disk.

        A `.npz` with x_train, y_train and x_test, y_test (or images and labels, or x and y); a folder with a folder of
        images for each class, or with such folders in train/ and test/ (or val/); a folder with MNIST's or CIFAR-10's
        binary files. Where there is no test part, a tenth is held out: of each class its share, never its last sample;
        the seed decides which. `canvas` (height, width) is the size that training images are kept at for a later random
        crop. `form` is of what there is to learn, class indices [n] unless given; numbers and indices for each place are
        those of a `.npz`. Raises `CnncError` (E0620 to E0630).
        """
        from cnnc.frontend.inputs import Preprocess

        path, shape = as_path("path", path), tuple(shape)
        seed_of(seed)
        of_kind("preprocess", preprocess, Preprocess, "the settings of an input, net.program.inputs[name],")
        if path.is_dir():
            found = read_folder(path)
            if form not in (None, INDICES):
                raise error(
                    "E0628",
                    f"{escaped(path)} has a class for each image; {form} are needed",
                    exit_code=3,
                    help="save them in a .npz file, as x and y",
                )
            if found is None:
                return _from_folder(path, preprocess, shape, canvas, seed)
            data = _from_arrays(found.arrays, escaped(path), preprocess, shape, canvas, seed)
            return replace(data, classes=found.classes, source=Source(path, found.files))
        refuse(path, "data")
        if path.suffix.lower() != ".npz":
            raise no_data_set(path)
        data = _from_arrays(read_arrays(path), escaped(path), preprocess, shape, canvas, seed, form=form)
        return replace(data, source=Source(path))

    @classmethod
    def from_arrays(
        cls,
        x: Any,
        labels: Any,
        x_test: Any = None,
        y_test: Any = None,
        *,
        preprocess: Preprocess | None = None,
        shape: Sequence[int] | None = None,
        hold_out: bool = True,
        seed: int = 0,
    ) -> Dataset:
        """A data set from arrays: x [n, C, H, W] (floats are taken as they are, bytes are pixels), labels [n].

        Without a test part, a tenth is held out as `open` does it, unless `hold_out` is false: then there is none. Raises `CnncError`
        (E0628 to E0630).
        """
        from cnnc.frontend.inputs import Preprocess

        if preprocess is not None:
            of_kind("preprocess", preprocess, Preprocess, "the settings of an input, or None,")
        seed_of(seed)
        given = {"x_train": x, "y_train": labels, "x_test": x_test, "y_test": y_test}
        arrays = {name: as_array(value, name) for name, value in given.items() if value is not None}
        for name in ("x_train", "y_train"):
            if name not in arrays:
                raise wrong(name, None, "an array")
        return _from_arrays(
            arrays,
            "the data",
            preprocess or Preprocess(),
            tuple(shape or arrays["x_train"].shape[1:]),
            None,
            seed,
            hold_out,
        )

    @classmethod
    def as_given(
        cls, given: Sequence[Any], preprocess: Preprocess, shape: tuple[int, ...], form: Form | None
    ) -> Dataset:
        """A data set of arrays x, y, x_test and y_test, of what there is to learn in this form; nothing is held out.
        Raises `CnncError` (E0628 to E0630)."""
        names = ("x_train", "y_train", "x_test", "y_test")
        arrays = {name: as_array(value, name) for name, value in zip(names, given, strict=False) if value is not None}
        return _from_arrays(arrays, "the data", preprocess, shape, None, 0, False, form)

    def check_labels(self, classes: int | None, ignored: int | None = None) -> None:
        """Raises `CnncError` (E0629) where a label is no class of a network with so many, and none that is passed over."""
        if classes is None:
            return
        for split in (self.train, self.test):
            used = split.labels[split.numbers]
            used = used if ignored is None else used[used != ignored]
            if len(used) and not 0 <= used.min() <= used.max() < classes:
                wrong = int(used.max() if used.max() >= classes else used.min())
                help = f"give the model {int(used.max()) + 1} classes" if wrong > 0 else "number the classes from 0"
                if used.min() == 1 and used.max() == classes:
                    help = "do the labels count from 1? then save labels - 1"
                raise error(
                    "E0629",
                    f"the data has the label {wrong}, the network tells {classes} classes apart, 0 to {classes - 1}",
                    exit_code=3,
                    help=help,
                )

    def inputs(self, pixels: NDArray[Any]) -> Floats:
        """Samples as the network takes them: float32, contiguous."""
        if pixels.dtype == np.uint8:
            return normalize(pixels, self.preprocess) if len(self.shape) == 3 else pixels.astype(np.float32)
        return np.ascontiguousarray(pixels, np.float32)

    def batches(
        self, size: int, seed: int, epoch: int, augmentations: Sequence[Augmentation] = (), skip: int = 0
    ) -> Generator[tuple[Floats, Labels]]:
        """The shuffled, augmented batches of an epoch of training: float32 [b, ...] and int64 [b]; the last may be
        smaller.

        They follow from (seed, epoch) alone. The next batch is made while the caller works on one.
        """
        whole("size", size)
        order = self.train.numbers[permutation(seed, SHUFFLE, epoch, len(self.train))]
        hw = (self.shape[1], self.shape[2]) if len(self.shape) == 3 else (0, 0)

        def make(numbers: NDArray[np.int64]) -> tuple[Floats, Labels]:
            pixels = augment(self.train.samples.take(numbers), augmentations, seed, epoch, numbers, hw)
            return self.inputs(pixels), self.train.labels[numbers]

        return _ahead([order[i : i + size] for i in range(skip * size, len(order), size)], make)

    def test_batches(self, size: int) -> Generator[tuple[Floats, Labels]]:
        """The test part in order."""
        whole("size", size)

        def make(numbers: NDArray[np.int64]) -> tuple[Floats, Labels]:
            return self.inputs(self.test.samples.take(numbers)), self.test.labels[numbers]

        return _ahead([self.test.numbers[i : i + size] for i in range(0, len(self.test), size)], make)


def no_data_set(path: Path) -> CnncError:
    """What to do with a file that is none."""
    name = path.name.lower()
    help = "np.savez('data.npz', x_train=..., y_train=..., x_test=..., y_test=...)"
    if name.endswith(("-ubyte", "-ubyte.gz", ".bin")):
        help = "give the folder that it lies in"
    elif name.endswith((".csv", ".tsv")):
        help = "np.savez('data.npz', x=pixels.astype(np.uint8), y=labels), with its columns as arrays"
    return error(
        "E0627",
        f"{escaped(path)} is not a data set",
        "a .npz file or a folder with a folder of images for each class is one",
        exit_code=3,
        help=help if path.exists() else "there is no such file",
    )


def _ahead(parts: list[NDArray[np.int64]], make: Any) -> Generator[tuple[Floats, Labels]]:
    """make(part) for each part, the next one in a thread."""
    with ThreadPoolExecutor(1) as pool:
        coming = None
        for part in parts:
            current, coming = coming, pool.submit(make, part)
            if current is not None:
                yield current.result()
        if coming is not None:
            yield coming.result()


def _from_arrays(
    arrays: Mapping[str, NDArray[Any]],
    name: str,
    preprocess: Preprocess,
    shape: tuple[int, ...],
    canvas: tuple[int, int] | None,
    seed: int,
    hold_out: bool = True,
    form: Form | None = None,
) -> Dataset:
    pair = next((p for p in TRAIN_NAMES if p[0] in arrays and p[1] in arrays), None)
    if pair is None:
        raise error(
            "E0627",
            f"{name} has the arrays {', '.join(sorted(arrays)[:8])}",
            exit_code=3,
            help="call the images x_train and x_test, and their labels y_train and y_test; or x and y",
        )
    for together in TEST_NAMES:
        present = [n for n in together if n in arrays]
        if len(present) == 1:
            missing = next(n for n in together if n not in arrays)
            raise error("E0627", f"{name} has {present[0]}, but no {missing}", exit_code=3)
    form = form or INDICES
    train = _split(arrays, pair, name, *_kept(preprocess, shape, canvas), form)
    test_pair = next((p for p in TEST_NAMES if p[0] in arrays and p[1] in arrays), None)
    if test_pair is not None:
        return Dataset(train, _split(arrays, test_pair, name, preprocess, shape, form), shape, preprocess)
    if not hold_out:
        return Dataset(train, train.part(train.numbers[:0]), shape, preprocess)
    held = train if canvas is None else _split(arrays, pair, name, preprocess, shape, form)
    first, second, warnings = _parts(train, held, None, seed)
    return Dataset(first, second, shape, preprocess, None, warnings)


def _kept(
    preprocess: Preprocess, shape: tuple[int, ...], canvas: tuple[int, int] | None
) -> tuple[Preprocess, tuple[int, ...]]:
    """How training images are kept: as the network takes them, or not cropped yet."""
    return (preprocess, shape) if canvas is None else (replace(preprocess, crop=None), (shape[0], *canvas))


def _split(
    arrays: Mapping[str, NDArray[Any]],
    pair: tuple[str, str],
    name: str,
    preprocess: Preprocess,
    shape: tuple[int, ...],
    form: Form,
) -> Split:
    x, y = arrays[pair[0]], arrays[pair[1]]
    if not x.ndim or not len(x):
        raise error("E0630", f"{name}: {pair[0]} is empty", exit_code=3)
    if x.dtype.kind not in "biuf":
        raise error("E0628", f"{name}: {pair[0]} is {x.dtype}; samples are numbers", exit_code=3)
    if y.dtype.kind not in "biuf":
        raise error(
            "E0629",
            f"{name}: {pair[1]} is {y.dtype}; labels are whole numbers",
            exit_code=3,
            help="number the classes: names, labels = np.unique(labels, return_inverse=True)",
        )
    samples = as_pixels(x, preprocess, shape, f"{name}: {pair[0]}")
    labels = labels_of(y, len(samples), f"{name}: {pair[1]}", form)
    return Split(ArraySamples(samples), labels, np.arange(len(samples)))


def _parts(
    train: Split, held: Split, classes: tuple[str, ...] | None, seed: int
) -> tuple[Split, Split, tuple[Diagnostic, ...]]:
    """Samples and the same samples as they are tested: a part of each, and what is to be said of it."""
    of_one = train.labels.ndim == 1 and train.labels.dtype.kind == "i"
    labels = train.labels if of_one else np.zeros(len(train), np.int64)
    numbers, tested = tenth(labels, seed)
    warning = untested(labels, tested, classes)
    return train.part(numbers), held.part(tested), () if warning is None else (warning,)


def _from_folder(
    path: Path, preprocess: Preprocess, shape: tuple[int, ...], canvas: tuple[int, int] | None, seed: int
) -> Dataset:
    full = image_shape(shape, path)
    settings, kept = _kept(preprocess, full, canvas)
    skipped = Skipped(path)
    first, second = parts(path, skipped)
    classes, files, labels = class_folders(first, skipped)
    names = tuple(escaped(c) for c in classes)
    train = Split(FileSamples(files, settings, kept), labels, np.arange(len(files)))
    if second is not None:
        _, others, other_labels = class_folders(second, skipped, classes)
        test = Split(FileSamples(others, preprocess, full), other_labels, np.arange(len(others)))
        source = Source(path, (*files, *others))
        return Dataset(train, test, full, preprocess, names, skipped.warnings(), source)
    held = train if canvas is None else replace(train, samples=FileSamples(files, preprocess, full))
    train, test, warnings = _parts(train, held, names, seed)
    return Dataset(train, test, full, preprocess, names, (*skipped.warnings(), *warnings), Source(path, tuple(files)))
