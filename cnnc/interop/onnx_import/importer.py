"""Calls of operators -> the graph of a network, its parameters and their values.

What depends on no input is calculated here, shapes above all; what is left has a rule for each operator, in `rules/`.
Parameters get the names that PyTorch would give them: those of the model's tensors where they have some, otherwise that
of the layer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cnnc.interop.onnx_import import known
from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.folding import fold_call
from cnnc.interop.onnx_import.reading import shortest
from cnnc.ir import expression as ex
from cnnc.ir.builder import Builder
from cnnc.ir.layer import LAYERS, ParameterSpec, Site
from cnnc.ir.legal import check_attributes, check_type
from cnnc.ir.op import OPS, InferenceError
from cnnc.ir.types import PLAIN, Dim, TensorType, product
from cnnc.untrusted import Malformed

Array = np.ndarray[Any, Any]
Result = str | Array  # a value of the graph, or what is known
Rule = Callable[["Importer", Call], Result | Sequence[Result | None]]
RULES: dict[str, Rule] = {}
MOVES = ("Reshape", "Unsqueeze", "Squeeze", "Identity", "Cast", "Transpose", "Flatten")  # what keeps the values
ROOM = 1 << 24  # numbers that may be calculated in all, besides some for each that the file holds
LONGEST = 400  # characters of a message
_ENDINGS = re.compile(
    r"(?i)[._](weights?|bias(es)?|gamma|beta|scale|w_\d+|b_\d+|kernel|running_(mean|var)|moving_(mean|variance)|mean|variance|"
    r"slope|alpha|w|b)(_quantized)?(:\d+)?$"
)
_ANONYMOUS = re.compile(r"onnx::\w+|\d+|.*_output(_\d+)?|(init|const|constant|val|tensor)?[._]?\d+", re.IGNORECASE)


def rule(*operators: str) -> Callable[[Rule], Rule]:
    """Register what operators of these names become."""

    def register(function: Rule) -> Rule:
        RULES.update(dict.fromkeys(operators, function))
        return function

    return register


def identifier(text: str) -> str:
    """A name that values may have: letters, digits, `_`, in parts joined by dots."""
    parts = [re.sub(r"[^A-Za-z0-9_]", "_", p) for p in re.split(r"[./:]+", text)]
    return ".".join(p for p in parts if p)[:120]


def label_of(call: Call) -> str:
    """The name of what a call makes: that of the module it came from, where the exporter says so.

    PyTorch writes the path of modules, each with the path so far: /layer1/layer1.0/conv1/Conv is layer1.0.conv1.
    """
    if "/" in call.name:
        path: list[str] = []
        for part in [p for p in call.name.split("/") if p][:-1]:
            if path and part.startswith(f"{path[-1]}."):
                path.pop()
            path.append(part)
        if path:
            return identifier(".".join(path))
    name = identifier(call.name) or identifier(call.outputs[0] if call.outputs else "")
    return name if name and not name.isdigit() else call.operator.lower()


@dataclass(frozen=True)
class Pooled:
    """What was pooled, and how."""

    x: str
    attributes: Mapping[str, Any]


@dataclass
class Importer:
    """A graph that grows. values: what each of the model's values is, by its name there."""

    builder: Builder
    opset: int
    values: dict[str, Result] = field(default_factory=dict)
    parameters: dict[str, ParameterSpec] = field(default_factory=dict)
    weights: dict[str, Array] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    label: str = ""
    kinds: dict[str, int] = field(default_factory=dict)  # ONNX's element types, of inputs and of what was cast
    pooled: dict[str, Pooled] = field(default_factory=dict)  # by the name of the indices of their maxima
    room: int = ROOM  # numbers that may still be made of what is known
    sources: dict[str, str] = field(default_factory=dict)  # what known values are in another shape
    _made: dict[tuple[Any, ...], str] = field(default_factory=dict)

    # ---- operands

    def fixed(self, call: Call, position: int) -> Array | None:
        """An operand where it is known, None where it is left out or depends on an input."""
        value = self.values.get(call.inputs[position]) if call.has(position) else None
        return None if value is None or isinstance(value, str) else value

    def known(self, call: Call, position: int, what: str) -> Array:
        """An operand that must be known. Raises `Unsupported`."""
        value = self.fixed(call, position)
        if value is None:
            raise Unsupported(call, f"its {what} depends on the input, or is not given")
        return value

    def numbers(self, call: Call, position: int, name: str) -> tuple[int, ...] | None:
        """Whole numbers that are an operand in some versions and an attribute in others."""
        if call.has(position):
            array = self.known(call, position, name)
            return tuple(int(v) for v in np.asarray(array).reshape(-1))
        return call.integers(name)

    def number(self, call: Call, position: int, name: str, default: float) -> float:
        """A number that is an operand in some versions and an attribute in others."""
        if call.has(position):
            return float(self.known(call, position, name).reshape(-1)[0])
        return call.number(name, default)

    def tensor(self, call: Call, position: int) -> str:
        """An operand as a value of the graph; what is known becomes a parameter, or a number."""
        if not call.has(position):
            raise Malformed(f"operand {position} is missing")
        value = self.values.get(call.inputs[position])
        if value is None:
            raise Malformed(f"'{call.inputs[position][:80]}' is used before it is made")
        return value if isinstance(value, str) else self.constant(value, call.inputs[position])

    def type(self, value: str) -> TensorType:
        return self.builder.type(value)

    def shape(self, call: Call, position: int) -> tuple[Dim, ...]:
        value = self.values[call.inputs[position]]
        return self.type(value).shape if isinstance(value, str) else tuple(np.shape(value))

    def constant(self, array: Array, name: str) -> str:
        """A known array as a value: a number where it has one, a parameter otherwise."""
        if known.is_open(array):
            raise Malformed("the batch, which is open, is calculated with like a tensor")
        if array.size == 1 and array.ndim == 0:
            return self.number_node(array)
        return self.parameter(array, name, "", PLAIN.get(array.ndim))

    def number_node(self, array: Array) -> str:
        value = shortest(float(array.reshape(()))) if array.dtype.kind == "f" else float(array.reshape(()))
        return self.builder.add("constant", [], {"value": value}, f"{self.label}.constant")

    # ---- what is made

    def add(self, op: str, operands: Sequence[str | None], attributes: Mapping[str, Any] | None = None) -> str:
        """A node; its first result. Raises `InferenceError`."""
        check_attributes(OPS[op], dict(attributes or {}))
        result = self.builder.add(op, operands, attributes, self.label)
        check_type(self.type(result), f"the result of {op}")
        return result

    def make(self, *shape: int) -> None:
        """Take room for an array that is calculated. Raises `Malformed` where there is none."""
        self._take(product(known.bounded(shape, "it needs an array that")))

    def _take(self, count: int) -> None:
        self.room -= count
        if self.room < 0:
            raise Malformed("more is calculated when the model is read than it holds")

    def pointwise(self, expression: str, *operands: str) -> str:
        """An expression over a0, a1, ..., whose values have one rank, or are numbers or vectors of channels.
        Raises `Malformed` where there are fewer.
        """
        wanted = {int(name[1:]) for name in ex.variables(ex.parse(expression))}
        if any(k >= len(operands) for k in wanted):
            raise Malformed(f"operand {len(operands)} is missing")
        return self.add("pointwise", operands, {"expressions": [expression]})

    def parameter(
        self,
        array: Array,
        source: str,
        short: str,
        layout: str | None = None,
        start: str = "uniform_fan_in",
        trained: bool = True,
    ) -> str:
        """A parameter, or a running statistic: `label.short`, or named as in the model. One for each that is used."""
        source, values = self.sources.get(source, source), np.ascontiguousarray(array, np.float32)
        key = (source, values.shape, layout, trained, values.tobytes() if values.size < 64 else values.ctypes.data)
        if source and key in self._made:
            return self._made[key]
        own = identifier(source) if source and not _ANONYMOUS.fullmatch(source) else ""
        name = f"{self.label}.{short}" if short else own or f"{self.label}.constant"
        name = self.builder.fresh(name)
        fan_in = max(1, values[:1].size)
        spec = ParameterSpec(values.shape, layout, start, fan_in, trained)
        made = (self.builder.param if trained else self.builder.state)(name, spec.type)
        self.parameters[name], self.weights[name] = spec, values
        self._made[key] = made
        return made

    def layer(self, call: Call, position: int = 1) -> None:
        """Name the layer by its weights, where the model names them by it."""
        source = self.sources.get(call.inputs[position], call.inputs[position])
        stem = _ENDINGS.sub("", source)
        if stem and stem != source and not _ANONYMOUS.fullmatch(stem):
            stem = identifier(stem)
            if stem not in self.labels:
                self.label = stem
        self.labels.add(self.label)

    def apply(
        self, layer: str, x: str, arguments: Mapping[str, Any], parameters: Mapping[str, tuple[Array, str]]
    ) -> str:
        """A layer of the language, with the values of its parameters and what the model calls them. Raises
        `InferenceError`, and `Malformed` for values that do not fit.
        """
        record = LAYERS[layer]
        given = {a.name: arguments.get(a.name, a.default) for a in record.arguments}
        specs = record.parameters([self.type(x)], given)
        made = {}
        for short, spec in specs.items():
            array, source = parameters[short]
            if array.size != product(spec.shape):
                raise Malformed(f"its {short} {list(array.shape)} does not fit {list(spec.shape)}")
            start = spec.initialization if isinstance(spec.initialization, str) else "zeros"
            made[short] = self.parameter(array.reshape(spec.shape), source, short, spec.layout, start, spec.trained)
        result = record.build(Site(self.builder, (x,), made, given, self.builder.fresh(self.label)))
        assert isinstance(result, str), f"{layer} gives several tensors"
        return result

    # ---- broadcasting

    def aligned(self, value: Result, rank: int, source: str = "") -> str:
        """A value so that it broadcasts the model's way, from the last axis on, in a result of `rank` axes."""
        if isinstance(value, str):
            t = self.type(value)
            if t.rank in (0, rank) or (t.rank == 1 and rank == 2):
                return value
            return self.add("reshape", [value], {"shape": (*[1] * (rank - t.rank), *t.shape)})
        if known.is_open(value):
            raise Malformed("the batch, which is open, is calculated with like a tensor")
        if value.size == 1:
            return self.number_node(value)
        whole = np.reshape(value, (*[1] * (rank - value.ndim), *value.shape))
        if rank >= 2 and all(d == 1 for i, d in enumerate(whole.shape) if i != 1):
            whole = whole.reshape(-1)
        return self.parameter(whole, source, "", PLAIN.get(whole.ndim))

    def broadcast(self, call: Call) -> list[str]:
        """All operands, aligned. Before opset 7 the second begins at an axis of the first, where that is said."""
        values = [self.values[name] for name in call.inputs]
        if self.opset < 7 and call.integer("broadcast", 0) and call.get("axis") is not None and len(values) == 2:
            values[1] = self._from_axis(values, call.integer("axis", 0))
        rank = max((self.type(v).rank if isinstance(v, str) else v.ndim) for v in values)
        return [self.aligned(v, rank, name) for v, name in zip(values, call.inputs, strict=True)]

    def _from_axis(self, values: Sequence[Result], axis: int) -> Result:
        """The second operand with axes of 1 behind, so that its first is the given one of the first operand."""
        whole, part = ((self.type(v).rank if isinstance(v, str) else v.ndim) for v in values)
        behind = whole - axis % max(1, whole) - part
        value = values[1]
        if behind <= 0:
            return value
        if isinstance(value, str):
            return self.add("reshape", [value], {"shape": (*self.type(value).shape, *[1] * behind)})
        return value.reshape(*value.shape, *[1] * behind)

    # ---- a call

    def call(self, call: Call) -> None:
        """Take a call into the graph. Raises `Unsupported`, `Malformed`."""
        self.label = label_of(call)
        given: list[Any] = []
        for name in call.inputs:
            if name and name not in self.values:
                raise Malformed(f"'{name[:80]}' is used before it is made")
            given.append(self.values[name] if name else None)
        results: list[Any] | None = None if any(isinstance(v, str) for v in given) else self._folded(call, given)
        if results is None:
            if call.operator not in RULES:
                raise Unsupported(call, "it is calculated when a model is read, and depends on the input here")
            made = self._by_rule(call)
            results = [made] if isinstance(made, str | np.ndarray) else list(made)
        if len(results) < len([o for o in call.outputs if o]):
            raise Unsupported(call, f"it gives {len(call.outputs)} results here, of which {len(results)} are read")
        for name, value in zip(call.outputs, results, strict=False):
            if name and value is not None:
                self.values[name] = value

    def _folded(self, call: Call, given: Sequence[Array | None]) -> list[Array] | None:
        """The results of a call whose operands are known, None where it has to be run; what is no part of an operand takes
        of the room that there is.
        """
        results = fold_call(call, given)
        for array in results or ():
            if not any(array.size <= np.size(g) and np.may_share_memory(array, g) for g in given if g is not None):
                self._take(array.size)
        if results is not None and call.operator in MOVES and call.inputs:
            self.sources[call.outputs[0]] = self.sources.get(call.inputs[0], call.inputs[0])
        return results

    def _by_rule(self, call: Call) -> Result | Sequence[Result | None]:
        try:
            return RULES[call.operator](self, call)
        except (ValueError, IndexError, TypeError, KeyError, OverflowError, ZeroDivisionError) as e:
            if isinstance(e, Malformed | InferenceError):
                raise
            raise Malformed(f"its operands and attributes do not fit: {e}") from e


def run(importer: Importer, calls: Iterable[Call]) -> list[tuple[Call, str]]:
    """Take all calls; what could not be taken, and why. Operators that nobody knows are found all at once."""
    calls = list(calls)
    unknown = [(c, "") for c in calls if c.domain or (c.operator not in RULES and not _foldable(c))]
    if unknown:
        return unknown
    for call in calls:
        try:
            importer.call(call)
        except Unsupported as e:
            return [(call, cut(e.why))]
        except Malformed as e:
            return [(call, cut(str(e)))]
        except InferenceError as e:
            return [(call, cut(e.message))]
    return []


def cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _foldable(call: Call) -> bool:
    return call.operator in known.FOLDED or call.operator == "Constant"
