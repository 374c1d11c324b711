"""The one reader of untrusted data: what a file says is checked for its value before it is used or allocated.

A `Field` is a value out of a file and the place where it stood, such as `inputs.image.scale`. Its methods give the value as the
type that was asked for, within the bounds that were asked for, or raise `Malformed`; each format says in its own error
code what was wrong.
"""

from __future__ import annotations

import json
import math
import re
import sys
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from os import fstat
from pathlib import Path
from typing import IO, Any

AXES = 32  # of an array
DEEPEST = 32  # lists and objects within each other
COUNT = 2**31  # below it lie sizes of axes, epochs, batches
DIGITS = 20  # of a whole number in JSON
FLOAT32, NORMAL = (2 - 2**-23) * 2.0**127, 2.0**-126  # the greatest, and the least that is not flushed to zero
FLOAT64 = sys.float_info.max
DEFLATE = 1032  # zlib's densest: bytes that one byte may become
_PIECE = 1 << 24
_DIRECTORY = 1 << 22  # bytes of a zip archive's list of files
_NESTED = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)


class Malformed(ValueError):
    """A value that its field cannot have, in words."""


def shown(value: Any) -> str:
    """A value in a message, cut to a line; a number of any length costs nothing."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, dict | list | tuple) and len(value) > 8:
        return f"{len(value)} items"
    text = repr(value) if not isinstance(value, str) else repr(value[:100])
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True)
class Field:
    """A value of a file under the name of its place."""

    value: Any
    name: str

    def wrong(self, wanted: str) -> Malformed:
        return Malformed(f"{self.name} is {shown(self.value)}, not {wanted}")

    def whole(self, least: int = 0, below: int = COUNT) -> int:
        """A whole number in [least, below); true and 1.0 are none."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or not least <= self.value < below:
            raise self.wrong(f"a whole number from {least} to {below - 1}")
        return self.value

    def number(self, least: float = -FLOAT32, most: float = FLOAT32) -> float:
        """A finite number in [least, most]: what a float32 can hold, unless other bounds are given."""
        value = self.value
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.wrong(f"a number from {least:g} to {most:g}")
        if not math.isfinite(value):
            raise self.wrong("a finite number")
        return float(value)

    def decimal(self, least: int = 0, below: int = COUNT) -> int:
        """A whole number in [least, below) that is written as a text."""
        if not isinstance(self.value, str) or not re.fullmatch(rf"[0-9]{{1,{DIGITS}}}", self.value):
            raise self.wrong("a whole number")
        return Field(int(self.value), self.name).whole(least, below)

    def hexadecimal(self, least: float, most: float) -> float:
        """A finite number in [least, most] that `float.hex` wrote."""
        text = self.text(100)
        try:
            return Field(float.fromhex(text), self.name).number(least, most)
        except (ValueError, OverflowError):
            raise self.wrong(f"a hexadecimal number from {least:g} to {most:g}") from None

    def text(self, longest: int = 1000) -> str:
        """A text of so many characters at most, all of them real ones."""
        value = self.value
        if not isinstance(value, str) or len(value) > longest or "\0" in value or not _encodable(value):
            raise self.wrong(f"a text of at most {longest} characters")
        return value

    def one_of(self, known: Collection[str]) -> str:
        if not isinstance(self.value, str) or self.value not in known:
            raise self.wrong(f"one of {', '.join(sorted(known))}")
        return self.value

    def boolean(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def items(self, least: int = 0, most: int = COUNT) -> list[Field]:
        """The items of a list of a bounded length."""
        if not isinstance(self.value, list | tuple) or not least <= len(self.value) <= most:
            wanted = f"{least}" if least == most else f"{least} to {most}"
            raise self.wrong(f"a list of {wanted} items")
        return [Field(v, f"{self.name}[{i}]") for i, v in enumerate(self.value)]

    def record(self, required: Collection[str], optional: Collection[str] = ()) -> dict[str, Field]:
        """The fields of an object: all that are required, and none that is unknown."""
        given = self.entries()
        missing = [key for key in required if key not in given]
        unknown = [key for key in given if key not in required and key not in optional]
        if missing or unknown:
            what = f"no '{missing[0]}'" if missing else f"the unknown field {shown(unknown[0])}"
            raise Malformed(f"{self.name} has {what}")
        return given

    def entries(self, most: int = COUNT, longest: int = 1000) -> dict[str, Field]:
        """The fields of an object whose names are free: so many at most, and of bounded length."""
        if not isinstance(self.value, dict) or len(self.value) > most:
            raise self.wrong("an object" if most == COUNT else f"an object of at most {most} fields")
        names = (Field(key, f"a name in {self.name}").text(longest) for key in self.value)
        return {key: Field(self.value[key], f"{self.name}.{key[:80]}") for key in names}

    def shape(self, item: int, room: int | None = None) -> tuple[int, ...]:
        """The sizes of an array's axes, 32 at most. item: bytes of a value. room: bytes that there are for all of them.

        Axes of 0 do not excuse the others: no product of sizes passes 2^63.
        """
        sizes = tuple(f.whole(0, 2**63) for f in self.items(0, AXES))
        if item * math.prod(max(d, 1) for d in sizes) >= 2**63:
            raise self.wrong("a shape of less than 2^63 bytes")
        needed = item * math.prod(sizes)
        if room is not None and needed > room:
            raise Malformed(f"{self.name} is {list(sizes)}, {needed} bytes; there are {room}")
        return sizes


def _encodable(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def read_json(text: str | bytes, name: str, longest: int = 1 << 26) -> Field:
    """The value of a JSON text of so many characters at most. Raises `Malformed` also for NaN and infinities, for numbers
    beyond a float64 or of more than 20 digits, for a name that occurs twice, and for nesting of more than 32.
    """
    if len(text) > longest:
        raise Malformed(f"{name} has {len(text)} characters, {longest} are the limit")
    try:
        text = text if isinstance(text, str) else text.decode("utf-8")
        _bounded_depth(text, name)
        value = json.loads(
            text, object_pairs_hook=_unique, parse_int=_integer, parse_float=_real, parse_constant=_constant
        )
    except Malformed as e:
        raise Malformed(f"{name}: {e}") from None
    except (ValueError, RecursionError) as e:
        raise Malformed(f"{name} is no JSON ({str(e)[:100]})") from None
    return Field(value, name)


def _bounded_depth(text: str, name: str) -> None:
    depth = 0
    for match in _NESTED.finditer(text):
        first = match[0][0]
        if first != '"':
            depth += 1 if first in "[{" else -1
        if depth > DEEPEST:
            raise Malformed(f"lists and objects are nested more than {DEEPEST} deep")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(k for k, _ in pairs if k in seen or seen.add(k))  # type: ignore[func-returns-value]
        raise Malformed(f"the name {shown(twice)} occurs twice")
    return result


def _integer(digits: str) -> int:
    if len(digits) > DIGITS:
        raise Malformed(f"a number of {len(digits)} digits")
    return int(digits)


def _real(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Malformed(f"the number {digits[:40]}, which no float64 holds")
    return value


def _constant(word: str) -> float:
    raise Malformed(f"{word}, which is no number")


def read_exactly(stream: IO[bytes], count: int) -> bytearray:
    """So many bytes of a stream, allocated as they come. Raises `Malformed` where it ends before."""
    data = bytearray()
    while len(data) < count:
        piece = stream.read(min(_PIECE, count - len(data)))
        if not piece:
            raise Malformed(f"it ends early, after {len(data)} of {count} bytes")
        data += piece
    return data


class _Bounded(FileIO):
    """A file of which no more than so many bytes are read at once."""

    most = _DIRECTORY

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = max(0, fstat(self.fileno()).st_size - self.tell())
        if size > self.most:
            raise Malformed(f"its list of files would have {size} bytes, {self.most} are the limit")
        return super().read(size)


@contextmanager
def archive_of(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive to read, whose list of files is of a bounded length. Raises `Malformed`, and what `zipfile` does."""
    with _Bounded(path) as stream, zipfile.ZipFile(stream) as archive:
        stream.most = _PIECE
        yield archive
