"""Statements, and the bodies of blocks and models.

A statement that fails poisons the names it would have set, so that what reads them fails silently and the errors that
are reported are errors of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from cnnc.diagnostics import Origin, Span
from cnnc.frontend import syntax as s
from cnnc.frontend.apply import Applier
from cnnc.frontend.inputs import Preprocess, preprocess
from cnnc.frontend.limits import CALLS_LIMIT, ROUNDS_LIMIT
from cnnc.frontend.make import DIMENSION
from cnnc.frontend.names import assigned, labels_in, returns
from cnnc.frontend.reporting import Failure
from cnnc.frontend.values import (
    POISON,
    Batch,
    BlockValue,
    Frame,
    Given,
    Scope,
    Tensor,
    Value,
    kind,
    show,
    shown_type,
)
from cnnc.ir.types import BATCH, DTYPES, ELEMENTS, Dim, TensorType, activation

AXES_LIMIT = 8
MISSING = object()  # a body that has not returned


class Interpreter(Applier):
    """Runs bodies."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.inputs: dict[str, Preprocess] = {}
        self._labels: dict[int, frozenset[str]] = {}

    # --- blocks

    def apply_block(
        self,
        callee: BlockValue,
        positional: Sequence[Given],
        keywords: Mapping[str, Given],
        span: Span,
        frame: Frame,
        label: s.Label | None,
    ) -> Value:
        block, name = callee.block, callee.block.name.name
        if len(frame.calls) >= CALLS_LIMIT:
            self.stop(
                "E0408",
                f"blocks call each other more than {CALLS_LIMIT} deep",
                span,
                frame,
                help="a block that calls itself needs a condition that ends it; a loop is simpler",
            )
        given = self._bind_block(callee, positional, keywords, span, frame)
        self._count(span, frame)
        scope = self._block_scope(callee, span, frame, label)
        inner = Frame(callee.module, scope, {}, ((name, span), *frame.calls))
        self._defaults(block.parameters, given, inner, span, f"block {name}")
        value = self.body(block.body, inner)
        if value is MISSING:
            self.fail("E0312", f"block {name} returns nothing", block.name.span, inner, help="end it with: return x")
        if value is POISON:
            raise Failure
        return value

    def _bind_block(
        self, callee: BlockValue, positional: Sequence[Given], keywords: Mapping[str, Given], span: Span, frame: Frame
    ) -> dict[str, Given]:
        """Arguments by name. A tensor that a block value is applied to comes before the arguments it has."""
        block = callee.block
        names = [p.name.name for p in block.parameters]
        everything = [*positional[:1], *callee.positional, *positional[1:]]
        keywords = {**callee.keywords, **keywords}
        if len(everything) > len(names):
            count = f"{len(names)} argument{'s' * (len(names) != 1)}"
            self.fail(
                "E0208",
                f"block {block.name.name} takes {count}, {len(everything)} are given",
                everything[len(names)].span,
                frame,
                *([f"they are {', '.join(names)}"] if names else []),
            )
        given = dict(zip(names, everything, strict=False))
        self._no_block_argument(callee, keywords, frame)
        for name, value in keywords.items():
            if name in given:
                self.fail("E0208", f"the argument {name} is given twice", value.span, frame)
            given[name] = value
        for parameter in block.parameters:
            if parameter.default is None and parameter.name.name not in given:
                self.fail(
                    "E0207",
                    f"block {block.name.name} needs {parameter.name.name}",
                    span,
                    frame,
                    f"its arguments are {', '.join(names)}",
                )
        return given

    def _block_scope(self, callee: BlockValue, span: Span, frame: Frame, label: s.Label | None) -> Scope:
        """The scope of names of one application; a shared block finds the one of its first."""
        if callee.home is None or label is not None:
            scope = frame.scope if callee.bare or label is not None or callee.scope is None else callee.scope
            name = self.claim(label, frame) if label is not None else scope.running(callee.block.name.name, span)
            home = (scope, name)
            if not callee.bare and callee.home is None:
                callee.home = home
        where, name = callee.home if callee.home is not None else home
        memory = where.memory.setdefault(name, {})
        if not isinstance(memory, dict):
            memory = where.memory[name] = {}
        key = id(callee.block)
        if key not in self._labels:
            self._labels[key] = labels_in(callee.block.body)
        return Scope(where.full(name), memory, self._labels[key])

    def _defaults(
        self, parameters: Sequence[s.Parameter], given: Mapping[str, Given], frame: Frame, span: Span, what: str
    ) -> None:
        """Set the parameters; a default may use those before it."""
        for parameter in parameters:
            name = parameter.name.name
            if name in frame.names:
                self.fail("E0303", f"{what} has two parameters {name}", parameter.name.span)
            if name in given:
                frame.names[name] = given[name].value
            elif parameter.default is not None:
                frame.names[name] = self.evaluate(parameter.default, frame)

    # --- statements

    def body(self, statements: Sequence[s.Statement], frame: Frame) -> Value:
        """Run statements. The value returned, POISON where its statement failed, or MISSING."""
        for i, statement in enumerate(statements):
            try:
                value = self.statement(statement, frame)
            except Failure:
                for name in assigned(statement):
                    frame.names[name] = POISON
                value = POISON if returns(statement) else MISSING
            if value is not MISSING:
                if isinstance(statement, s.Return) and i + 1 < len(statements):
                    self.report(
                        "W0103",
                        "nothing after this return is reached",
                        statements[i + 1].span,
                        frame,
                        severity="warning",
                    )
                return value
        return MISSING

    def statement(self, node: s.Statement, frame: Frame) -> Value:
        """The value returned, or MISSING."""
        self.spend(1, node.span, frame)
        if isinstance(node, s.Assign):
            self._assign(node, frame)
        elif isinstance(node, s.If):
            return self._if(node, frame)
        elif isinstance(node, s.For):
            return self._for(node, frame)
        elif isinstance(node, s.Return):
            return self._return(node, frame)
        elif isinstance(node, s.Input):
            self._input(node, frame)
        else:
            self._expect(node, frame)
        return MISSING

    def _assign(self, node: s.Assign, frame: Frame) -> None:
        value = self.evaluate(node.value, frame)
        if len(node.targets) == 1:
            frame.names[node.targets[0].name] = value
        else:
            self._unpack(node.targets, value, node.value.span, frame)

    def _unpack(self, targets: Sequence[s.Name], value: Value, span: Span, frame: Frame) -> None:
        if len(targets) == 1:
            frame.names[targets[0].name] = value
            return
        if not isinstance(value, tuple):
            self.fail("E0308", f"{kind(value)} cannot be unpacked into {len(targets)} names", span, frame)
        if len(value) != len(targets):
            self.fail(
                "E0317",
                f"{len(value)} values cannot be unpacked into {len(targets)} names",
                span,
                frame,
                f"the values are {show(value)}",
            )
        for target, item in zip(targets, value, strict=True):
            frame.names[target.name] = item

    def _if(self, node: s.If, frame: Frame) -> Value:
        for condition, body in node.clauses:
            if condition is None or self.truth(self.evaluate(condition, frame), condition.span, frame):
                return self.body(body, frame)
        return MISSING

    def _for(self, node: s.For, frame: Frame) -> Value:
        for value in self._rounds(node, frame):
            self.spend(1, node.span, frame)
            self._unpack(node.targets, value, node.over.span, frame)
            result = self.body(node.body, frame)
            if result is not MISSING:
                return result
        return MISSING

    def _rounds(self, node: s.For, frame: Frame) -> Iterator[Value]:
        over = node.over
        if not isinstance(over, s.Range):
            value = self.evaluate(over, frame)
            if not isinstance(value, tuple | dict):
                number = isinstance(value, int) and not isinstance(value, bool)
                self.fail(
                    "E0308",
                    f"a loop runs over a range or a list, not {kind(value)}",
                    over.span,
                    frame,
                    help=f"write 0..{show(value)}" if number else None,
                )
            yield from value
            return
        bounds = []
        for end in (over.start, over.stop):
            value = self.evaluate(end, frame)
            if isinstance(value, Batch):
                self.number(value, "..", end.span, frame)
            if isinstance(value, bool) or not isinstance(value, int):
                self.fail(
                    "E0308", f"a range runs between whole numbers, not {kind(value)} {show(value)}", end.span, frame
                )
            bounds.append(value)
        if bounds[1] - bounds[0] > ROUNDS_LIMIT:
            self.stop(
                "E0407",
                f"this loop would run {bounds[1] - bounds[0]:,} times, more than {ROUNDS_LIMIT:,}",
                over.span,
                frame,
            )
        yield from range(*bounds)

    def _return(self, node: s.Return, frame: Frame) -> Value:
        if len(node.values) == 1 and isinstance(node.values[0], s.Dict):
            return self.dict(node.values[0], frame, names_are_texts=True)
        values = tuple(self.evaluate(v, frame) for v in node.values)
        return values[0] if len(values) == 1 else values

    def _expect(self, node: s.Expect, frame: Frame) -> None:
        value = self.evaluate(node.name, frame)
        if not isinstance(value, Tensor):
            self.fail("E0308", f"{node.name.name} is {kind(value)}, not a tensor", node.name.span, frame)
        wanted = self.type(node.type, frame)
        found = value.type
        if wanted.dtype == found.dtype and wanted.shape == found.shape:
            return
        help = f"write: expect {node.name.name}: {shown_type(found)}"
        if len(wanted.shape) != len(found.shape):
            what = f"rank {len(found.shape)}, not {len(wanted.shape)}"
        else:
            axes = [i for i, (a, b) in enumerate(zip(wanted.shape, found.shape, strict=True)) if a != b]
            what = ", ".join(f"{found.shape[i]} on axis {i}, not {wanted.shape[i]}" for i in axes)
            if len(axes) == 1:
                self.fail(
                    "E0209",
                    f"{node.name.name} has {what}",
                    node.type.dims[axes[0]].span,
                    frame,
                    f"expected {shown_type(wanted)}",
                    f"found    {shown_type(found)}",
                    help=help,
                )
        self.fail(
            "E0209",
            f"{node.name.name} has {what or found.dtype}",
            node.type.span,
            frame,
            f"expected {shown_type(wanted)}",
            f"found    {shown_type(found)}",
            help=help,
        )

    def type(self, node: s.Type, frame: Frame) -> TensorType:
        """A type; its dimensions are positive whole numbers, N, or an expression that is the batch."""
        dtype = node.dtype.name
        if dtype not in DTYPES:
            self.unknown("E0319", "unknown element type", dtype, ["f32"], node.dtype.span, frame, "values are of type")
        if len(node.dims) > AXES_LIMIT:
            self.fail(
                "E0320",
                f"this type has {len(node.dims)} axes; a tensor has at most {AXES_LIMIT}",
                node.dims[AXES_LIMIT].span,
                frame,
            )
        shape: list[Dim] = []
        for dim in node.dims:
            value = BATCH if isinstance(dim, s.Name) and dim.name == BATCH else self.evaluate(dim, frame)
            if isinstance(value, Batch):
                value = BATCH
            if value != BATCH and (isinstance(value, bool) or not isinstance(value, int)):
                self.fail("E0308", f"a size is a whole number, not {kind(value)} {show(value)}", dim.span, frame)
            if isinstance(value, int) and not 1 <= value < DIMENSION:
                code = "E0203" if value < 1 else "E0402"
                self.fail(code, f"a size of {value}: it must be at least 1 and below 2^31", dim.span, frame)
            shape.append(value)
        type = activation(tuple(shape), dtype)
        if type.elements >= ELEMENTS:
            self.fail(
                "E0402", f"a tensor of {type.elements:,} numbers an image: they must be below 2^45", node.span, frame
            )
        return type

    def _input(self, node: s.Input, frame: Frame) -> None:
        name = node.name.name
        if not frame.in_model:
            self.fail(
                "E0320",
                "an input belongs into a model, not into a block",
                node.name.span,
                frame,
                help="give the block a parameter instead",
            )
        if name in self.inputs:
            self.fail("E0303", f"there are two inputs {name}", node.name.span, frame)
        type = self.type(node.type, frame)
        if type.shape[0] != BATCH or BATCH in type.shape[1:]:
            self.fail(
                "E0320",
                "the first size of an input, and no other, is the batch N",
                node.type.dims[0].span,
                frame,
                help=f"write {node.type.dtype.name}[N, ...]",
            )
        if type.dtype != "f32":
            self.fail("E0320", f"an input holds f32, not {type.dtype}", node.type.dtype.span, frame)
        if len(type.shape) < 2:
            self.fail(
                "E0320",
                "an input has features besides the batch",
                node.type.span,
                frame,
                help="write f32[N, features] or f32[N, channels, height, width]",
            )
        frame.names[name] = Tensor(self.builder.input(name, type, Origin(node.span)), type)
        self.inputs[name] = preprocess(self, node, type, frame)
