"""The graph as text, and the text as graph: `parse_graph(print_graph(g)) == g`."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput
from lark.exceptions import VisitError

from cnnc import storage
from cnnc.diagnostics import CnncError, Diagnostic, Origin, Source, Span, did_you_mean
from cnnc.ir.graph import LEAVES, Attributes, Graph, Node, print_graph, print_node, print_value
from cnnc.ir.op import OPS
from cnnc.ir.types import BATCH, DTYPES, TensorType
from cnnc.ir.verify import verify as verify_graph
from cnnc.untrusted import AXES

__all__ = ["LIMIT", "max_depth", "parse_graph", "print_graph", "print_node", "print_value"]

LIMIT = 16 << 20  # characters of IR text that are read


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return storage.grammar("ir.lark", propagate_positions=True)


Items = list[Any]  # in the class below, `list` is a rule of the grammar


class _Reader(Transformer[Token, Any]):
    def __init__(self, source: Source) -> None:
        super().__init__()
        self.source = source
        self.types: dict[str, TensorType] = {}

    def fail(self, code: str, message: str, token: Any, **more: Any) -> CnncError:
        start = getattr(token, "start_pos", 0) or 0
        return CnncError(
            Diagnostic(code, message, Span(self.source, start, getattr(token, "end_pos", None) or start + 1), **more)
        )

    def number(self, items: Items) -> int | float:
        text = str(items[0])
        if len(text) > 400:
            raise self.fail("E0501", f"a number of {len(text)} digits", items[0])
        if not text.lstrip("-").isdigit():
            return float(text)
        if not -(2**63) <= int(text) < 2**63:
            raise self.fail("E0501", f"{text[:40]} is beyond 64 bits", items[0])
        return int(text)

    def string(self, items: Items) -> str:
        return str(items[0])[1:-1]

    def word(self, items: Items) -> Any:
        return {"true": True, "false": False}.get(str(items[0]), str(items[0]))

    def list(self, items: Items) -> tuple[Any, ...]:
        return tuple(i for i in items if i is not None)

    def present(self, items: Items) -> Any:
        return items[0]

    def absent(self, items: Items) -> None:
        return None

    def operands(self, items: Items) -> tuple[Any, ...]:
        return tuple(items)

    def attribute(self, items: Items) -> tuple[Token, Any]:
        return items[0], items[1]

    def attributes(self, items: Items) -> Items:
        return items

    def type(self, items: Items) -> TensorType:
        dtype, *dims, layout = items
        if str(dtype) not in DTYPES:
            raise self.fail("E0501", f"unknown element type '{dtype}'", dtype, help=f"one of {', '.join(DTYPES)}")
        shape = tuple(d for d in dims if d is not None)
        for d in shape:
            if d != BATCH and not (isinstance(d, int) and 0 <= d < 2**31):
                raise self.fail(
                    "E0501", f"'{d}' is no dimension", dtype, help="a whole number below 2^31, or N for the batch"
                )
        if len(shape) > AXES:
            raise self.fail("E0501", f"a type of {len(shape)} axes; {AXES} are the limit", dtype)
        return TensorType(str(dtype), shape, None if layout is None else str(layout))

    def dim(self, items: Items) -> Any:
        return items[0]

    def input(self, items: Items) -> Node:
        return self.define("input", (items[0],), (), [], (items[1],), items[0])

    def node(self, items: Items) -> Node:
        names = [i for i in items if isinstance(i, Token) and i.type == "VALUE"]
        op = next(i for i in items if isinstance(i, Token) and i.type == "OP")
        types = tuple(i for i in items if isinstance(i, TensorType))
        rest = items[len(names) + 1 : len(items) - len(types)]
        return self.define(op, tuple(names), rest[0] or (), rest[1] or [], types, op)

    def define(
        self,
        op: str,
        names: tuple[Token, ...],
        operands: tuple[Token | None, ...],
        attributes: Any,
        types: tuple[TensorType, ...],
        at: Token,
    ) -> Node:
        if op not in OPS and op not in LEAVES:
            raise self.fail("E0502", f"unknown op '{op}'", at, help=did_you_mean(op, (*OPS, *LEAVES)))
        if len(types) != len(names):
            raise self.fail("E0502", f"{len(names)} results have {len(types)} types", at)
        for o in operands:
            if o is not None and str(o)[1:] not in self.types:
                raise self.fail("E0502", f"{o} is not defined above", o, help=did_you_mean(str(o)[1:], self.types))
        given: dict[str, Any] = {}
        for key, value in attributes:
            if str(key) in given:
                raise self.fail("E0502", f"attribute '{key}' is given twice", key)
            given[str(key)] = value
        for name, type in zip(names, types, strict=True):
            if str(name)[1:] in self.types:
                raise self.fail("E0502", f"{name} is defined twice", name)
            self.types[str(name)[1:]] = type
        span = Span(self.source, at.start_pos or 0, at.end_pos or 0)
        return Node(
            str(op),
            tuple(None if o is None else str(o)[1:] for o in operands),
            Attributes(given),
            tuple(str(n)[1:] for n in names),
            types,
            Origin(span),
        )

    def defined(self, token: Token) -> str:
        if str(token)[1:] not in self.types:
            raise self.fail("E0502", f"{token} is not defined", token, help=did_you_mean(str(token)[1:], self.types))
        return str(token)[1:]

    def update(self, items: Items) -> tuple[str, str]:
        return self.defined(items[0]), self.defined(items[1])

    def output(self, items: Items) -> tuple[str, str]:
        value = self.defined(items[0])
        return (value if items[1] is None else str(items[1])[1:-1]), value

    def ret(self, items: Items) -> tuple[str, Items]:
        return "return", [i for i in items if i is not None]

    def start(self, items: Items) -> Graph:
        nodes = tuple(i for i in items if isinstance(i, Node))
        updates = tuple(i for i in items[:-1] if isinstance(i, tuple))
        return Graph(str(items[0])[1:], nodes, tuple(items[-1][1]), updates)


def parse_graph(text: str, name: str = "<ir>", verify: bool = True) -> Graph:
    """The graph of a text. Raises `CnncError` (E05xx) with the place at fault."""
    source = Source(name, text)
    if len(text) > LIMIT:
        raise CnncError(Diagnostic("E0501", f"the text has {len(text)} characters; at most {LIMIT} are read"))
    if max_depth(text) > 64:
        raise CnncError(Diagnostic("E0501", "lists are nested more than 64 deep"))
    reader = _Reader(source)
    try:
        graph: Graph = reader.transform(_parser().parse(text))
    except UnexpectedInput as e:
        at = len(text.rstrip()) if getattr(getattr(e, "token", None), "type", "") == "$END" else e.pos_in_stream or 0
        shown = text[at : at + 1].strip() or "the end"
        found = "the end" if shown == "the end" else repr(str(getattr(e, "token", None) or shown))
        names = getattr(e, "accepts", None) or getattr(e, "allowed", None) or getattr(e, "expected", None) or ()
        expected = sorted(_WORDS.get(t, t) for t in names)
        raise CnncError(
            Diagnostic(
                "E0501",
                f"{found} is unexpected here",
                Span(source, at, at + 1),
                (f"expected {', '.join(expected[:8])}",) if expected else (),
            )
        ) from None
    except VisitError as e:
        if isinstance(e.orig_exc, CnncError):
            raise e.orig_exc from None
        raise
    if verify:
        verify_graph(graph)
    return graph


def max_depth(text: str) -> int:
    depth = deepest = 0
    for c in text:
        if c in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif c in ")]}":
            depth -= 1
    return deepest


_WORDS = {
    "VALUE": "a value such as %x",
    "OP": "a name",
    "GLOBAL": "a name such as @net",
    "NUMBER": "a number",
    "STRING": "a text in quotes",
    "LPAR": "'('",
    "RPAR": "')'",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "LSQB": "'['",
    "RSQB": "']'",
    "COMMA": "','",
    "COLON": "':'",
    "EQUAL": "'='",
    "RETURN": "'return'",
    "UPDATE": "'update'",
    "GRAPH": "'graph'",
    "AS": "'as'",
    "__ANON_0": "'_'",
    "_": "'_'",
}
