"""What of a model is known without running it: constants, and sizes, in which the batch stays open.

Known values are NumPy arrays. One with the batch in it is an array of objects, whose items are whole numbers and
`Batch`, a multiple of the open size N.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from cnnc.ir.types import BATCH, Dim
from cnnc.untrusted import AXES, Malformed

Array = np.ndarray[Any, Any]
LARGEST = 1 << 22  # numbers of an array that is calculated, unless its operands have as many
LISTED = 1 << 18  # numbers of a list that an attribute becomes


@dataclass(frozen=True)
class Batch:
    """`times` * N. Raises `Malformed` where it is calculated with in a way that leaves no multiple of N."""

    times: int = 1

    def _other(self, what: str) -> Malformed:
        return Malformed(f"the batch, which is open, is {what}")

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, Batch):
            raise self._other("multiplied with itself")
        if other != int(other):
            raise self._other(f"multiplied with {other}")
        return Batch(self.times * int(other)) if other != 0 else 0

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> Any:
        if isinstance(other, Batch) and self.times % other.times == 0:
            return self.times // other.times
        if isinstance(other, Batch) or self.times % int(other):
            raise self._other(f"divided by {other}")
        return Batch(self.times // int(other))

    __truediv__ = __floordiv__

    def __rfloordiv__(self, other: Any) -> Any:
        raise self._other("a divisor")

    __rtruediv__ = __rfloordiv__

    def __add__(self, other: Any) -> Any:
        if isinstance(other, Batch):
            return Batch(self.times + other.times)
        if other == 0:
            return self
        raise self._other(f"added to {other}")

    __radd__ = __add__

    def __sub__(self, other: Any) -> Any:
        return 0 if other == self else self + -1 * other

    def __gt__(self, other: Any) -> bool:
        if not isinstance(other, Batch) and other > 0:
            raise self._other(f"compared with {other}")
        return not isinstance(other, Batch) or bool(self.times > other.times)

    def __lt__(self, other: Any) -> bool:
        return not self > other and self != other

    def __bool__(self) -> bool:
        return True

    def __int__(self) -> int:
        raise self._other("needed as a number")

    __index__ = __float__ = __int__


def is_open(array: Array) -> bool:
    return bool(array.dtype == object)


def closed(array: Array) -> Array:
    """An array of objects without a batch in it is one of whole numbers."""
    if is_open(array) and not any(isinstance(v, Batch) for v in array.flat):
        return array.astype(np.int64)
    return array


def of_shape(shape: Sequence[Dim]) -> Array:
    """A shape as an array."""
    items = [Batch() if d == BATCH else int(d) for d in shape]
    array = np.empty(len(items), object)
    array[:] = items
    return closed(array)


def dims(array: Array) -> tuple[Dim, ...]:
    """An array as a shape. Raises `Malformed` for multiples of the batch."""
    result: list[Dim] = []
    if array.size > AXES:
        raise Malformed(f"a shape has {array.size} axes, {AXES} are the limit")
    for item in array.reshape(-1):
        if isinstance(item, Batch):
            if item.times != 1:
                raise Malformed(f"the batch, which is open, is multiplied with {item.times} in a shape")
            result.append(BATCH)
        else:
            result.append(int(item))
    return tuple(result)


def bounded(shape: Sequence[int], what: str) -> tuple[int, ...]:
    """A shape that an array of a model may have. Raises `Malformed`."""
    total = 1
    for d in shape:
        total *= max(1, int(d))
        if int(d) < 0 or total > LARGEST or len(shape) > AXES:
            raise Malformed(
                f"{what} has the shape {[int(v) for v in shape[:AXES]]}; up to {LARGEST:,} numbers are calculated"
            )
    return tuple(int(d) for d in shape)


def _axes(given: Sequence[Any], attributes: Mapping[str, Any], at: int = 1) -> tuple[int, ...] | None:
    """`axes`, an operand since opset 13 and an attribute before."""
    if len(given) > at and given[at] is not None:
        return tuple(int(v) for v in np.asarray(given[at]).reshape(-1))
    return tuple(attributes["axes"]) if "axes" in attributes else None


def _unsqueeze(x: Array, axes: tuple[int, ...]) -> Array:
    rank = x.ndim + len(axes)
    return np.expand_dims(x, tuple(a % rank for a in axes))


def _slice(given: Sequence[Any], attributes: Mapping[str, Any]) -> Array:
    starts, ends, axes, steps = slice_arguments(given, attributes, np.ndim(given[0]))
    where: list[slice] = [slice(None)] * np.ndim(given[0])
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = given[0].shape[axis]
        stop = None if step < 0 and end < -size else end
        where[axis] = slice(start, stop, step)
    return np.asarray(given[0])[tuple(where)]


def slice_arguments(
    given: Sequence[Any], attributes: Mapping[str, Any], rank: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """starts, ends, axes and steps of Slice: operands since opset 10, attributes before. Raises `Malformed`."""

    def numbers(at: int, name: str) -> tuple[int, ...] | None:
        if len(given) > at and given[at] is not None:
            return tuple(int(v) for v in np.asarray(given[at]).reshape(-1))
        return tuple(attributes[name]) if name in attributes else None

    starts, ends = numbers(1, "starts"), numbers(2, "ends")
    if starts is None or ends is None or len(starts) != len(ends):
        raise Malformed("its starts and ends do not belong together")
    axes = numbers(3, "axes") or tuple(range(len(starts)))
    steps = numbers(4, "steps") or (1,) * len(starts)
    if len(axes) != len(starts) or len(steps) != len(starts) or 0 in steps or any(not -rank <= a < rank for a in axes):
        raise Malformed(f"its axes {axes} and steps {steps} do not fit")
    return starts, ends, tuple(a % rank for a in axes), steps


def _range(start: Any, limit: Any, step: Any) -> Array:
    start, limit, step = (np.asarray(v).reshape(()) for v in (start, limit, step))
    if step == 0:
        raise Malformed("its step is 0")
    bounded([max(0, int(np.ceil((float(limit) - float(start)) / float(step))))], "the range")
    return np.arange(start, limit, step, dtype=start.dtype)


def _constant_of_shape(given: Sequence[Any], attributes: Mapping[str, Any]) -> Array:
    value = np.asarray(attributes.get("value", np.zeros(1, np.float32))).reshape(-1)[0]
    return np.full(bounded(tuple(dims_or_numbers(given[0])), "the constant"), value)


def dims_or_numbers(array: Any) -> list[int]:
    """Whole numbers. Raises `Malformed` where the open batch is among them."""
    return [int(v) for v in np.asarray(array).reshape(-1)]


def _division(a: Any, b: Any) -> Any:
    if is_open(a) or is_open(b) or np.issubdtype(a.dtype, np.integer):
        if not is_open(a) and not is_open(b):
            if np.any(b == 0):
                raise Malformed("it divides by 0")
            return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)  # towards 0
        return a // b
    return a / b


def _cast(given: Sequence[Any], attributes: Mapping[str, Any]) -> Array:
    return given[0] if is_open(given[0]) else np.asarray(given[0]).astype(attributes["to"])


def _rounded(function: Callable[[Any], Any]) -> Callable[[Sequence[Any], Mapping[str, Any]], Array]:
    return lambda given, attributes: given[0] if is_open(given[0]) else function(given[0])


def _reduction(function: Callable[..., Any]) -> Callable[[Sequence[Any], Mapping[str, Any]], Array]:
    def evaluate(given: Sequence[Any], attributes: Mapping[str, Any]) -> Array:
        axes = _axes(given, attributes)
        return np.asarray(function(given[0], axis=axes, keepdims=bool(attributes.get("keepdims", 1))))

    return evaluate


def _shape(array: Any, attributes: Mapping[str, Any]) -> Array:
    return of_shape(np.shape(array))[attributes.get("start", 0) : attributes.get("end")]


def _reshape(given: Sequence[Any], attributes: Mapping[str, Any]) -> Array:
    x, shape = given[0], dims_or_numbers(given[1])
    sizes = [x.shape[i] if d == 0 and not attributes.get("allowzero") else d for i, d in enumerate(shape)]
    return np.reshape(x, sizes)


def _expand(x: Array, shape: Sequence[int]) -> Array:
    whole = np.broadcast_shapes(x.shape, bounded(shape, "the result"))
    return np.broadcast_to(x, bounded(whole, "the result"))


Evaluate = Callable[[Sequence[Any], Mapping[str, Any]], Any]
FOLDED: dict[str, Evaluate] = {
    "Identity": lambda g, a: g[0],
    "Shape": lambda g, a: _shape(g[0], a),
    "Size": lambda g, a: np.asarray(np.size(g[0]), np.int64),
    "Cast": _cast,
    "Gather": lambda g, a: np.take(g[0], np.asarray(g[1], np.int64), a.get("axis", 0)),
    "Slice": _slice,
    "Concat": lambda g, a: np.concatenate(g, a["axis"]),
    "Unsqueeze": lambda g, a: _unsqueeze(g[0], _axes(g, a) or ()),
    "Squeeze": lambda g, a: np.squeeze(g[0], _axes(g, a)),
    "Reshape": _reshape,
    "Transpose": lambda g, a: np.transpose(g[0], a.get("perm")),
    "Range": lambda g, a: _range(*g),
    "ConstantOfShape": _constant_of_shape,
    "Expand": lambda g, a: _expand(g[0], dims_or_numbers(g[1])),
    "Add": lambda g, a: g[0] + g[1],
    "Sub": lambda g, a: g[0] - g[1],
    "Mul": lambda g, a: g[0] * g[1],
    "Div": lambda g, a: _division(*g),
    "Neg": lambda g, a: -g[0],
    "Floor": _rounded(np.floor),
    "Ceil": _rounded(np.ceil),
    "ReduceProd": _reduction(np.prod),
    "ReduceSum": _reduction(np.sum),
    "ReduceMax": _reduction(np.max),
    "ReduceMin": _reduction(np.min),
    "Equal": lambda g, a: np.asarray(g[0] == g[1], bool),
    "Less": lambda g, a: np.asarray(g[0] < g[1], bool),
    "Greater": lambda g, a: np.asarray(g[0] > g[1], bool),
    "Not": lambda g, a: np.logical_not(g[0]),
    "And": lambda g, a: np.logical_and(g[0], g[1]),
    "Or": lambda g, a: np.logical_or(g[0], g[1]),
    "Where": lambda g, a: np.where(np.asarray(g[0], bool), g[1], g[2]),
    "Max": lambda g, a: _extreme(np.maximum, g),
    "Min": lambda g, a: _extreme(np.minimum, g),
    "Tile": lambda g, a: np.tile(bounded_tile(g[0], dims_or_numbers(g[1])), dims_or_numbers(g[1])),
    "NonZero": lambda g, a: np.asarray(np.nonzero(g[0]), np.int64),
    "Mod": lambda g, a: np.fmod(*g) if a.get("fmod") else np.mod(*g),
    "Pow": lambda g, a: np.power(g[0], np.asarray(g[1], g[0].dtype if g[1].dtype.kind in "iu" else None)).astype(
        g[0].dtype
    ),
    "Abs": lambda g, a: np.abs(g[0]),
    "Sign": lambda g, a: np.sign(g[0]),
    "Sqrt": lambda g, a: np.sqrt(g[0]),
    "Exp": lambda g, a: np.exp(g[0]),
    "Log": lambda g, a: np.log(g[0]),
    "Reciprocal": lambda g, a: 1 / g[0],
    "Round": lambda g, a: np.rint(g[0]),
    "GreaterOrEqual": lambda g, a: np.asarray(g[0] >= g[1], bool),
    "LessOrEqual": lambda g, a: np.asarray(g[0] <= g[1], bool),
    "Xor": lambda g, a: np.logical_xor(g[0], g[1]),
    "CastLike": lambda g, a: np.asarray(g[0]).astype(g[1].dtype),
    "Sum": lambda g, a: _extreme(np.add, g),
    "ReduceMean": _reduction(np.mean),
    "CumSum": lambda g, a: _running(g[0], g[1], a),
    "Flatten": lambda g, a: np.reshape(g[0], (int(np.prod(g[0].shape[: a.get("axis", 1)])), -1)),
}
# what an array of objects goes through; anything else would look into the open batch
BROADCAST = "Add Sub Mul Div Equal Less Greater And Or Where Max Min Mod Pow GreaterOrEqual LessOrEqual Xor Sum".split()
OPEN = ("Identity Cast Gather Slice Concat Unsqueeze Squeeze Reshape Transpose Add Sub Mul Div Floor Ceil ReduceProd "
        "Equal Less Greater Where Shape Size Max Min").split()  # fmt: skip


def _extreme(function: Callable[[Any, Any], Any], given: Sequence[Any]) -> Any:
    result = given[0]
    for other in given[1:]:
        result = function(result, other)
    return result


def check_size(operator: str, given: Sequence[Any], attributes: Mapping[str, Any]) -> None:
    """Raises `Malformed` where a result may have more numbers than `LARGEST`, and more than the operands. What makes an
    array of a shape that it is given looks at that itself.
    """
    arrays = [g for g in given if g is not None]
    total = sum(np.size(g) for g in arrays)
    match operator:
        case "Concat":
            most = total
        case "Gather":
            axis = attributes.get("axis", 0)
            most = np.size(arrays[1]) * prod(
                d for a, d in enumerate(np.shape(arrays[0])) if a != axis % np.ndim(arrays[0])
            )
        case _:
            most = prod(np.broadcast_shapes(*map(np.shape, arrays))) if operator in BROADCAST else 0
    if most > max(LARGEST, total):
        raise Malformed(f"its result has {most:,} numbers; up to {LARGEST:,} are calculated")


def _running(x: Array, axis: Any, attributes: Mapping[str, Any]) -> Array | None:
    """Running sums; None, for the graph, where they leave their own value out."""
    if attributes.get("exclusive"):
        return None
    along = int(np.asarray(axis).reshape(()))
    turned = np.flip(x, along) if attributes.get("reverse") else x
    sums = np.cumsum(turned, along, x.dtype)
    return np.flip(sums, along) if attributes.get("reverse") else sums


def bounded_tile(x: Array, repeats: Sequence[int]) -> Array:
    bounded([size * r for size, r in zip(x.shape, repeats, strict=True)], "the result")
    return x


def fold(operator: str, given: Sequence[Any], attributes: Mapping[str, Any]) -> Array | None:
    """The result of an operator whose operands are known, None where this is not one of those that are calculated here.

    Raises `Malformed` where operands do not fit, or the open batch would have to be known.
    """
    evaluate = FOLDED.get(operator)
    opened = any(g is not None and is_open(g) for g in given)
    if evaluate is None or (opened and operator not in OPEN):
        return None
    try:
        check_size(operator, given, attributes)
        with np.errstate(all="ignore"):
            result = evaluate(given, attributes)
            return None if result is None else closed(np.asarray(result))
    except (ValueError, IndexError, TypeError, KeyError, OverflowError, AttributeError) as e:
        if isinstance(e, Malformed):
            raise
        raise Malformed(f"its operands do not fit: {e}") from None
