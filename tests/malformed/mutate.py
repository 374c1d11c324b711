"""Malformed model files, made from good ones: the same seed gives the same file."""

from __future__ import annotations

import random
import re

_LEXEMES = re.compile(r'[A-Za-z_][A-Za-z0-9_]*|[0-9]+(?:\.[0-9]+)?|"[^"\n]*"|->|\.\.|[-+*/%<>=!]=?|\s+|.', re.S)
_JUNK = (
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    "=",
    "==",
    "->",
    "..",
    ".",
    "as",
    "in",
    "if",
    "else",
    "for",
    "return",
    "input",
    "model",
    "block",
    "train",
    "const",
    "include",
    "expect",
    "not",
    "and",
    "?",
    "0",
    "-1",
    "0.5",
    "10**30",
    "1e999",
    '"',
    "'",
    ";",
    "\\",
    "#",
    "\x00",
    "\ufeff",
    "\u202e",
    "\ud800",
    "\t",
    "\r",
    "é",
    "none",
    "true",
    "relu",
    "x",
    "N",
    "[]",
    "{}",
    "()",
    "[[[]]]",
    "x.batch",
    "conv",
    "linear(0)",
    '"same"',
    "99999999999",
    "3x",
    "!",
    "&&",
    "@",
    "**",
    "//",
)


def edit(items: list[str], kind: int, at: int, other: int) -> None:
    """An item is removed (0), gets another in front of it (1), or changes places with that (2)."""
    if kind == 0:
        del items[at]
    elif kind == 1:
        items.insert(at, items[other])
    else:
        items[at], items[other] = items[other], items[at]


def mutate(text: str, seed: int) -> str:
    """One to four lexemes removed, doubled, swapped, replaced, or cut off."""
    draw = random.Random(seed)
    lexemes = _LEXEMES.findall(text)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(lexemes))
        while lexemes[at].isspace():
            at = (at + 1) % len(lexemes)
        kind = draw.randrange(6)
        if kind < 3:
            edit(lexemes, kind, at, draw.randrange(len(lexemes)) if kind == 2 else at)
        elif kind == 3:
            lexemes[at] = draw.choice(_JUNK)
        elif kind == 4:
            lexemes.insert(at, draw.choice(_JUNK))
        elif draw.random() < 0.3:
            del lexemes[at:]
        else:
            lexemes[at] = draw.choice([lexeme for lexeme in lexemes if not lexeme.isspace()])
        if not lexemes or not any(not lexeme.isspace() for lexeme in lexemes):
            return ""
    return "".join(lexemes)


_VALUES = (
    "-1",
    "0",
    "1",
    "2",
    "7",
    "40",
    "0.5",
    "1e300",
    "2 ** 31",
    "2 ** 62",
    "10 ** 30",
    "(1 / 0)",
    "true",
    "false",
    "none",
    '"same"',
    '"x"',
    "[]",
    "[1, 2]",
    "[2, 2, 2]",
    "[[1, 2], [3, 4]]",
    "[[1], 2]",
    "{}",
    "{a: 1}",
    "{1: 2}",
    "x",
    "image",
    "relu",
    "conv",
    "conv(3, 3)",
    "basic",
    "dropout(0.5)",
    "x.batch",
    "x.shape",
    "x.shape[1]",
    "[x]",
    "[x, x]",
    "len",
    "max",
    "max([1, 2])",
    "(x + 1)",
    "N",
    "undefined",
    "[0] * 9999",
    "-0.0",
    "1e-320",
    "3 // 2",
    '("a" * 3)',
)
_EXPRESSION = re.compile(
    r'(?:[(=,\[+:?/*]|\bin|return)\s*("[^"\n]*"|[0-9]+(?:\.[0-9]+)?(?:e-?[0-9]+)?|[A-Za-z_][A-Za-z0-9_.]*)'
    r"(?=\s*[),\]\s}+*/])(?!\s*=)"
)


def mutate_values(text: str, seed: int) -> str:
    """One to three values replaced by others: the file still parses, as a rule."""
    draw = random.Random(seed)
    for _ in range(draw.randint(1, 3)):
        places = [m.span(1) for m in _EXPRESSION.finditer(text)]
        if places:
            start, end = draw.choice(places)
            text = text[:start] + draw.choice(_VALUES) + text[end:]
    return text
