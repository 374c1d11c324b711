"""The binary files of MNIST (IDX, plain or gzipped) and of CIFAR-10, as their authors hand them out."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from cnnc.data.arrays import regular_file, unreadable
from cnnc.diagnostics import error
from cnnc.untrusted import AXES, DEFLATE, Field, Malformed, read_exactly

_IDX = {"x_train": "train-images", "y_train": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}
_IDX_DTYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_CIFAR_ROW = 1 + 3 * 32 * 32
_LIMIT = 1 << 31  # bytes of one file, unpacked


def read_folder(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a folder with MNIST's four files or CIFAR-10's six, or None where it has others. Raises `CnncError`
    (E0620, E0625).
    """
    idx = {name: _named(path, stem) for name, stem in _IDX.items()}
    if all(idx.values()):
        return {name: read_idx(file) for name, file in idx.items() if file is not None}
    cifar = sorted(path.glob("data_batch_*.bin"))
    if cifar and (path / "test_batch.bin").is_file():
        x, y = zip(*(read_cifar(f) for f in cifar), strict=True)
        x_test, y_test = read_cifar(path / "test_batch.bin")
        return {"x_train": np.concatenate(x), "y_train": np.concatenate(y), "x_test": x_test, "y_test": y_test}
    return None


def _named(path: Path, stem: str) -> Path | None:
    """`train-images-idx3-ubyte.gz`, or with a dot, or unpacked."""
    return next(
        (
            f
            for f in sorted(path.glob(f"{stem}[-.]idx*-ubyte*"))
            if f.suffix in (".gz", "", ".idx3-ubyte", ".idx1-ubyte")
        ),
        None,
    )


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
        if zero or kind not in _IDX_DTYPES or rank > AXES:
            raise Malformed("it does not begin as an IDX file")
        dtype = np.dtype(_IDX_DTYPES[kind])
        sizes = struct.unpack(f">{rank}I", read_exactly(stream, 4 * rank))
        shape = Field(sizes, "its shape").shape(dtype.itemsize, room)
        data = read_exactly(stream, dtype.itemsize * math.prod(shape))
        if stream.read(1):
            raise Malformed(f"it says that it is {dtype}{list(shape)}, and has more than that")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def read_cifar(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A batch of CIFAR-10 (Krizhevsky, 2009), binary version: uint8 [n, 3, 32, 32] and labels [n]. Raises `CnncError`
    (E0620, E0625, E0626).
    """
    path = Path(path)
    with _opened(path) as (stream, size):
        if not size or size % _CIFAR_ROW:
            raise Malformed(f"{size} bytes are no batch of CIFAR-10, whose images have {_CIFAR_ROW}")
        rows = np.frombuffer(read_exactly(stream, size), np.uint8).reshape(-1, _CIFAR_ROW)
        if rows[:, 0].max() > 9:
            raise Malformed(f"label {rows[:, 0].max()}, where CIFAR-10 has 0 to 9")
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)
