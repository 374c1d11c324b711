"""PTX as text, and the instructions in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field


class Fault(Exception):
    """A kernel did what it must not, or says what is not understood."""


@dataclass(frozen=True)
class Instruction:
    """guard: a register of truth values, and whether it is negated. text: as it was written."""

    opcode: str
    operands: tuple[str, ...]
    guard: tuple[str, bool] | None
    text: str


@dataclass
class Entry:
    """A kernel. parameters and registers: name -> type. labels: where in `code` they stand. threads: of a block at most, 0 where
    nothing is said.
    """

    name: str
    parameters: dict[str, str]
    threads: int
    registers: dict[str, str] = field(default_factory=dict)
    code: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)


@dataclass
class Module:
    """shared: the offset of each array of shared memory, of which `shared_bytes` have a size. All without one begin behind them."""

    entries: dict[str, Entry]
    shared: dict[str, int]
    shared_bytes: int


def split(text: str) -> list[str]:
    """At the commas that stand in no bracket."""
    parts, depth, begin = [], 0, 0
    for i, ch in enumerate(text):
        depth += (ch in "{[(") - (ch in "}])")
        if ch == "," and not depth:
            parts.append(text[begin:i].strip())
            begin = i + 1
    last = text[begin:].strip()
    return [*parts, last] if last else parts


def vector(operand: str) -> list[str]:
    """The registers of an operand in braces, or the one that it is."""
    return split(operand[1:-1]) if operand.startswith("{") else [operand]


_SHARED = re.compile(r"(?:\.extern\s+|\.visible\s+|\.weak\s+)?\.shared\s+\.align\s+(\d+)\s+\.b8\s+([\w$]+)\[(\d*)\];")
_ENTRY = re.compile(r"(?:\.visible\s+)?\.entry\s+([\w$]+)\s*\((.*?)\)\s*([^{]*)\{", re.S)


def parse(text: str) -> Module:
    """Raises `Fault` for what is outside of the entries and not known, and for calls and local memory."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    shared: dict[str, int] = {}
    size, unsized = 0, []
    for m in _SHARED.finditer(text):
        if m[3]:
            size = -(-size // int(m[1])) * int(m[1])
            shared[m[2]] = size
            size += int(m[3])
        else:
            unsized.append((m[2], int(m[1])))
    for name, align in unsized:
        size = -(-size // align) * align
        shared[name] = size
    entries, rest = {}, ""
    text = _SHARED.sub("", text)
    while m := _ENTRY.search(text):
        rest += text[: m.start()]
        end = _closing(text, m.end())
        parameters = {p.split()[-1]: p.split()[1].lstrip(".") for p in split(m[2])}
        most = re.search(r"\.(?:maxntid|reqntid)\s+(\d+)", m[3])
        entries[m[1]] = Entry(m[1], parameters, int(most[1]) if most else 0)
        _fill(entries[m[1]], text[m.end() : end])
        text = text[end + 1 :]
    for line in (rest + text).splitlines():
        if line.strip() and not re.match(r"\s*\.(version|target|address_size)\b", line):
            raise Fault(f"outside of the kernels: {line.strip()}")
    return Module(entries, shared, size)


def _closing(text: str, begin: int) -> int:
    """Where the brace closes that was opened in front of `begin`."""
    depth = 1
    for m in re.compile(r"[{}]").finditer(text, begin):
        depth += 1 if m[0] == "{" else -1
        if not depth:
            return m.start()
    raise Fault("a brace is not closed")


def _statements(body: str) -> Iterator[str]:
    """Statements without their semicolons, labels with their colons, and the braces of scopes. A brace inside of a statement
    belongs to a vector.
    """
    begin = 0
    for m in re.compile(r"[{};:]").finditer(body):
        before = body[begin : m.start()].strip()
        if m[0] == ";":
            yield before
        elif m[0] in "{}" and not before:
            yield m[0]
        elif m[0] == ":" and re.fullmatch(r"[$\w]+", before) and body[m.end()] != ":":
            yield before + ":"
        else:
            continue
        begin = m.end()


def _fill(entry: Entry, body: str) -> None:
    scopes: list[dict[str, str]] = [{}]  # what registers of inner scopes are called outside
    for statement in _statements(body):
        if statement == "{":
            scopes.append({})
        elif statement == "}":
            scopes.pop()
        elif statement.endswith(":"):
            entry.labels[statement[:-1]] = len(entry.code)
        elif statement.startswith(".reg"):
            _declare(entry, statement, scopes)
        elif statement.startswith((".loc ", ".pragma ")) or not statement:
            continue
        elif statement.startswith("."):
            raise Fault(f"local memory and the like are not for kernels: {statement}")
        else:
            entry.code.append(_instruction(statement, scopes))


def _declare(entry: Entry, statement: str, scopes: list[dict[str, str]]) -> None:
    _, kind, names = statement.split(None, 2)
    for name in split(names):
        if m := re.fullmatch(r"([%\w$]+)<(\d+)>", name):
            entry.registers.update({f"{m[1]}{i}": kind[1:] for i in range(int(m[2]))})
            continue
        own = f"{name}~{len(entry.registers)}" if len(scopes) > 1 else name
        scopes[-1][name] = own
        entry.registers[own] = kind[1:]


def _instruction(statement: str, scopes: list[dict[str, str]]) -> Instruction:
    text = " ".join(statement.split())
    for scope in scopes[1:]:
        for name, own in scope.items():
            statement = re.sub(rf"(?<![%\w$.~]){re.escape(name)}(?![\w$~.])", own, statement)
    guard = None
    if m := re.match(r"@(!?)([%\w$~]+)\s+", statement):
        guard = m[2], bool(m[1])
        statement = statement[m.end() :]
    opcode, _, rest = re.sub(r"\s+", " ", statement).partition(" ")
    return Instruction(opcode, tuple(split(rest)), guard, text)
