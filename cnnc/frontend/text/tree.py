"""Lark's tree -> the syntax tree."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnnc.diagnostics import CnncError, Diagnostic, Source, Span
from cnnc.frontend.text import syntax
from cnnc.frontend.text.parser import tree_of
from cnnc.frontend.text.scan import NESTING

if TYPE_CHECKING:
    from lark import Token, Tree

_LABEL_PART = re.compile(r"\{([^{}\n]*)\}|[^{}]+")
LARGEST = 2**63


def parse(source: Source) -> syntax.File:
    """The syntax tree of a file. Raises `CnncError` with up to 20 errors (E01xx, E0401, E0403)."""
    return TreeBuilder(source).file(tree_of(source, "start"))


def parse_expression(source: Source) -> syntax.Expression:
    """The syntax tree of one expression, as `-p name=value` gives it."""
    return TreeBuilder(source).expression(tree_of(source, "expression"))


class TreeBuilder:
    """Builds the nodes of one source. `shift` is added to every offset: the place of an expression inside a label."""

    def __init__(self, source: Source, shift: int = 0) -> None:
        self.source, self.shift, self.depth = source, shift, 0
        self._edges: dict[tuple[int, int], Token] = {}

    def fail(self, code: str, message: str, span: Span, help: str | None = None) -> CnncError:
        return CnncError(Diagnostic(code, message, span, (), help))

    # --- places and names

    def _edge(self, tree: Any, step: int) -> Token:
        """The first token of a tree, or, with a step of -1, the last. Where the way is long the trees on it remember:
        a deep tree is gone through once.
        """
        path = []
        while hasattr(tree, "children"):
            found = self._edges.get((id(tree), step))
            if found is not None:
                tree = found
                break
            path.append(tree)
            tree = next(c for c in (tree.children if step > 0 else reversed(tree.children)) if c is not None)
        if len(path) > 4:
            for passed in path:
                self._edges[id(passed), step] = tree
        return _token(tree)

    def span(self, tree: Any) -> Span:
        """From the first token of a tree to its last."""
        first, last = self._edge(tree, 1), self._edge(tree, -1)
        return Span(self.source, (first.start_pos or 0) + self.shift, (last.end_pos or 0) + self.shift)

    def token(self, token: Token) -> Span:
        return Span(self.source, (token.start_pos or 0) + self.shift, (token.end_pos or 0) + self.shift)

    def name(self, token: Token) -> syntax.Name:
        return syntax.Name(self.token(token), str(token))

    # --- items

    def file(self, tree: Tree[Token]) -> syntax.File:
        items = tuple(getattr(self, f"_{t.data}")(t) for t in tree.children if not isinstance(t, str))
        return syntax.File(Span(self.source, 0, len(self.source.text)), items)

    def doc(self, tree: Tree[Token]) -> str:
        """The `##` lines right above an item."""
        lines: list[str] = []
        number = self.source.position(self.span(tree).start)[0] - 1
        while number >= 1 and (line := self.source.line(number).strip()).startswith("##"):
            lines.append(line[2:].strip())
            number -= 1
        return "\n".join(reversed(lines))

    def _include(self, tree: Tree[Token]) -> syntax.Include:
        return syntax.Include(self.token(_token(tree.children[1])), str(tree.children[1])[1:-1])

    def _const(self, tree: Tree[Token]) -> syntax.Const:
        _, name, value = tree.children
        return syntax.Const(self.span(tree), self.name(_token(name)), self.expression(value), self.doc(tree))

    def _block(self, tree: Tree[Token]) -> syntax.Block:
        _, name, parameters, body = tree.children
        return syntax.Block(
            self.span(tree), self.name(_token(name)), self.parameters(parameters), self.body(body), self.doc(tree)
        )

    def _model(self, tree: Tree[Token]) -> syntax.Model:
        _, name, parameters, body = tree.children
        return syntax.Model(
            self.span(tree), self.name(_token(name)), self.parameters(parameters), self.body(body), self.doc(tree)
        )

    def _activation(self, tree: Tree[Token]) -> syntax.Activation:
        _, name, parameters, value = tree.children
        return syntax.Activation(
            self.span(tree),
            self.name(_token(name)),
            self.parameters(parameters),
            self.expression(value),
            self.doc(tree),
        )

    def _train(self, tree: Tree[Token]) -> syntax.Train:
        return syntax.Train(self.token(_token(tree.children[0])), self.settings(tree.children[1]), self.doc(tree))

    def parameters(self, tree: Any) -> tuple[syntax.Parameter, ...]:
        return tuple(
            syntax.Parameter(self.span(p), self.name(p.children[0]), self.maybe(p.children[1]))
            for p in (tree.children if tree is not None else ())
            if p is not None
        )

    def settings(self, tree: Any) -> tuple[syntax.Setting, ...]:
        return tuple(
            syntax.Setting(self.span(s), self.name(s.children[0]), self.expression(s.children[1]))
            for s in (tree.children[:-1] if tree is not None else ())
        )

    # --- statements

    def body(self, tree: Any) -> tuple[syntax.Statement, ...]:
        return tuple(getattr(self, f"_{t.data}")(t) for t in tree.children[:-1])

    def _input(self, tree: Tree[Token]) -> syntax.Input:
        _, name, type, settings = tree.children
        return syntax.Input(self.span(tree), self.name(_token(name)), self.type(type), self.settings(settings))

    def _param(self, tree: Tree[Token]) -> syntax.Param:
        _, name, type, start = tree.children
        return syntax.Param(self.span(tree), self.name(_token(name)), self.type(type), self.expression(start))

    def type(self, tree: Any) -> syntax.Type:
        dtype, *dims, _ = tree.children
        return syntax.Type(self.span(tree), self.name(dtype), tuple(map(self.expression, dims)))

    def _assign(self, tree: Tree[Token]) -> syntax.Assign:
        targets, value = tree.children
        return syntax.Assign(self.span(tree), self.targets(targets), self.expression(value))

    def targets(self, tree: Any) -> tuple[syntax.Name, ...]:
        return tuple(map(self.name, tree.children))

    def _for(self, tree: Tree[Token]) -> syntax.For:
        _, targets, _, over, body = tree.children
        over_range = getattr(over, "data", "") == "range"
        return syntax.For(
            self.span(tree),
            self.targets(targets),
            self._range(over) if over_range else self.expression(over),
            self.body(body),
        )

    def _range(self, tree: Any) -> syntax.Range:
        return syntax.Range(self.span(tree), self.expression(tree.children[0]), self.expression(tree.children[2]))

    def _if(self, tree: Tree[Token]) -> syntax.If:
        parts = [t for t in tree.children if t is not None and not isinstance(t, str)]
        clauses = [(self.expression(c), self.body(b)) for c, b in zip(parts[0::2], parts[1::2], strict=False)]
        otherwise = [(None, self.body(parts[-1]))] if len(parts) % 2 else []
        return syntax.If(self.span(tree), (*clauses, *otherwise))

    def _expect(self, tree: Tree[Token]) -> syntax.Expect:
        return syntax.Expect(self.span(tree), self.name(_token(tree.children[1])), self.type(tree.children[2]))

    def _return(self, tree: Tree[Token]) -> syntax.Return:
        return syntax.Return(self.span(tree), tuple(map(self.expression, tree.children[1:])))

    # --- expressions

    def maybe(self, tree: Any) -> syntax.Expression | None:
        return None if tree is None else self.expression(tree)

    def expression(self, tree: Any) -> syntax.Expression:
        self.depth += 1
        if self.depth > NESTING:
            raise self.fail(
                "E0403",
                f"expressions nest deeper than {NESTING}",
                self.span(tree),
                "name the inner parts, or make them blocks",
            )
        result: syntax.Expression = getattr(self, f"_{tree.data}")(tree)
        self.depth -= 1
        return result

    def _number(self, tree: Tree[Token]) -> syntax.Number:
        text = str(tree.children[0])
        value = float(text) if any(c in ".eE" for c in text) else int(text)
        if value >= LARGEST if isinstance(value, int) else not math.isfinite(value):
            raise self.fail(
                "E0404",
                f"the number {text[:40]} is too large",
                self.span(tree),
                "whole numbers are below 2**63, others below 1.8e308",
            )
        return syntax.Number(self.span(tree), value)

    def _string(self, tree: Tree[Token]) -> syntax.Text:
        return syntax.Text(self.span(tree), str(tree.children[0])[1:-1])

    def _word(self, tree: Tree[Token]) -> syntax.Word:
        return syntax.Word(self.span(tree), {"true": True, "false": False, "none": None}[str(tree.children[0])])

    def _name(self, tree: Tree[Token]) -> syntax.Name:
        return self.name(_token(tree.children[0]))

    def _list(self, tree: Tree[Token]) -> syntax.List:
        return syntax.List(self.span(tree), tuple(self.expression(t) for t in tree.children[1:-1] if t is not None))

    def _dict(self, tree: Tree[Token]) -> syntax.Dict:
        return syntax.Dict(self.span(tree), tuple(self.pair(t) for t in tree.children[1:-1] if t is not None))

    def pair(self, tree: Any) -> tuple[syntax.Expression, syntax.Expression]:
        key, value = tree.children
        if tree.data == "named_pair":
            return syntax.Text(self.token(key), str(key)), self.expression(value)
        return self.expression(key), self.expression(value)

    def _attribute(self, tree: Tree[Token]) -> syntax.Attribute:
        return syntax.Attribute(self.span(tree), self.expression(tree.children[0]), self.name(_token(tree.children[1])))

    def _index(self, tree: Tree[Token]) -> syntax.Index:
        value, *entries = (t for t in tree.children if not isinstance(t, str))
        return syntax.Index(self.span(tree), self.expression(value), tuple(map(self.entry, entries)))

    def entry(self, tree: Any) -> syntax.Expression | syntax.Slice:
        """An index, or `start:stop:step`."""
        if tree.data != "slice":
            return self.expression(tree)
        start, _, stop, _, step = tree.children
        return syntax.Slice(self.span(tree), self.maybe(start), self.maybe(stop), self.maybe(step))

    def _apply(self, tree: Tree[Token]) -> syntax.Call:
        return syntax.Call(self.span(tree), self.expression(tree.children[0]), self.arguments(tree.children[1]))

    def arguments(self, call: Any) -> tuple[syntax.Argument, ...]:
        given = call.children[1].children if call.children[1] is not None else ()
        return tuple(
            syntax.Argument(
                self.span(a),
                self.name(a.children[0]) if a.children[0] is not None else None,
                self.expression(a.children[1]),
            )
            for a in given
            if a is not None
        )

    def _unary(self, tree: Tree[Token]) -> syntax.Unary:
        return syntax.Unary(self.span(tree), str(tree.children[0]), self.expression(tree.children[1]))

    def _chain(self, tree: Tree[Token]) -> syntax.Chain | syntax.Unary:
        first, *rest = tree.children
        pairs = zip(rest[0::2], rest[1::2], strict=True)
        return syntax.Chain(
            self.span(tree),
            self.expression(first),
            tuple((str(o), self.token(_token(o)), self.expression(t)) for o, t in pairs),
        )

    _or = _and = _comparison = _sum = _product = _power = _chain

    def _choose(self, tree: Tree[Token]) -> syntax.Choose:
        condition, then, otherwise = map(self.expression, tree.children)
        return syntax.Choose(self.span(tree), condition, then, otherwise)

    def _pipe(self, tree: Tree[Token]) -> syntax.Pipe:
        start, *steps = tree.children
        return syntax.Pipe(
            self.span(tree), self.expression(start), tuple(self.step(t) for t in steps if not isinstance(t, str))
        )

    def step(self, tree: Any) -> syntax.Step:
        callee, call, _, label = tree.children
        return syntax.Step(
            self.span(tree),
            self.expression(callee),
            None if call is None else self.arguments(call),
            None if label is None else self.label(label),
        )

    def _label(self, tree: Tree[Token]) -> syntax.Labelled:
        value, _, label = tree.children
        return syntax.Labelled(self.span(tree), self.expression(value), self.label(_token(label)))

    def label(self, token: Token) -> syntax.Label:
        """`layer{i + 1}.{j}`: the pieces in braces are expressions."""
        span = self.token(token)
        parts: list[str | syntax.Expression] = []
        for match in _LABEL_PART.finditer(str(token)):
            parts.append(match[0] if match[1] is None else self.inner(match[1], span.start + match.start() + 1))
        return syntax.Label(span, tuple(parts))

    def inner(self, text: str, offset: int) -> syntax.Expression:
        try:
            tree = tree_of(Source(self.source.name, text), "expression")
        except CnncError as e:
            moved = [
                replace(d, span=Span(self.source, d.span.start + offset, d.span.end + offset)) if d.span else d
                for d in e.diagnostics
            ]
            raise CnncError(moved) from None
        builder = TreeBuilder(self.source, offset)
        builder.depth = self.depth
        return builder.expression(tree)


def _token(value: Any) -> Token:
    return value  # type: ignore[no-any-return]
