"""The binary files of MNIST (IDX, plain or gzipped) and of CIFAR-10, as their authors hand them out."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.arrays import regular_file, unreadable
from cnnc.diagnostics import error

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


def _bytes(path: Path) -> bytes:
    size = regular_file(path)
    if size > _LIMIT:
        raise error("E0626", f"{path} has {size} bytes, {_LIMIT} are the limit", exit_code=3)
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as stream:
            data = stream.read(_LIMIT + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as e:
        raise error("E0625", f"{path} is damaged ({e})", exit_code=3) from e
    except OSError as e:
        raise unreadable(path, e) from e
    if len(data) > _LIMIT:
        raise error("E0626", f"{path} unpacks to more than {_LIMIT} bytes", exit_code=3)
    return data


def read_idx(path: str | Path) -> NDArray[Any]:
    """An IDX file (LeCun): two zero bytes, a type, a rank, big-endian sizes, and the values. Raises `CnncError` (E0620,
    E0625).
    """
    path = Path(path)
    data = _bytes(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_DTYPES or len(data) < 4 + 4 * data[3]:
        raise error("E0625", f"{path} is no IDX file", exit_code=3)
    dtype, rank = np.dtype(_IDX_DTYPES[data[2]]), data[3]
    shape = [int(d) for d in np.frombuffer(data, ">u4", rank, 4)]
    count = 1
    for d in shape:
        count *= d
    if count * dtype.itemsize != len(data) - 4 - 4 * rank:
        raise error("E0625", f"{path} says that it is {dtype}{shape}, its size says otherwise", exit_code=3)
    array = np.frombuffer(data, dtype, count, 4 + 4 * rank).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def read_cifar(path: str | Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """A batch of CIFAR-10 (Krizhevsky, 2009), binary version: uint8 [n, 3, 32, 32] and labels [n]. Raises `CnncError`
    (E0620, E0625).
    """
    data = _bytes(Path(path))
    if not data or len(data) % _CIFAR_ROW:
        raise error(
            "E0625", f"{path} is no batch of CIFAR-10: {len(data)} bytes are no multiple of {_CIFAR_ROW}", exit_code=3
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, _CIFAR_ROW)
    return rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0].astype(np.int64)
