"""The Plan: a flat list of steps `kernel(arguments)` over buffers, for one batch size and one target. It prints and
parses back.

Buffers live in one of these places:
    input     memory of the caller, bound at every call
    value     a param or state of the network
    packed    made once by the setup steps from values that do not change
    table     int64 constants
    own       a link's share of what only the steps of one chain touch, in memory of each worker's own
    result    an output that is large: memory of each call's own, which the caller gets
    arena     everything else, packed into one block by lifetimes
`setup` runs once, when weights are loaded; `steps` at every call.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from cnnc.diagnostics import CnncError, Diagnostic, Source, Span
from cnnc.ir import expression as ex

PLACES = ("input", "value", "packed", "table", "own", "result", "arena")
PLACED = ("own", "arena")  # where buffers have an offset


@dataclass(frozen=True)
class Buffer:
    """A piece of memory. `data` are the numbers of a table; `offset` the place in the arena or a worker's own memory."""

    name: str
    place: str
    bytes: int
    offset: int = 0
    data: tuple[int, ...] = ()


@dataclass(frozen=True)
class Ref:
    """The address of a buffer, plus bytes."""

    buffer: str
    offset: int = 0


@dataclass(frozen=True)
class KernelName:
    """A kernel of a family with its parameters, as the backend names it."""

    family: str
    parameters: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        return f"{self.family}{{{', '.join(f'{k}={_parameter(k, v)}' for k, v in self.parameters)}}}"


@dataclass(frozen=True)
class Step:
    """Run a kernel on `chunks` chunks. `node` is the node of the graph that it computes; `note` says why this kernel.

    Chunks divide into `links` equal runs, where that is not 0: steps of as many links make a chain (see `chain.py`), to
    which all its steps but the first say that they follow.
    """

    node: str
    kernel: KernelName
    arguments: tuple[tuple[str, int | Ref], ...]
    chunks: int
    writes: tuple[str, ...] = ()
    note: str = ""
    links: int = 0
    follows: bool = False

    @property
    def algorithm(self) -> str:
        """What the step does, in a word or two: `winograd 4x4`. The note has the reasons."""
        found = re.search(r"\b(?:winograd|direct) \d+x[\dx]+|^(?:direct|depthwise|generic)\b", self.note)
        return found[0] if found else self.kernel.family.replace("_", " ")

    def buffers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a.buffer for _, a in self.arguments if isinstance(a, Ref)))

    def reads(self) -> tuple[str, ...]:
        return tuple(b for b in self.buffers() if b not in self.writes)


@dataclass(frozen=True)
class Plan:
    """All that a call does. `outputs` are (label, buffer); shapes and element types of inputs and outputs are the
    graph's. `own`: bytes of each worker's own memory.
    """

    name: str
    target: str
    batch: int
    buffers: tuple[Buffer, ...]
    setup: tuple[Step, ...]
    steps: tuple[Step, ...]
    outputs: tuple[tuple[str, str], ...]
    arena: int
    own: int
    scratch: int

    def __str__(self) -> str:
        return print_plan(self)

    def kernels(self) -> tuple[KernelName, ...]:
        return tuple(dict.fromkeys(s.kernel for s in (*self.setup, *self.steps)))

    def lasting(self) -> frozenset[str]:
        """The buffers that calls need; the others are of use to the setup alone."""
        return frozenset(b for s in self.steps for b in s.buffers()) | {b for _, b in self.outputs}

    def bytes_in(self, place: str) -> int:
        """Bytes of the lasting buffers of a place."""
        lasting = self.lasting()
        return sum(b.bytes for b in self.buffers if b.place == place and b.name in lasting)


# ------------------------------------------------------------------------------------------------ text

_EXPRESSIONS = ("expression", "expressions", "epilogue")


def _is_expression(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and bool(value)
        and isinstance(value[0], str)
        and value[0] in ("var", "const", *ex.FUNCTIONS)
    )


def _parameter(name: str, value: Any) -> str:
    """Expressions print as quoted text, everything else as Python would write it."""
    if name in _EXPRESSIONS and _is_expression(value):
        return f"'{ex.text(value)}'"
    if isinstance(value, tuple):
        return f"[{', '.join(_parameter(name, v) for v in value)}]"
    return repr(value)


def _read_parameter(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_read_parameter(name, v) for v in value)
    return ex.parse(value) if name in _EXPRESSIONS and isinstance(value, str) else value


def _print_step(step: Step) -> str:
    def argument(value: int | Ref) -> str:
        return (
            str(value) if isinstance(value, int) else f"%{value.buffer}" + (f"+{value.offset}" if value.offset else "")
        )

    arguments = ", ".join(f"{k}={argument(v)}" for k, v in step.arguments)
    note = f"   # {step.note}" if step.note else ""
    chunks = f"{step.chunks} / {step.links}" if step.links else str(step.chunks)
    return f"%{step.node}: {step.kernel}({arguments}) * {chunks} -> {', '.join(f'%{w}' for w in step.writes)}{note}"


def print_plan(plan: Plan) -> str:
    lines = [
        f"plan @{plan.name} target={plan.target} batch={plan.batch} arena={plan.arena} own={plan.own} scratch={plan.scratch} {{"
    ]
    for b in plan.buffers:
        place = (
            f"{b.place} {b.offset}"
            if b.place in PLACED
            else f"table [{','.join(map(str, b.data))}]"
            if b.place == "table"
            else b.place
        )
        lines.append(f"  buffer %{b.name} {b.bytes} {place}")
    lines += [f"  setup {_print_step(s)}" for s in plan.setup]
    lines += [f"  {'then' if s.follows else 'step'} {_print_step(s)}" for s in plan.steps]
    lines += [f"  output %{buffer} {label!r}" for label, buffer in plan.outputs]
    return "\n".join([*lines, "}", ""])


class _Line:
    """A line of Plan text, read from left to right."""

    def __init__(self, source: Source, text: str, at: int) -> None:
        self.source, self.text, self.at = source, text, at
        self.i = 0

    def fail(self, message: str) -> CnncError:
        return CnncError(Diagnostic("E0505", message, Span(self.source, self.at + self.i, self.at + self.i + 1)))

    def accept(self, token: str) -> bool:
        rest = self.text[self.i :]
        stripped = rest.lstrip(" ")
        if stripped.startswith(token):
            self.i += len(rest) - len(stripped) + len(token)
            return True
        return False

    def expect(self, token: str) -> None:
        if not self.accept(token):
            raise self.fail(f"expected '{token}'")

    def take(self, allowed: str, what: str) -> str:
        while self.i < len(self.text) and self.text[self.i] == " ":
            self.i += 1
        start = self.i
        while self.i < len(self.text) and (self.text[self.i].isalnum() or self.text[self.i] in allowed):
            self.i += 1
        if start == self.i:
            raise self.fail(f"expected {what}")
        return self.text[start : self.i]

    def name(self) -> str:
        self.expect("%")
        return self.take("_.~", "a name")

    def number(self) -> int:
        text = self.take("-", "a number")
        try:
            return int(text)
        except ValueError:
            raise self.fail(f"'{text}' is no number") from None

    def literal(self) -> Any:
        """A Python literal: up to the comma or brace that ends it."""
        while self.i < len(self.text) and self.text[self.i] == " ":
            self.i += 1
        start, depth, quoted = self.i, 0, False
        while self.i < len(self.text):
            c = self.text[self.i]
            if c == "'":
                quoted = not quoted
            elif not quoted:
                if c in ",}" and depth == 0:
                    break
                depth += (c == "[") - (c == "]")
            self.i += 1
        try:
            return ast.literal_eval(self.text[start : self.i])
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise self.fail("not a value") from None


def _read_step(line: _Line, follows: bool = False) -> Step:
    node = line.name()
    line.expect(":")
    family = line.take("_", "a kernel")
    line.expect("{")
    parameters: list[tuple[str, Any]] = []
    while not line.accept("}"):
        if parameters:
            line.expect(",")
        key = line.take("_", "a parameter")
        line.expect("=")
        parameters.append((key, _read_parameter(key, line.literal())))
    line.expect("(")
    arguments: list[tuple[str, int | Ref]] = []
    while not line.accept(")"):
        if arguments:
            line.expect(",")
        key = line.take("_", "an argument")
        line.expect("=")
        if line.text[line.i : line.i + 1] == "%":
            buffer = line.name()
            arguments.append((key, Ref(buffer, line.number() if line.accept("+") else 0)))
        else:
            arguments.append((key, line.number()))
    line.expect("*")
    chunks = line.number()
    links = line.number() if line.accept("/") else 0
    line.expect("->")
    writes = []
    while line.text[line.i :].lstrip().startswith("%"):
        writes.append(line.name())
        if not line.accept(","):
            break
    rest = line.text[line.i :].strip()
    kernel, note = KernelName(family, tuple(parameters)), rest[1:].strip()
    return Step(node, kernel, tuple(arguments), chunks, tuple(writes), note, links, follows)


def parse_plan(text: str, name: str = "<plan>") -> Plan:
    """The Plan of a text. Raises `CnncError` (E0505)."""
    source = Source(name, text)
    lines: list[_Line] = []
    at = 0
    for raw in text.split("\n"):
        if raw.strip():
            lines.append(_Line(source, raw, at))
        at += len(raw) + 1
    if not lines:
        raise CnncError(Diagnostic("E0505", "the text of a plan is empty", Span(source, 0, 1)))
    head, *body = lines
    head.expect("plan")
    head.expect("@")
    title = head.take("_.", "a name")
    head.expect("target=")
    target = head.take("_", "a target")
    numbers = []
    for key in ("batch", "arena", "own", "scratch"):
        head.expect(f"{key}=")
        numbers.append(head.number())
    head.expect("{")
    buffers, setup, steps, outputs = [], [], [], []
    for line in body:
        if line.accept("buffer"):
            buffers.append(_read_buffer(line))
        elif line.accept("setup"):
            setup.append(_read_step(line))
        elif line.accept("step"):
            steps.append(_read_step(line))
        elif line.accept("then"):
            if not steps:
                raise line.fail("nothing stands before what follows")
            steps.append(_read_step(line, follows=True))
        elif line.accept("output"):
            buffer = line.name()
            outputs.append((str(line.literal()), buffer))
        else:
            line.expect("}")
    return Plan(title, target, numbers[0], tuple(buffers), tuple(setup), tuple(steps), tuple(outputs), *numbers[1:])


def _read_buffer(line: _Line) -> Buffer:
    name, size = line.name(), line.number()
    place = line.take("", "a place")
    if place not in PLACES:
        raise line.fail(f"unknown place '{place}'")
    if place in PLACED:
        return Buffer(name, place, size, line.number())
    if place == "table":
        return Buffer(name, place, size, 0, tuple(line.literal()))
    return Buffer(name, place, size)
