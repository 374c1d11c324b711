"""Values that a field of a file may be forged to, and changes of trees of fields: JSON, Python literals, and numbers in
binary headers.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

EDGES = (0, 1, 2, 3, 7, 31, 32, 33, 64, 65, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32)
FAR = (2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30, 10**400)


class Raw(str):
    """Text that is written as it is."""


class Pairs(list[tuple[Any, Any]]):
    """An object whose names may occur twice."""


NESTED = [Raw("[" * n + "]" * n) for n in (30, 40, 1000, 100_000)] + [Raw('{"a":' * 40 + "1" + "}" * 40)]
JUNK: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        -1,
        -2,
        0.5,
        1.5,
        -0.0,
        1e-320,
        1e39,
        3.5e38,
        1e308,
        *EDGES,
        *FAR,
        -(2**31),
        -(2**63),
        -(10**30),
    ),
    *("", "a", "../../x", "/etc/passwd", "x" * 100_000, "\u202e", "1", "true", "0x1p99999", "nan", "none", "%", "é"),
    *([], [[]], [0], [1], [1, 2], [None], ["a"], [0] * 33, [1] * 100, [0] * 100_000, Pairs(), Pairs([("a", 1)])),
)
JSON_JUNK = (
    *map(
        Raw,
        ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "1" * 5000, "-0", "0x10", "01", "+1", "1.", "'a'", "tru"),
    ),
    *map(
        Raw, ('"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"a\\/b"', '"\\x41"', '"\x01"', "", "{", "]", "[1,]", "//")
    ),
    *NESTED,
)
PYTHON_JUNK = (
    *map(
        Raw, ("10**30", "1 << 62", "1e400", "-1e400", "3L", "0x10", "1_000", "b'a'", "...", "{1}", "()", "(1,)", "(,)")
    ),
    *map(
        Raw,
        ("(1,) * 65", "(" * 300, "-" * 3000 + "1", "[" * 150 + "]" * 150, "lambda: 0", "'\\ud800'", "'\\0'", "x", "1j"),
    ),
    *map(Raw, (f"({'1,' * 65})", f"({'0,' * 40})", "(0, 10**30)", f"(0, {10**30})", "(True, 4)", "(-1,)", "(1.0,)")),
)


def near(value: Any, draw: random.Random) -> Any:
    """A value beside another one: off by one, negative, of another kind, doubled."""
    if isinstance(value, bool):
        return draw.choice((not value, int(value), str(value)))
    if isinstance(value, int | float):
        return draw.choice((value + 1, value - 1, -value, 2 * value, value * 2**32, str(value), [value], float(value)))
    if isinstance(value, str):
        cut = draw.randrange(len(value) + 1)
        with_more = value[:cut] + draw.choice(("\0", "x", "../", "\ud800", " ", value)) + value[cut:]
        return draw.choice((value[:cut], with_more, value.upper(), value * 2, [value]))
    if isinstance(value, list) and not isinstance(value, Pairs):
        return draw.choice((value[:-1], [*value, *value], value[::-1], [value], [*value, None], tuple(value)))
    return draw.choice(JUNK)


def as_pairs(value: Any) -> Any:
    """A tree whose objects are lists of pairs, so that they can be changed in any way."""
    if isinstance(value, dict):
        return Pairs((k, as_pairs(v)) for k, v in value.items())
    return [as_pairs(v) for v in value] if isinstance(value, list | tuple) else value


def places(tree: Any) -> list[tuple[Any, int]]:
    """Every value of a tree, as what holds it and where."""
    found: list[tuple[Any, int]] = []
    if isinstance(tree, list):
        for i, item in enumerate(tree):
            found.append((tree, i))
            found += places(item[1] if isinstance(tree, Pairs) else item)
    return found


def change(tree: Any, draw: random.Random, junk: Sequence[Any]) -> Any:
    """A tree with one field forged: another value, gone, renamed, twice, swapped with another, or one too many."""
    root = [as_pairs(tree)]
    found = places(root)
    holder, i = draw.choice(found)
    pairs = isinstance(holder, Pairs)
    name, value = holder[i] if pairs else (None, holder[i])
    kind = draw.randrange(10)
    if kind < 4:
        new = draw.choice(draw.choice((JUNK, junk)))
    elif kind < 7:
        new = near(value, draw)
    elif kind == 7:
        other, j = draw.choice(found)
        new = deepcopy(other[j][1] if isinstance(other, Pairs) else other[j])
    elif holder is root:
        new = draw.choice(junk)
    elif kind == 8:
        holder.pop(i)
        return root[0]
    else:
        twice = (draw.choice((name, near(name, draw))), value) if pairs else value
        holder.insert(i, twice)
        return root[0]
    holder[i] = (name, new) if pairs else new
    return root[0]


def write_json(tree: Any) -> str:
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, Pairs):
        return "{" + ", ".join(f"{json.dumps(str(k))}: {write_json(v)}" for k, v in tree) + "}"
    if isinstance(tree, list | tuple):
        return "[" + ", ".join(map(write_json, tree)) + "]"
    return json.dumps(tree)


def write_python(tree: Any) -> str:
    if isinstance(tree, Raw):
        return str(tree)
    if isinstance(tree, Pairs):
        return "{" + ", ".join(f"{k!r}: {write_python(v)}" for k, v in tree) + "}"
    if isinstance(tree, list):
        return "(" + "".join(write_python(v) + ", " for v in tree) + ")"
    return repr(tree)


def forged_json(text: str, draw: random.Random) -> str:
    return write_json(change(json.loads(text), draw, JSON_JUNK))


def forged_number(value: int, size: int, draw: random.Random) -> int:
    """What a field of so many bytes may hold."""
    kinds: tuple[Callable[[], int], ...] = (
        lambda: draw.choice(EDGES),
        lambda: value + draw.choice((-1, 1, -value, value, 8, -8)),
        lambda: draw.getrandbits(8 * size),
        lambda: draw.choice((2 ** (8 * size) - 1, 2 ** (8 * size - 1), 2 ** (8 * size - 1) - 1)),
    )
    return draw.choice(kinds)() % 2 ** (8 * size)


def put(data: bytes, at: int, size: int, draw: random.Random, order: str = "<") -> bytes:
    """A binary field forged."""
    letter = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
    (value,) = struct.unpack_from(order + letter, data, at)
    return data[:at] + struct.pack(order + letter, forged_number(value, size, draw)) + data[at + size :]


def damage(data: bytes, draw: random.Random) -> bytes:
    """Bytes that no generator of fields thinks of: cut, longer, flipped, zeroed, moved."""
    at, length = draw.randrange(len(data)), draw.choice((1, 2, 8, 100))
    kinds = (
        data[:at],
        data + bytes(length),
        data[at:],
        data[:at] + bytes(length) + data[at + length :],
        data[:at] + draw.randbytes(length) + data[at + length :],
        data[:at] + data[at + length :],
        data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :],
        b"",
    )
    return draw.choice(kinds)
