"""What `cnnc run` takes, a batch at a time: an image, a folder of them, class folders, arrays, data sets in files."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.arrays import INPUT_NAMES, TEST_NAMES, TRAIN_NAMES, map_array, read_arrays
from cnnc.data.binary import read_folder
from cnnc.data.folders import Skipped, class_folders, has_images, parts, walk
from cnnc.data.images import Floats, image_shape, load_image, normalize
from cnnc.data.pixels import as_floats, fit_all, is_pixels, rows
from cnnc.data.unlikely import unlikely
from cnnc.diagnostics import Diagnostic, error
from cnnc.files import escaped

if TYPE_CHECKING:
    from cnnc.frontend.inputs import Preprocess

Shape = tuple[int | str, ...]  # without the batch; names for sizes that are open


@dataclass(frozen=True)
class Inputs:
    """`count` samples; `take(begin, end)` gives some of them as the network takes them, float32 [n, ...], and holds
    none of the others. labels: int64 [count] where they are known, indices into `classes` where the data names them.
    """

    count: int
    name: Callable[[int], str]
    take: Callable[[int, int], Floats]
    labels: NDArray[np.int64] | None = None
    classes: tuple[str, ...] | None = None
    warnings: tuple[Diagnostic, ...] = ()


def open_input(path: str | Path, preprocess: Preprocess, shape: Sequence[int | str]) -> Inputs:
    """An image; a folder of images, or what `cnnc train` takes, of which it is the part to test on; a .npy, or a .npz of
    one array or of one named x, images or x_test.

    Bytes in an array file are pixels, and are preprocessed as images are; floats are taken as they are. Where `shape`
    leaves sizes open, each picture keeps its own, and one is taken at a time. Raises `CnncError` (E0620 to E0630), also
    while samples are taken.
    """
    path, shape = Path(path), tuple(shape)
    if path.is_dir():
        return _folder(path, preprocess, shape)
    if path.suffix.lower() == ".npy":
        mapped = map_array(path)
        array = read_arrays(path)["x"] if mapped is None else mapped
        return _array(array, preprocess, shape, f"{escaped(path)}: x", path.name)
    if path.suffix.lower() == ".npz":
        return _pick(read_arrays(path), preprocess, shape, path)
    return _files([path], path.parent, preprocess, shape)


def _files(files: Sequence[Path], root: Path, preprocess: Preprocess, shape: Shape) -> Inputs:
    image_shape([1 if isinstance(d, str) else d for d in shape], files[0])

    def take(begin: int, end: int) -> Floats:
        images = [load_image(f, preprocess, shape) for f in files[begin:end]]
        return np.stack(images) if images else np.zeros((0, *_closed(shape, ())), np.float32)

    return Inputs(len(files), lambda i: escaped(files[i].relative_to(root)), take)


def _folder(path: Path, preprocess: Preprocess, shape: Shape) -> Inputs:
    found = read_folder(path)
    if found is not None:
        return replace(_pick(found.arrays, preprocess, shape, path), classes=found.classes)
    image_shape([1 if isinstance(d, str) else d for d in shape], path)
    skipped = Skipped(path)
    if has_images(path):
        return replace(_files(walk(path, skipped), path, preprocess, shape), warnings=skipped.warnings())
    train, test = parts(path, skipped)
    classes, files, labels = class_folders(train, skipped)
    if test is not None:
        _, files, labels = class_folders(test, skipped, classes)
    names = tuple(escaped(c) for c in classes)
    return replace(_files(files, path, preprocess, shape), labels=labels, classes=names, warnings=skipped.warnings())


def _pick(arrays: Mapping[str, NDArray[Any]], preprocess: Preprocess, shape: Shape, path: Path) -> Inputs:
    """The array to run, and the labels beside it where there are some."""
    known = (*INPUT_NAMES, *(x for x, _ in (*TEST_NAMES, *TRAIN_NAMES)))
    name = next((n for n in known if n in arrays), None) or (next(iter(arrays)) if len(arrays) == 1 else None)
    if name is None:
        raise error(
            "E0627",
            f"{escaped(path)} holds the arrays {', '.join(sorted(arrays)[:8])}",
            exit_code=3,
            help=f"name the one to run {INPUT_NAMES[0]}",
        )
    inputs = _array(arrays[name], preprocess, shape, f"{escaped(path)}: {name}", path.name)
    beside = next((arrays[y] for x, y in (*TEST_NAMES, *TRAIN_NAMES) if x == name and y in arrays), None)
    if beside is None or beside.size != inputs.count or beside.dtype.kind not in "iu":
        return inputs
    return replace(inputs, labels=beside.reshape(-1).astype(np.int64))


def _array(array: NDArray[Any], preprocess: Preprocess, shape: Shape, name: str, short: str) -> Inputs:
    shape = _closed(shape, array.shape)
    view = rows(array, shape, name)

    def take(begin: int, end: int) -> Floats:
        part = view[begin:end]
        if is_pixels(array, shape):
            x = normalize(fit_all(part, preprocess, shape, name), preprocess)
        else:
            x = as_floats(part)
        _let_go(array)
        return x

    doubt = unlikely(np.asarray(view[:1])) if len(shape) == 3 else None
    _let_go(array)
    return Inputs(len(view), lambda i: f"{escaped(short)}[{i}]", take, warnings=() if doubt is None else (doubt,))


def _closed(shape: Shape, own: Sequence[int]) -> tuple[int, ...]:
    """A shape whose open sizes are an array's own."""
    behind = own[len(own) - len(shape) :] if len(own) >= len(shape) else (1,) * len(shape)
    return tuple(o if isinstance(d, str) else d for d, o in zip(shape, behind, strict=True))


def _let_go(array: NDArray[Any]) -> None:
    """Pages of a mapped file that have been read are the system's to keep, not ours."""
    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap.mmap):
        with suppress(AttributeError, OSError, ValueError):
            mapped.madvise(mmap.MADV_DONTNEED)
