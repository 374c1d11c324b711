"""The wording of syntax errors: what was expected, in words, and on which line it is missing."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from cnnc.diagnostics import Diagnostic, Source, Span
from cnnc.ir.layer import WORDS

if TYPE_CHECKING:
    from lark import Token

PUNCTUATION = {
    "COMMA": "','",
    "RPAR": "')'",
    "RSQB": "']'",
    "RBRACE": "'}'",
    "LBRACE": "'{'",
    "COLON": "':'",
    "EQUAL": "'='",
    "IN": "'in'",
    "DOTS": "'..'",
    "LPAR": "'('",
    "LSQB": "'['",
}
AFTER = {
    "block": "the block's name",
    "model": "the model's name",
    "const": "the constant's name",
    "activation": "the activation's name",
    "input": "the input's name",
    "expect": "the name of a tensor",
    "for": "the loop's variable",
    "->": "a layer",
    ".": "an attribute",
    ":": "a type such as f32[N, 3, 224, 224]",
}


def describe(source: Source, last: Token | None, found: str, offset: int, accepts: Collection[str]) -> Diagnostic:
    """The diagnostic (E0101) of a token that the parser refuses after `last`, where `accepts` would have been accepted.

    What is missing at a line's end is reported there, not at whatever the next line begins with.
    """
    expected = expectation(last, accepts)
    previous = f" after '{last}'" if last is not None and len(last) <= 40 else ""
    finished = bool({"RETURN", "MODEL", "$END"} & set(accepts))
    end = last.end_pos if last is not None and last.end_pos is not None else None
    later_line = end is not None and (not found or "\n" in source.text[end:offset])
    if end is not None and later_line and (not finished or not found):
        where = "the file ends" if not found else "the line ends"
        return Diagnostic(
            "E0101",
            f"expected {expected}{previous}, but {where}",
            Span(source, end, end + 1),
            help=hint(last, found, accepts),
        )
    shown = f"found '{found[:40]}'" if found else "the file ends"
    reserved = found in WORDS and "NAME" in accepts and "RETURN" not in accepts
    word = ", which is a word of the language" if reserved else ""
    return Diagnostic(
        "E0101",
        f"expected {expected}{previous}, {shown}{word}",
        Span(source, offset, offset + max(1, len(found))),
        help=hint(last, found, accepts),
    )


def expectation(last: Token | None, accepts: Collection[str]) -> str:
    """What may follow, in words."""
    closers = [PUNCTUATION[t] for t in ("RPAR", "RSQB", "RBRACE") if t in accepts]
    if "LABEL" in accepts:
        return "a name such as conv1 or layer{i}.0"
    if "NUMBER" in accepts:
        return either(["a value", *closers])
    if "RETURN" in accepts and not {"ARROW", "COMMA"} & set(accepts):
        return either(["a statement", *closers])
    if "MODEL" in accepts and "ARROW" not in accepts:
        return "include, const, block, model, activation or train"
    if set(accepts) <= {"NAME", "RBRACE", "RPAR"} and "NAME" in accepts:
        if "RBRACE" in accepts:
            return "a setting such as epochs = 10 or '}'"
        return either([AFTER.get(str(last), "a name"), *closers])
    if "STRING" in accepts:
        return "a text in quotes"
    return _continuation(accepts)


def _continuation(accepts: Collection[str]) -> str:
    """What may follow where something has been said already, in words."""
    passed_over = ("LPAR", "LSQB", "EQUAL") if "ARROW" in accepts else ()
    words = [word for terminal, word in PUNCTUATION.items() if terminal in accepts and terminal not in passed_over]
    if "RETURN" in accepts:
        words = [w for w in words if w != "'}'" and w != "','"]
        return either([*words, "the next statement", *(["'}'"] if "RBRACE" in accepts else [])])
    if "MODEL" in accepts:
        return either([*words, "the next item"])
    if "ARROW" in accepts and not words:
        return "an operator or the end of the value"
    return either(words or sorted(t.lower() for t in accepts) or ["the end of the value"])


def either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def hint(last: Token | None, found: str, accepts: Collection[str]) -> str | None:
    """The way out of the commonest slips."""
    return _slip_of_sign(last, found, accepts) or _slip_of_word(last, found, accepts)


def _slip_of_sign(last: Token | None, found: str, accepts: Collection[str]) -> str | None:
    if found == "=" and "COMPARE" in accepts:
        return "to compare, write '=='"
    if found == "=" and str(last) in WORDS:
        return f"'{last}' is a word of the language: choose another name"
    if found == ":" and "LBRACE" in accepts:
        return "a body is in braces: { ... }"
    if found == "->" and "EQUAL" in accepts:
        return f"give the result a name: {last} = {last} -> ..."
    if found == "(" and "EQUAL" in accepts:
        return f"a statement gives its result a name: y = {last}(...)"
    if found in ("//", "/") and {"RETURN", "MODEL"} & set(accepts):
        return "comments begin with '#'"
    if found == "." and "NUMBER" in accepts:
        return "a number begins with a digit: 0.5"
    return None


def _slip_of_word(last: Token | None, found: str, accepts: Collection[str]) -> str | None:
    if found in ("elif", "elseif"):
        return "write 'else if'"
    if last is not None and str(last) == "else" and found != "if":
        return "write 'else { ... }' or 'else if condition { ... }'"
    if found in ("def", "fn", "function", "layer", "class") and "BLOCK" in accepts:
        return "a reusable piece is written: block name(x, ...) { ... }"
    return None
