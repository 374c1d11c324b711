"""The binary files of MNIST (IDX, plain or gzipped) and of CIFAR, as their authors hand them out, and as downloads are unpacked."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnc.data.arrays import regular_file, unreadable
from cnnc.diagnostics import error
from cnnc.files import escaped
from cnnc.untrusted import AXES, DEFLATE, Field, Malformed, read_exactly

_IDX = {"x_train": "train-images", "y_train": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}
_IDX_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_PIXELS = 3 * 32 * 32  # of an image of CIFAR
# By the name of a file that shows which: the files to train on, those to test on, labels in front of an image (the last
# one counts), and the names of the classes.
_CIFAR = {
    "test_batch.bin": ("data_batch_*.bin", "test_batch.bin", (10,), "batches.meta.txt"),
    "test.bin": ("train.bin", "test.bin", (20, 100), "fine_label_names.txt"),
}
_PICKLED = {"data_batch_1": "cifar-10-binary.tar.gz", "meta": "cifar-100-binary.tar.gz"}
_LIMIT = 1 << 31  # bytes of one file, unpacked
_NAMES_LIMIT = 1 << 16  # bytes of a file of class names


@dataclass(frozen=True)
class Found:
    """A data set's arrays by name, the names of its classes, and the files that they were read from."""

    arrays: Mapping[str, NDArray[Any]]
    files: tuple[Path, ...]
    classes: tuple[str, ...] | None = None


def read_folder(path: Path) -> Found | None:
    """The arrays of a folder with MNIST's files or CIFAR's, or None where it has others.

    They lie in it, or further in, as downloads are unpacked: MNIST/raw, cifar-10-batches-bin, or each in a folder of
    its own name. Raises `CnncError` (E0612 for the pickles of CIFAR, E0620, E0625 to E0627).
    """
    inner = _inner(path)
    for level in ([path, path / "raw"], inner, [folder / "raw" for folder in inner]):
        sets = [(folder, read) for folder in level if (read := _reader(folder)) is not None]
        if len(sets) > 1:
            raise error(
                "E0627",
                f"{escaped(path)} holds several data sets",
                *(escaped(folder) for folder, _ in sets[:8]),
                help="give one of these folders",
                exit_code=3,
            )
        if sets:
            return sets[0][1]()
    return None


def _inner(path: Path) -> list[Path]:
    try:
        with os.scandir(path) as entries:
            return sorted(Path(e.path) for e in entries if not e.name.startswith((".", "__")) and e.is_dir())
    except OSError:  # said where the folder itself is read
        return []


def _reader(folder: Path) -> Callable[[], Found] | None:
    """How to read the data set that lies in a folder, if one does."""
    idx = {name: file for name, stem in _IDX.items() if (file := _named(folder, stem)) is not None}
    if "x_train" in idx:
        return lambda: _mnist(folder, idx)
    for mark, (train, test, labels, names) in _CIFAR.items():
        if os.path.isfile(folder / mark) and (files := sorted(folder.glob(train))):
            return lambda: _cifar(files, folder / test, labels, folder / names)
    for mark, binary in _PICKLED.items():
        if _pickled(folder / mark):
            return lambda: _refuse(folder, binary)
    return None


def _mnist(folder: Path, idx: Mapping[str, Path]) -> Found:
    missing = [
        _IDX[n] for n in ("y_train", *(("x_test", "y_test") if {"x_test", "y_test"} & set(idx) else ())) if n not in idx
    ]
    if missing:
        raise error("E0627", f"{escaped(folder)} has {_IDX['x_train']}, but no {' and no '.join(missing)}", exit_code=3)
    return Found({name: read_idx(file) for name, file in idx.items()}, tuple(idx.values()))


def _cifar(files: Sequence[Path], test: Path, labels: tuple[int, ...], names: Path) -> Found:
    x, y = zip(*(read_cifar(f, labels) for f in files), strict=True)
    x_test, y_test = read_cifar(test, labels)
    arrays = {"x_train": np.concatenate(x), "y_train": np.concatenate(y), "x_test": x_test, "y_test": y_test}
    return Found(arrays, (*files, test), _class_names(names, labels[-1]))


def _class_names(path: Path, count: int) -> tuple[str, ...] | None:
    try:
        with path.open("rb") as stream:
            found = stream.read(_NAMES_LIMIT).decode("utf-8", "backslashreplace").split()
    except OSError:
        return None
    return tuple(found) if len(found) == count else None


def _pickled(path: Path) -> bool:
    """Whether a file begins as a pickle does."""
    try:
        if not os.path.isfile(path):
            return False
        with path.open("rb") as stream:
            return stream.read(2) in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    except OSError:
        return False


def _refuse(folder: Path, binary: str) -> Found:
    hundred = "100" in binary
    train = "['train']" if hundred else "[f'data_batch_{i}' for i in range(1, 6)]"
    test, labels = ("test", "fine_labels") if hundred else ("test_batch", "labels")
    line = (
        "python -c \"import pickle, numpy as np; L = lambda f: pickle.load(open(f, 'rb'), encoding='bytes'); "
        f"t, e = [L(f) for f in {train}], L('{test}'); X = lambda d: d[b'data'].reshape(-1, 3, 32, 32); "
        f"np.savez('cifar.npz', x_train=np.concatenate([X(d) for d in t]), x_test=X(e), y_test=e[b'{labels}'], "
        f"y_train=np.concatenate([d[b'{labels}'] for d in t]))\""
    )
    raise error(
        "E0612",
        f"{escaped(folder)} holds CIFAR as Python pickles, which can run code when they are read",
        f"the binary version, {binary}, lies beside it at https://www.cs.toronto.edu/~kriz/cifar.html",
        help=f"take the binary version; or convert these once, in their folder, where you trust them: {line}",
        exit_code=3,
    )


def _named(folder: Path, stem: str) -> Path | None:
    """`train-images-idx3-ubyte`, or with a dot, or gzipped; or in a folder that is called like that."""
    ranks = (3, 4) if "images" in stem else (1, 2)
    names = [f"{stem}{dot}idx{rank}-ubyte" for rank in ranks for dot in "-."]
    every = [name + packed for packed in ("", ".gz") for name in names]
    places = [folder, *(folder / name for name in every if (folder / name).is_dir())]
    return next((place / name for place in places for name in every if os.path.isfile(place / name)), None)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """A file, unpacked where it is gzipped, and how many bytes it can hold at most. What is wrong with it becomes a
    `CnncError` (E0620, E0625, E0626).
    """
    size = regular_file(path)
    if size > _LIMIT:
        raise error("E0626", f"{path} has {size} bytes, {_LIMIT} are the limit", exit_code=3)
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as stream:
                yield cast(IO[bytes], stream), min(_LIMIT, DEFLATE * (size + 1))
        else:
            with path.open("rb") as plain:
                yield plain, size
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error, Malformed) as e:
        raise error("E0625", f"{path} is damaged, or of another kind ({e})", exit_code=3) from e
    except OSError as e:
        raise unreadable(path, e) from e
    except MemoryError as e:
        raise error("E0626", f"{path} does not fit in memory", exit_code=5) from e


def read_idx(path: str | Path) -> NDArray[Any]:
    """An IDX file (LeCun): two zero bytes, a type, a rank, big-endian sizes, and the values. Raises `CnncError` (E0620,
    E0625, E0626).
    """
    path = Path(path)
    with _opened(path) as (stream, room):
        zero, kind, rank = struct.unpack(">HBB", read_exactly(stream, 4))
        if zero or kind not in _IDX_DTYPES:
            raise Malformed("it does not begin as an IDX file")
        if rank > AXES:
            raise Malformed(f"it says that it has {rank} axes, {AXES} are the limit")
        dtype = np.dtype(_IDX_DTYPES[kind])
        sizes = struct.unpack(f">{rank}I", read_exactly(stream, 4 * rank))
        shape = Field(sizes, "its shape").shape(dtype.itemsize, room)
        data = read_exactly(stream, dtype.itemsize * math.prod(shape))
        if stream.read(1):
            raise Malformed(f"it says that it is {dtype}{list(shape)}, and has more than that")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def read_cifar(path: str | Path, labels: tuple[int, ...] = (10,)) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A batch of CIFAR (Krizhevsky, 2009), binary version: uint8 [n, 3, 32, 32] and labels [n].

    labels: the classes of each label in front of an image, (10,) in CIFAR-10 and (20, 100) in CIFAR-100; the last one
    is taken. Raises `CnncError` (E0620, E0625, E0626).
    """
    path, front = Path(path), len(labels)
    with _opened(path) as (stream, size):
        if not size or size % (front + _PIXELS):
            raise Malformed(f"{size} bytes are no batch of CIFAR-{labels[-1]}, whose images have {front + _PIXELS}")
        rows = np.frombuffer(read_exactly(stream, size), np.uint8).reshape(-1, front + _PIXELS)
        for i, count in enumerate(labels):
            if rows[:, i].max() >= count:
                raise Malformed(f"label {rows[:, i].max()}, where CIFAR-{labels[-1]} has 0 to {count - 1}")
    return rows[:, front:].reshape(-1, 3, 32, 32), rows[:, front - 1].astype(np.int64)
