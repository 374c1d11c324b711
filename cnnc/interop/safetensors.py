"""Weights in safetensors files (https://github.com/huggingface/safetensors): eight bytes of header length, a JSON
header, data.

Nothing in a file is believed: the header is bounded and checked in full against the file's size before anything is
allocated, and tensors are read one at a time, through a memory map. The package of the format's authors does not serve
here: with NumPy it reads no bfloat16, copies what it reads, and stores Fortran-ordered arrays as other numbers than they
hold. The tests have its word on what is written and read.
"""

from __future__ import annotations

import json
import math
import os
import stat
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnncError, error
from cnnc.files import replacing
from cnnc.foreign import refuse
from cnnc.untrusted import Field, Malformed, read_json

HEADER_LIMIT = 64 << 20  # bytes
TENSORS = 1 << 20  # in one file
DIGEST = "cnnc.crc32"  # the name of the digest in the metadata: of the whole file, with zeros in its own place
_UNKNOWN = "0" * 8
_PIECE = 1 << 22
DATA = 3  # the exit code of unreadable or wrong data

# name in a file: NumPy's, little-endian. BF16 has none: its 16 bits are the upper half of a float32.
DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U64": "<u8",
    "U32": "<u4",
    "U16": "<u2",
    "U8": "u1",
    "BOOL": "?",
}
_SIZES = {**{name: np.dtype(d).itemsize for name, d in DTYPES.items()}, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8}
_NAMES = {np.dtype(d): name for name, d in DTYPES.items() if name != "BF16"}


@dataclass(frozen=True)
class Entry:
    """A tensor of a file: its element type, shape, and bytes [begin, end) of the data."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class File:
    """A file whose header has been read and checked."""

    path: Path
    entries: Mapping[str, Entry]
    metadata: Mapping[str, str]
    start: int = field(repr=False)  # of the data, in bytes
    digest: str | None = None  # what the writer calculated; files of other programs have none

    def verify(self) -> None:
        """Compare the digest with what is there, where the file has one. Raises `CnncError` (E0601, E0610)."""
        if self.digest is None:
            return
        try:
            with self.path.open("rb") as f:
                head = f.read(self.start).replace(_marked(self.digest), _marked(_UNKNOWN), 1)
                found = zlib.crc32(head)
                while piece := f.read(_PIECE):
                    found = zlib.crc32(piece, found)
        except OSError as e:
            raise error("E0601", f"cannot read {self.path}: {(e.strerror or str(e)).lower()}", exit_code=DATA) from None
        if f"{found:08x}" != self.digest:
            raise error(
                "E0610",
                f"{self.path} is damaged: its content is not what was written",
                f"its digest is {found:08x}, {self.digest} was written",
                help=f"take a copy, or write it again; who changed it on purpose leaves {DIGEST} out of its metadata",
                exit_code=DATA,
            )

    def read(self, name: str, stream: IO[bytes] | None = None) -> NDArray[Any]:
        """A tensor as it is stored (BF16 widened to float32), mapped and not copied. Raises `CnncError` (E0610,
        E0613).

        stream: the file as it was opened, where its path may have become another's.
        """
        entry = self.entries[name]
        if entry.dtype not in DTYPES:
            raise error("E0613", f"{self.path}: '{name}' is {entry.dtype}, which cannot be read", exit_code=DATA)
        if entry.begin == entry.end:
            empty: NDArray[Any] = np.zeros(entry.shape, DTYPES[entry.dtype])
            return empty.astype(np.float32) if entry.dtype == "BF16" else empty
        try:
            array = np.memmap(stream or self.path, DTYPES[entry.dtype], "r", self.start + entry.begin, entry.shape)
        except (OSError, ValueError) as e:
            raise _damaged(self.path, f"'{name}' cannot be read ({e})") from None
        if entry.dtype == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        if entry.dtype == "BOOL":
            truth: NDArray[Any] = array.view(np.uint8) != 0  # a byte of 7 is true as well
            return truth
        return np.asarray(array)


def _marked(digest: str) -> bytes:
    """A digest as it stands in a header, which has it first of all."""
    return f'"{DIGEST}":"{digest}"'.encode()


def _damaged(path: Path, why: str) -> CnncError:
    return error("E0610", f"{path} is not a valid safetensors file: {why}", exit_code=DATA)


def _entry(name: str, record: Field, size: int) -> Entry:
    fields = record.record(("dtype", "shape", "data_offsets"))
    dtype = fields["dtype"].one_of(_SIZES)
    shape = fields["shape"].shape(_SIZES[dtype])
    begin, end = (o.whole(0, size + 1) for o in fields["data_offsets"].items(2, 2))
    if math.prod(shape) * _SIZES[dtype] != end - begin:
        raise Malformed(f"{record.name} is {dtype}{list(shape)} but lies at bytes {begin} to {end}")
    return Entry(dtype, shape, begin, end)


def _header(text: bytes, size: int) -> tuple[dict[str, Entry], dict[str, str]]:
    """The tensors and the metadata that a header tells of; size: bytes of the data behind it."""
    fields = read_json(text, "its header", HEADER_LIMIT).entries(TENSORS)
    metadata = fields.pop("__metadata__", Field({}, "__metadata__")).entries(TENSORS)
    entries = {name: _entry(name, record, size) for name, record in fields.items()}
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)):
        if entry.begin != at:
            raise Malformed(f"'{name[:80]}' begins at byte {entry.begin} of the data, where {at} was due")
        at = entry.end
    if at != size:
        raise Malformed(f"{size - at} bytes at its end belong to no tensor")
    return entries, {key: value.text(HEADER_LIMIT) for key, value in metadata.items()}


def open_file(path: str | Path, wanted: str = "tensors") -> File:
    """Read and check a header. wanted: what the file is to be, a key of `foreign.WANTED`. Raises `CnncError` (E0601
    unreadable, E0604 of another kind, E0610 damaged, E0612 a pickle)."""
    path = Path(path)
    refuse(path, wanted)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise error("E0601", f"{path} is not a file", exit_code=DATA)
        with path.open("rb") as f:
            head = f.read(8)
            if len(head) < 8:
                raise _damaged(path, f"it has {len(head)} bytes")
            length = int.from_bytes(head, "little")
            size = status.st_size - 8 - length
            if length > HEADER_LIMIT or size < 0:
                raise _damaged(path, f"its header would have {length} bytes, the file has {status.st_size}")
            text = f.read(length)
    except (OSError, ValueError) as e:
        why = (e.strerror if isinstance(e, OSError) else None) or str(e)
        raise error("E0601", f"cannot read {path}: {why.lower()}", exit_code=DATA) from None
    try:
        entries, metadata = _header(text, size)
    except Malformed as e:
        raise _damaged(path, str(e)) from None
    return File(path, entries, metadata, 8 + length, metadata.pop(DIGEST, None))


def write_file(
    path: str | Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors whole or not at all: to a temporary name, flushed, read back and compared, renamed. A digest of all
    of it goes along.

    Strided, Fortran-ordered and big-endian arrays are stored as what they hold. Raises `CnncError` (E0601, E0613).
    """
    path = Path(path)
    header: dict[str, Any] = {"__metadata__": {DIGEST: _UNKNOWN, **(metadata or {})}}
    arrays: dict[str, NDArray[Any]] = {}
    at = 0
    for name, given in tensors.items():
        little = given.dtype.newbyteorder("<")
        if little not in _NAMES:
            raise error("E0613", f"'{name}' is {given.dtype}, which a safetensors file cannot hold", exit_code=DATA)
        arrays[name] = np.ascontiguousarray(given, little).reshape(given.shape)
        header[name] = {"dtype": _NAMES[little], "shape": list(given.shape), "data_offsets": [at, at + given.nbytes]}
        at += given.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the data are aligned
    digest = zlib.crc32(len(text).to_bytes(8, "little") + text)
    for array in arrays.values():
        digest = zlib.crc32(array.reshape(-1).view(np.uint8).data, digest)
    text = text.replace(_marked(_UNKNOWN), _marked(f"{digest:08x}"), 1)
    try:
        with replacing(path) as temporary:
            with temporary.open("wb") as f:
                f.write(len(text).to_bytes(8, "little") + text)
                for array in arrays.values():
                    f.write(array.reshape(-1).view(np.uint8).data)
            written = open_file(temporary)
            for name, array in arrays.items():
                if written.read(name).tobytes() != array.tobytes():
                    raise error(
                        "E0601", f"{path}: '{name}' was not written as it is; is the disk sound?", exit_code=DATA
                    )
    except (OSError, ValueError) as e:
        why = (e.strerror if isinstance(e, OSError) else None) or str(e)
        hint = None if os.path.isdir(path.parent) else f"the folder {path.parent} does not exist"
        raise error("E0601", f"cannot write {path}: {why.lower()}", help=hint, exit_code=DATA) from None
