"""Forged IR text: numbers, names, types, layouts, epilogues and lines."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from tests.malformed.mutate import edit

NUMBERS = (
    "0",
    "1",
    "2",
    "3",
    "5",
    "16",
    "64",
    "65",
    "-1",
    "-0",
    "0.5",
    "1e400",
    "-1e400",
    "nan",
    "inf",
    "-inf",
    "1e-320",
)
NUMBERS += (
    "2147483647",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "1" * 399,
    "1" * 5000,
)
WORDS = ("N", "true", "false", "none", "x", "f32", "f64", "i32", "i64", "f16", "nchw", "nchw16c", "nchw8c", "nchw0c")
WORDS += (
    "nchw999999999999c",
    "ncw16c",
    "ncdhw16c",
    "oihw",
    "input",
    "param",
    "state",
    "conv",
    "relu",
    "maxpool",
    "slice",
)
VALUES = (
    "[]",
    "[1]",
    "[1,2]",
    "[[1,2],[3,4]]",
    "[2147483647,2147483647]",
    "[N,3]",
    "[N,N]",
    "[-1]",
    "[0]",
    "[[[]]]",
    "[[1],2]",
)
VALUES += (
    "[" * 70 + "]" * 70,
    "[" + "1," * 5000 + "1]",
    '""',
    '"y"',
    '"a0"',
    '"valid"',
    '"same"',
    "true",
    "[true]",
    '["a"]',
)
TERMS = tuple(f'"{" + ".join(["y"] * n)}"' for n in (2, 60, 130, 500, 3000))
TERMS += tuple(f'"{f * n}y{")" * n}"' for f in ("exp(", "(", "neg(", "where(y > 0, y, ") for n in (3, 60, 130, 500))
TERMS += (
    '"y + a9"',
    '"1e400 * y"',
    '"y / 0"',
    '"9' + "9" * 400 + ' * y"',
    '"y.z"',
    '"__import__"',
    '"y if y else y"',
    '"y ** y"',
)
TERMS += (
    '"max(y)"',
    '"[y]"',
    '"y; y"',
    '"inf * y"',
    '"-" * 5',
    '"' + "-" * 3000 + 'y"',
    '"where(a0, a0, a0)"',
    '"a0 - a0"',
)
KINDS = (r"[-\d]", r"\[", '"', "%", "[A-Za-z]", r"[^-\d\[\"%A-Za-z]")
_TOKEN = re.compile(r'"[^"\n]*"|\[[^\]\[]*\]|-?\d+(?:\.\d+)?(?:e-?\d+)?|%[\w.]+|[A-Za-z]\w*|[^\s]')


def forged_ir(text: str, draw: random.Random) -> str:
    """A text with one to three of its tokens or lines forged."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        text = _once(text, draw)
    return text


def _once(text: str, draw: random.Random) -> str:
    if draw.random() < 0.15:
        return _forged_line(text, draw)
    tokens = list(_TOKEN.finditer(text))
    kind = draw.choices(KINDS, (40, 25, 15, 15, 8, 2))[0]
    token = draw.choice([t for t in tokens if re.match(kind, t[0])] or tokens)
    return text[: token.start()] + _forged_token(token[0], [t[0] for t in tokens], draw) + text[token.end() :]


def _forged_line(text: str, draw: random.Random) -> str:
    lines = text.split("\n")
    i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
    kind = draw.randrange(5)
    if kind < 3:
        edit(lines, kind, i, j)
    elif kind == 3:
        return text[: draw.randrange(len(text) + 1)]
    else:
        lines[i] = lines[i].replace("{", "{" + draw.choice(("x=1, ", "layout=nchw, ", "groups=1, ", "epilogue=1, ")))
    return "\n".join(lines)


def _forged_token(found: str, tokens: Sequence[str], draw: random.Random) -> str:
    """Another token for the one that is found."""
    if re.fullmatch(r"-?\d.*", found):
        value = found if "." in found or "e" in found else str(int(found[:300]) + draw.choice((-1, 1)))
        return value if draw.random() < 0.5 else draw.choice((*NUMBERS, draw.choice(VALUES)))
    if found[0] == "[":
        near = re.sub(r"\d+", lambda m: draw.choice((m[0], str(int(m[0]) + 1), str(max(0, int(m[0]) - 1)))), found)
        if draw.random() < 0.3:
            near = near.replace(",", draw.choice((",1,", ",N,", ",")), 1)
        far = re.sub(r"\d+", lambda m: draw.choice((m[0], m[0], draw.choice(NUMBERS))), found)
        return near if draw.random() < 0.4 else draw.choice((*VALUES, far, far, far, far, found[:-1] + ",1]"))
    if found[0] == '"':
        return draw.choice((*TERMS, *VALUES, found[:-1] + draw.choice((' + y"', ' * a0"', ' / 0"', ' + q"'))))
    if found[0] == "%":
        return draw.choice([t for t in tokens if t[0] == "%"] + ["%", "%missing", "_"])
    if found[0].isalpha():
        return draw.choice((*WORDS, *(t for t in tokens if t[0].isalpha()), draw.choice(VALUES), draw.choice(TERMS)))
    return draw.choice(("", "(", ")", "{", "}", ",", "=", ":", "_", "\0", "\ud800", "é", "#", '"'))
