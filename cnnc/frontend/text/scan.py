"""What is checked before parsing: the file's bytes, its characters, strings, numbers and brackets.

The parser after this never meets a character that it has no token for, and brackets are known to match, so that a
syntax error can be kept to the statement it is in.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cnnc.diagnostics import LIMIT, CnncError, Diagnostic, Source, Span, did_you_mean, error
from cnnc.foreign import refuse

Match = re.Match[str]
MAX_BYTES = 1 << 20
MAX_LABEL = 400  # characters of a name with its expressions
MAX_LEXEMES = 50_000  # parsed within a second
NESTING = 64

LEXEME = re.compile(
    r"""
    (?P<blank>[ \t\r\n]+)
  | (?P<comment>\#[^\n]*)
  | (?P<label>as[ \t\r\n]+(?:[A-Za-z0-9_.]|\{[^{}\n]*\})+)
  | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<number>[0-9]+(?:\.(?!\.)[0-9]*)?(?:[eE][+-]?[0-9]+)?[A-Za-z0-9_]*)
  | (?P<string>"[^"\n]*")
  | (?P<unclosed>"[^"\n]*)
  | (?P<open>[\[({])
  | (?P<close>[\])}])
  | (?P<punctuation>->|\.\.|[=!<>]=|//|\*\*|[-+*/%<>=?:.,])
  | (?P<unknown>.)
""",
    re.VERBOSE | re.DOTALL,
)

# Control characters, lone surrogates, and marks that make text read otherwise than it is written (CVE-2021-42574).
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85\u2028\u2029\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
NUMBER = re.compile(r"[0-9]+(\.(?!\.)[0-9]*)?([eE][+-]?[0-9]+)?")
ITEMS = frozenset(("include", "const", "block", "model", "activation", "train"))
_BEGINS_ITEM = re.compile(r"(?:const|block|model|activation)[ \t]+[A-Za-z_]|include[ \t]+\"|train[ \t]*\{")
CLOSER = {"(": ")", "[": "]", "{": "}"}
SIGNS = frozenset(("-", "+", "not"))
HINTS = {
    "'": 'texts have double quotes: "same"',
    ";": "a statement needs no ';' at its end",
    "&": "write 'and'",
    "|": "write 'or'",
    "!": "write 'not'",
    "^": "a power is written '**'",
    "\u00a0": "this is a non-breaking space; write an ordinary one",
    "\\": "a line needs nothing to continue",
    "\u201c": "write straight quotes",
    "\u201d": "write straight quotes",
    "\u2192": "write '->'",
    "\u00d7": "write '*'",
    "\u2212": "this is a minus sign of typography; write '-'",
    "@": "a name begins with a letter",
    "$": "a name begins with a letter",
}


@dataclass
class Scan:
    """Diagnostics, the text with bad characters blanked out, and the brackets: opening offset -> closing offset.

    opened: the brackets that are open while the text is read.
    blanks: what is blanked out of the text; values: where a 0 stands in for a value that cannot be read.
    """

    source: Source
    text: str
    diagnostics: list[Diagnostic] = field(default_factory=list)
    brackets: dict[int, int] = field(default_factory=dict)
    balanced: bool = True
    opened: list[int] = field(default_factory=list)
    blanks: list[tuple[int, int]] = field(default_factory=list)
    values: list[int] = field(default_factory=list)

    def report(self, code: str, message: str, start: int, end: int, help: str | None = None) -> None:
        if len(self.diagnostics) < LIMIT:
            self.diagnostics.append(Diagnostic(code, message, Span(self.source, start, end), (), help))

    def depth(self, offset: int) -> int:
        """How many brackets enclose an offset."""
        return sum(1 for a, b in self.brackets.items() if a < offset <= b)


def read(path: str | os.PathLike[str], shown: str | None = None) -> Source:
    """The text of a file: UTF-8, at most 1 MiB, without a byte-order mark. Raises `CnncError` (E0105, E0106, E0401,
    E0604)."""
    p = Path(path)
    name = shown if shown is not None else str(path)
    try:
        if p.exists() and not p.is_file():
            raise error("E0106", f"{name} is not a file", exit_code=2)
        refuse(p, "model")
        with open(p, "rb") as f:
            data = f.read(MAX_BYTES + 1)
    except FileNotFoundError:
        near = _near(p)
        raise error(
            "E0106", f"there is no file {name}", help=f"did you mean '{near}'?" if near else None, exit_code=2
        ) from None
    except (OSError, ValueError) as e:
        raise error("E0106", f"{name} cannot be read: {getattr(e, 'strerror', None) or e}", exit_code=2) from None
    if len(data) > MAX_BYTES:
        raise error(
            "E0401",
            f"{name} is larger than {MAX_BYTES:,} bytes",
            help="a model file is text that a person writes; weights are kept in a .safetensors file",
        )
    try:
        return Source(name, data.decode("utf-8"))
    except UnicodeDecodeError as e:
        text = data.decode("utf-8", errors="replace")
        start = len(Source(name, data[: e.start].decode("utf-8", errors="replace")).text)
        raise CnncError(
            Diagnostic(
                "E0105",
                f"this is not UTF-8: byte {data[e.start]:#04x} at offset {e.start}",
                Span(Source(name, text), start, start + 1),
                help="save the file as UTF-8",
            )
        ) from None


def _near(path: Path) -> str | None:
    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix == ".cnn"]
    except OSError:
        return None
    said = did_you_mean(path.name, names)
    return str(path.with_name(said.split("'")[1])) if said else None


def scan(source: Source) -> Scan:
    """Check characters and brackets. Raises `CnncError` (E0401) when the text is too long."""
    text = source.text
    if len(text) > MAX_BYTES or len(text.encode("utf-8", errors="replace")) > MAX_BYTES:
        raise error("E0401", f"{source.name} is larger than {MAX_BYTES:,} bytes")
    result = Scan(source, text)
    for match in FORBIDDEN.finditer(text):
        result.report("E0104", f"the character U+{ord(match[0]):04X} may not be in a model file", *match.span())
        result.blanks.append(match.span())
    lexemes = signs = 0
    for match in LEXEME.finditer(text):
        kind = match.lastgroup
        if kind != "blank":
            lexemes += kind != "comment"
            signs = signs + 1 if match[0] in SIGNS else 0
        if signs > NESTING or lexemes > MAX_LEXEMES or len(result.diagnostics) >= LIMIT:
            _too_much(result, match, signs, lexemes)
            return result
        check = CHECKS.get(kind)
        if check is not None:
            check(result, match)
        if len(result.opened) > NESTING:
            return result
    if result.opened:
        _never_closed(result)
    if any(d.code == "E0103" for d in result.diagnostics):  # what it swallowed may be a closing bracket
        result.diagnostics = [d for d in result.diagnostics if d.code != "E0102"]
    if result.blanks:
        result.text = _blanked(result)
    return result


def _too_much(scan: Scan, match: Match, signs: int, lexemes: int) -> None:
    """Why a text is not read to its end, where it is not that enough errors are known."""
    scan.balanced = False
    if signs > NESTING:
        scan.report("E0403", f"more than {NESTING} signs in a row", *match.span())
    elif lexemes > MAX_LEXEMES:
        scan.diagnostics = []
        what = f"this file has more than {MAX_LEXEMES:,} words and signs"
        scan.report("E0401", what, *match.span(), "loops and blocks say it shorter")


def _blanked(scan: Scan) -> str:
    """The text with what cannot be read blanked out, and a 0 where a value was."""
    pieces = list(scan.text)
    for start, end in scan.blanks:
        pieces[start:end] = [c if c in "\r\n" else " " for c in pieces[start:end]]
    for start in scan.values:
        pieces[start] = "0"
    return "".join(pieces)


def _open(scan: Scan, match: Match) -> None:
    scan.opened.append(match.start())
    if len(scan.opened) > NESTING:
        scan.balanced = False
        help = "name the inner parts, or make them blocks"
        scan.report("E0403", f"brackets nest deeper than {NESTING}", *match.span(), help)


def _close(scan: Scan, match: Match) -> None:
    if scan.opened and CLOSER[scan.text[scan.opened[-1]]] == match[0]:
        scan.brackets[scan.opened.pop()] = match.start()
    else:
        scan.balanced = False
        _mismatch(scan, match.start())


def _word(scan: Scan, match: Match) -> None:
    """An item that begins on a line of its own ends whatever is open."""
    text, start = scan.text, match.start()
    if scan.opened and match[0] in ITEMS and _BEGINS_ITEM.match(text, start) and _first_on_line(text, start):
        _never_closed(scan, start)


def _label(scan: Scan, match: Match) -> None:
    start, end = match.span()
    if end - start > MAX_LABEL:
        scan.report("E0314", f"a name of {end - start} characters", start, end, "names have at most 200 characters")
        scan.blanks.append((start + 2, end))


def _unclosed(scan: Scan, match: Match) -> None:
    scan.report("E0103", "this text is not closed", *match.span(), 'end it with " on the same line')
    scan.blanks.append(match.span())
    scan.values.append(match.start())


def _number(scan: Scan, match: Match) -> None:
    """`3x` and `0x10` are mistakes; `0..n` and `1e5` are not."""
    start, end = match.span()
    if not NUMBER.fullmatch(scan.text, start, end):
        what = f"'{scan.text[start : min(end, start + 40)]}' is neither a number nor a name"
        help = "a name begins with a letter; a number is written 12, 0.5 or 1e-3"
        scan.report("E0107", what, start, end, help)
    elif end - start > 400:
        scan.report("E0404", f"this number has {end - start} digits", start, end, "whole numbers are below 2**63")
    else:
        return
    scan.blanks.append((start, end))
    scan.values.append(start)


def _unknown(scan: Scan, match: Match) -> None:
    character = match[0]
    if not FORBIDDEN.match(character):
        help = "names are written in the letters a to z, digits and _" if character.isalpha() else None
        scan.report("E0104", f"unexpected character {character!r}", *match.span(), HINTS.get(character, help))
    scan.blanks.append(match.span())


CHECKS: dict[str | None, Callable[[Scan, Match], None]] = {
    "open": _open,
    "close": _close,
    "word": _word,
    "label": _label,
    "unclosed": _unclosed,
    "number": _number,
    "unknown": _unknown,
}


def _mismatch(scan: Scan, start: int) -> None:
    """A closing bracket that does not fit: one too many, or one left out before it."""
    text, opened = scan.text, scan.opened
    matching = next((i for i in reversed(range(len(opened))) if CLOSER[text[opened[i]]] == text[start]), None)
    if matching is None:
        help = None
        if opened:
            line = scan.source.position(opened[-1])[0]
            help = f"the '{text[opened[-1]]}' of line {line} is closed by '{CLOSER[text[opened[-1]]]}'"
        scan.report("E0102", f"this '{text[start]}' closes nothing", start, start + 1, help)
        return
    if matching + 1 < len(opened):
        inner, line = opened[-1], scan.source.position(start)[0]
        help = f"a '{CLOSER[text[inner]]}' is missing before the '{text[start]}' of line {line}"
        scan.report("E0102", f"this '{text[inner]}' is never closed", inner, inner + 1, help)
    scan.brackets[opened[matching]] = start
    del opened[matching:]


def _never_closed(scan: Scan, item: int | None = None) -> None:
    """Brackets that are open at the end, or where another item begins: the outermost is the one to close."""
    start, text = scan.opened[0], scan.text
    help = f"add a '{CLOSER[text[start]]}' where it ends"
    if item is not None:
        help = f"add a '{CLOSER[text[start]]}' before line {scan.source.position(item)[0]}, where another item begins"
    scan.balanced = False
    scan.report("E0102", f"this '{text[start]}' is never closed", start, start + 1, help)
    scan.opened.clear()


def _first_on_line(text: str, offset: int) -> bool:
    while offset > 0 and text[offset - 1] in " \t":
        offset -= 1
    return offset == 0 or text[offset - 1] == "\n"


def sync_points(scan: Scan, start: int, end: int, depth: int) -> Iterator[tuple[str, int]]:
    """Where parsing may go on after an error: ("item" | "statement" | "close", offset) between two offsets.

    Statements are looked for `depth` brackets deep: their keywords, and `name =` at the start of a line. Items are at
    depth 0.
    """
    level = scan.depth(start)
    text = scan.text
    new_line = _first_on_line(text, start)
    for match in LEXEME.finditer(text, start, end):
        kind, at = match.lastgroup, match.start()
        if kind == "open":
            level += 1
        elif kind == "close":
            level -= 1
            if level == depth - 1:
                yield "close", at
        elif kind == "word":
            if level == 0 and match[0] in ITEMS:
                yield "item", at
            elif level == depth and (
                match[0] in ("input", "for", "if", "expect", "return")
                or (new_line and (_ASSIGN.match(text, at) or _PARAM.match(text, at)))
            ):
                yield "statement", at
        new_line = kind == "blank" and "\n" in match[0]


_PARAM = re.compile(r"param[ \t]+[A-Za-z_][A-Za-z0-9_]*[ \t]*:")
_ASSIGN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[ \t]*,[ \t]*[A-Za-z_][A-Za-z0-9_]*)*[ \t]*=(?!=)")
