"""`.npy` and `.npz` files, read without trust: no pickles, and no allocation that the file's own size does not bear
out.
"""

from __future__ import annotations

import ast
import math
import os
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnncError, error
from cnnc.untrusted import DEFLATE, Field, Malformed, archive_of, read_exactly, shown

INPUT_NAMES = ("x", "images", "x_test", "input", "data", "arr_0")  # in a .npz, what to run
# images and labels in a .npz, in the order they are looked for
TRAIN_NAMES = (
    ("x_train", "y_train"),
    ("train_images", "train_labels"),
    ("images", "labels"),
    ("x", "y"),
    ("data", "target"),
    ("images", "y"),
    ("x", "labels"),
)
TEST_NAMES = (("x_test", "y_test"), ("test_images", "test_labels"), ("x_val", "y_val"), ("val_images", "val_labels"))
MEMBER_LIMIT = 10_000  # arrays in one file
NAME_LIMIT = 1000  # characters of an array's name
_HEADER = 1 << 14  # bytes of an array's header
_LONG = re.compile(r"(?<=\d)L\b")  # how Python 2 wrote a size
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error)
_NUMBERS = re.compile(r"[<>|=]?(\?|b1|[iu][1248]|f(2|4|8|12|16))")


def unreadable(path: Path, cause: OSError) -> CnncError:
    return error("E0620", f"cannot read {path}: {cause.strerror or cause}", exit_code=3)


def regular_file(path: Path) -> int:
    """The size of a file in bytes. Raises `CnncError` (E0620) where there is none, or where it is a folder, a pipe or a
    device.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise error("E0620", f"cannot read {path}: {reason}", exit_code=3) from e
    if not stat.S_ISREG(status.st_mode):
        raise error("E0620", f"cannot read {path}: it is not a file", exit_code=3)
    return status.st_size


def memory_limit() -> int:
    """Bytes that the arrays of one file may take: half of the machine's memory."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):
        return 4 << 30


def read_arrays(path: str | Path) -> dict[str, NDArray[Any]]:
    """The arrays of a `.npz` by name, or that of a `.npy` as `x`. Raises `CnncError` (E0620, E0625, E0626)."""
    path = Path(path)
    if path.suffix.lower() != ".npy":
        return dict(each_array(path))
    size = regular_file(path)
    with _reading(path), path.open("rb") as stream:
        return {"x": _read(stream, size, str(path), memory_limit())}


def each_array(path: Path, wanted: Collection[str] | None = None) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of a `.npz` one after the other, all or those of some names. Raises `CnncError` as `read_arrays` does."""
    size, left = regular_file(path), memory_limit()
    with _reading(path), archive_of(path) as archive:
        for name, member in _checked(archive, path, size).items():
            if wanted is None or name in wanted:
                with archive.open(member) as stream:
                    array = _read(stream, member.file_size, f"{path}: {name}", left)
                left -= array.nbytes
                yield name, array


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays of a `.npz` by name; nothing else is unpacked. Raises `CnncError` (E0620, E0625, E0626)."""
    size = regular_file(path)
    shapes = {}
    with _reading(path), archive_of(path) as archive:
        for name, member in _checked(archive, path, size).items():
            with archive.open(member) as stream:
                shapes[name] = _described(stream, member.file_size, f"{path}: {name}")[1]
    return shapes


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What goes wrong in a block as `CnncError`."""
    try:
        yield
    except (*_DAMAGED, EOFError, RuntimeError, ValueError, OverflowError) as e:
        raise error("E0625", f"{path} is damaged, or no {path.suffix} file ({str(e)[:200]})", exit_code=3) from e
    except OSError as e:
        raise unreadable(path, e) from e
    except MemoryError as e:
        raise error("E0626", f"{path} does not fit in memory", exit_code=5) from e


def map_array(path: Path) -> NDArray[Any] | None:
    """The array of a `.npy` without reading it; None where it has to be read: values of another byte order, truth
    values, nothing, or a file that `read_arrays` refuses.
    """
    size = regular_file(path)
    try:
        with path.open("rb") as stream:
            header = _header(stream)
            dtype = _dtype(header["descr"].value, str(path))
            fortran, shape = header["fortran_order"].boolean(), header["shape"].shape(dtype.itemsize)
            begin = stream.tell()
    except (OSError, Malformed, EOFError, ValueError):
        return None
    needed = dtype.itemsize * math.prod(shape)
    if dtype.kind == "b" or not dtype.isnative or not 0 < needed <= size - begin:
        return None
    return np.memmap(path, dtype, "r", begin, shape, "F" if fortran else "C")


def _checked(archive: zipfile.ZipFile, path: Path, size: int) -> dict[str, zipfile.ZipInfo]:
    """The arrays of a file of `size` bytes, which may hold what they say. Raises `CnncError`, `Malformed`."""
    members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
    if len(members) > MEMBER_LIMIT:
        raise error("E0626", f"{path} holds {len(members)} arrays, {MEMBER_LIMIT} are the limit", exit_code=3)
    if not members:
        raise error("E0625", f"{path} holds no arrays", exit_code=3)
    found: dict[str, zipfile.ZipInfo] = {}
    for member in members:
        name = Field(member.filename.removesuffix(".npy"), "the name of an array").text(NAME_LIMIT)
        if name in found:
            raise Malformed(f"'{name}' is in it twice")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Malformed(f"'{name}' is packed in a way that NumPy does not use ({member.compress_type})")
        size -= member.compress_size
        if size < 0 or member.file_size > DEFLATE * (member.compress_size + 1):
            raise Malformed(f"'{name}' says that {member.compress_size} bytes hold {member.file_size}")
        found[name] = member
    return found


def _header(stream: IO[bytes]) -> dict[str, Field]:
    """descr, fortran_order and shape: a Python literal behind the magic bytes, the version and its own length."""
    begin = bytes(read_exactly(stream, 8))
    if begin[:6] != b"\x93NUMPY" or begin[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise Malformed("it does not begin as one")
    length = int.from_bytes(read_exactly(stream, 2 if begin[6] == 1 else 4), "little")
    if length > _HEADER:
        raise Malformed(f"its header would have {length} bytes, {_HEADER} are the limit")
    text = read_exactly(stream, length).decode("utf-8" if begin[6] == 3 else "latin-1", "strict")
    try:
        header = ast.literal_eval(_LONG.sub("", text.strip(" \t\r\n")))
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as e:
        raise Malformed(f"its header is no literal ({str(e)[:100]})") from None
    fields = Field(header, "its header").record(("descr", "fortran_order", "shape"))
    if not isinstance(fields["shape"].value, tuple):
        raise fields["shape"].wrong("a tuple")
    return fields


def _described(stream: IO[bytes], size: int, name: str) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    """Element type, shape and whether it is in Fortran's order, of an array in a stream that is said to hold `size` bytes.
    Raises `CnncError`.
    """
    try:
        header = _header(stream)
        dtype = _dtype(header["descr"].value, name)
        fortran, shape = header["fortran_order"].boolean(), header["shape"].shape(dtype.itemsize)
    except Malformed as e:
        raise _no_array(name, e) from e
    needed = dtype.itemsize * math.prod(shape)
    if needed > size:
        what = f"{name} says that it is {dtype}{list(shape)}, {needed} bytes; the file has {size}"
        raise error("E0626", what, exit_code=3)
    return dtype, shape, fortran


def _no_array(name: str, why: Malformed) -> CnncError:
    return error("E0625", f"{name} is not an array that can be read ({why})", exit_code=3)


def _read(stream: IO[bytes], size: int, name: str, limit: int) -> NDArray[Any]:
    """One array of a stream that is said to hold `size` bytes."""
    dtype, shape, fortran = _described(stream, size, name)
    needed = dtype.itemsize * math.prod(shape)
    if needed > limit:
        raise error("E0626", f"{name} takes {needed} bytes, {limit} are the limit on this machine", exit_code=5)
    try:
        data = read_exactly(stream, needed)
    except Malformed as e:
        raise _no_array(name, e) from e
    flat = (
        np.frombuffer(data, np.uint8) != 0 if dtype.kind == "b" else np.frombuffer(data, dtype)
    )  # a truth value of 7 is 1
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _dtype(given: Any, name: str) -> np.dtype[Any]:
    """The element type that a header names: whole numbers, floats or truth values."""
    if isinstance(given, str) and "O" in given:
        raise error(
            "E0625",
            f"{name} holds Python objects (a pickle), which can run code when they are read",
            exit_code=3,
            help="save plain numbers, each as np.asarray(value, np.float32) or, for labels, np.int64",
        )
    try:
        if isinstance(given, str) and _NUMBERS.fullmatch(given):
            return np.dtype(given)
    except TypeError:  # a long double of another machine
        pass
    raise error("E0625", f"{name} holds {shown(given)}, not numbers", exit_code=3)
