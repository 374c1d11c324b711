"""`.npy` and `.npz` files, read without trust: no pickles, and no allocation that the file's own size does not bear
out.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnncError, error

INPUT_NAMES = ("x", "images", "x_test", "input", "data", "arr_0")  # in a .npz, what to run
MEMBER_LIMIT = 10_000  # arrays in one file
_HEADER = 1 << 14  # bytes of an array's header
_PIECE = 1 << 24


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
    size = regular_file(path)
    try:
        if path.suffix.lower() == ".npy":
            with path.open("rb") as stream:
                return {"x": _read(stream, size, str(path), memory_limit())}
        with zipfile.ZipFile(path) as archive:
            return _members(archive, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError) as e:
        raise error("E0625", f"{path} is damaged, or no .npz file ({e})", exit_code=3) from e
    except OSError as e:
        raise unreadable(path, e) from e
    except MemoryError as e:
        raise error("E0626", f"{path} does not fit in memory", exit_code=5) from e


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, NDArray[Any]]:
    members = [m for m in archive.infolist() if m.filename.endswith(".npy")]
    if len(members) > MEMBER_LIMIT:
        raise error("E0626", f"{path} holds {len(members)} arrays, {MEMBER_LIMIT} are the limit", exit_code=3)
    left, arrays = memory_limit(), {}
    for member in members:
        name = member.filename.removesuffix(".npy")
        with archive.open(member) as stream:
            arrays[name] = _read(stream, member.file_size, f"{path}: {name}", left)
        left -= arrays[name].nbytes
    if not arrays:
        raise error("E0625", f"{path} holds no arrays", exit_code=3)
    return arrays


def _read(stream: IO[bytes], size: int, name: str, limit: int) -> NDArray[Any]:
    """One array of a stream that is said to hold `size` bytes."""
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[
            version
        ]
        shape, fortran, dtype = read_header(stream, max_header_size=_HEADER)
    except Exception as e:  # a header is a Python literal, and its parser may raise anything
        raise error("E0625", f"{name} is not an array that can be read ({str(e)[:200]})", exit_code=3) from e
    if dtype.hasobject:
        raise error(
            "E0625",
            f"{name} holds Python objects (a pickle), which can run code when they are read",
            exit_code=3,
            help="save plain numbers: np.savez(path, x=np.asarray(x, np.float32), y=np.asarray(y, np.int64))",
        )
    if dtype.kind not in "biuf":
        raise error("E0625", f"{name} holds {dtype}, not numbers", exit_code=3)
    count = 1
    for d in shape:
        count *= d
    needed = count * dtype.itemsize
    if any(d < 0 for d in shape) or needed > size:
        raise error(
            "E0626", f"{name} says that it is {dtype}{list(shape)}, {needed} bytes; the file has {size}", exit_code=3
        )
    if needed > limit:
        raise error("E0626", f"{name} takes {needed} bytes, {limit} are the limit on this machine", exit_code=5)
    data = bytearray()
    while len(data) < needed:
        piece = stream.read(min(_PIECE, needed - len(data)))
        if not piece:
            raise error("E0625", f"{name} ends early, after {len(data)} of {needed} bytes", exit_code=3)
        data += piece
    flat = np.frombuffer(data, dtype)
    array = flat.reshape(shape[::-1]).T if fortran else flat.reshape(shape)
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))
