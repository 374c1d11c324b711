"""What is in a value: items of lists, entries of dicts, and parts of tensors, as in `x[:, 0:8, ::2]`."""

from __future__ import annotations

from cnnc.diagnostics import did_you_mean
from cnnc.frontend.elaboration import Frame, Placed
from cnnc.frontend.expressions import evaluate, evaluates
from cnnc.frontend.layers import count
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import Tensor, Value, kind, show, shown_type


def index_of(at: Value, length: int, where: Placed, frame: Frame, what: str) -> int:
    """An index, counted from the front. Fails with E0308 or E0309."""
    if isinstance(at, bool) or not isinstance(at, int):
        frame.fail(where, "E0308", f"an index is a whole number, not {kind(at)} {show(at)}")
    if not -length <= at < length:
        help = f"indices run from 0 to {length - 1}" if length else None
        frame.fail(where, "E0309", f"index {at} is outside {what} of {length}", help=help)
    return at % length


def cut(node: s.Slice, frame: Frame) -> slice:
    """`start:stop:step` as Python's slice. Fails with E0308 or E0309."""
    parts: list[int | None] = []
    for part in (node.start, node.stop, node.step):
        value = None if part is None else evaluate(part, frame)
        if part is not None and (isinstance(value, bool) or not isinstance(value, int)):
            frame.fail(part, "E0308", f"a slice is between whole numbers, not {kind(value)} {show(value)}")
        parts.append(value)
    if node.step is not None and (parts[2] or 0) < 1:
        frame.fail(node.step, "E0309", f"a step is at least 1, not {parts[2]}", help="flip(axis) turns an axis round")
    return slice(*parts)


@evaluates(s.Index)
def index(node: s.Index, frame: Frame) -> Value:
    value = evaluate(node.value, frame)
    if isinstance(value, Tensor):
        return sliced(value, node, frame)
    first, *others = node.entries
    if not isinstance(value, tuple | str | dict):
        frame.fail(node.value, "E0308", f"{kind(value)} cannot be indexed")
    if others:
        frame.fail(others[0], "E0308", f"{kind(value)} has one index; several are of a tensor's axes")
    if isinstance(first, s.Slice):
        if isinstance(value, dict):
            frame.fail(first, "E0308", "a dict has no order to cut")
        return value[cut(first, frame)]
    at = evaluate(first, frame)
    if isinstance(value, dict):
        return _entry(value, at, first, frame)
    return value[index_of(at, len(value), first, frame, "a list")]


def _entry(value: dict[Value, Value], key: Value, where: Placed, frame: Frame) -> Value:
    if isinstance(key, tuple | dict) or key not in value:
        near = did_you_mean(key, [k for k in value if isinstance(k, str)]) if isinstance(key, str) else None
        there = f"the keys are {', '.join(map(show, list(value)[:24]))}"
        frame.fail(where, "E0309", f"there is no key {show(key)}", there, help=near)
    return value[key]


def sliced(x: Tensor, node: s.Index, frame: Frame) -> Tensor:
    """A tensor's part: an entry for each of the first axes; those with a number are dropped. Fails with E0203, E0308, E0309."""
    shape = x.type.shape
    if len(node.entries) > len(shape):
        what = f"{shown_type(x.type)} has {len(shape)} axes; here are {len(node.entries)} indices"
        frame.fail(node.entries[len(shape)], "E0309", what)
    found: list[tuple[int, int, int, int]] = []  # axis, start, size, step
    dropped = []
    for axis, entry in enumerate(node.entries):
        size = shape[axis]
        if not isinstance(size, int):
            _whole_batch(entry, frame)
        elif isinstance(entry, s.Slice):
            places = range(size)[cut(entry, frame)]
            if not len(places):
                frame.fail(entry, "E0309", f"nothing is left of axis {axis}, which has {size}")
            if len(places) < size:
                found.append((axis, places.start, len(places), places.step))
        else:
            at = index_of(evaluate(entry, frame), size, entry, frame, f"axis {axis}")
            dropped.append(axis)
            if size > 1:
                found.append((axis, at, 1, 1))
    return _cut(x, found, dropped, node, frame)


def _whole_batch(entry: s.Expression | s.Slice, frame: Frame) -> None:
    if not isinstance(entry, s.Slice) or any(part is not None for part in (entry.start, entry.stop, entry.step)):
        help = "write ':' for the batch, as in x[:, 0]; x.shape[i] is the size of an axis"
        frame.fail(entry, "E0203", "the batch cannot be cut: it stays N to the end", help=help)


def _cut(x: Tensor, found: list[tuple[int, int, int, int]], dropped: list[int], node: s.Index, frame: Frame) -> Tensor:
    builder, scope, origin = frame.elaboration.builder, frame.scope, frame.origin(node.span)
    value = x.value
    if found:
        count(node.span, frame)
        axes, starts, sizes, steps = (v[0] if len(v) == 1 else v for v in zip(*found, strict=True))
        attributes = {
            "axis": axes,
            "start": starts,
            "size": sizes,
            "step": steps if any(f[3] != 1 for f in found) else None,
        }
        value = builder.add("slice", [value], attributes, scope.full(scope.running("slice", node.span)), origin)
    if dropped:
        shape = [d for i, d in enumerate(builder.type(value).shape) if i not in dropped]
        name = scope.full(scope.running("squeeze", node.span))
        value = builder.add("reshape", [value], {"shape": shape}, name, origin)
    return Tensor(value, builder.type(value))
