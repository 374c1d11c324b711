"""Ops that select along axes: slice, gather, flip, repeat, pad and channel_shuffle. What an element went to comes back as a sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from cnnc.ir.graph import Attributes, Node
from cnnc.ir.op import OPS, REQUIRED, InferenceError, Op, Types, register, required
from cnnc.ir.receptive import Field, space_of
from cnnc.ir.types import BATCH, Dim, TensorType
from cnnc.ops.checks import all_axes, one_axis, show
from cnnc.ops.selection import RETURNING, cuts, selected, sides

MODES = ("constant", "reflect", "replicate", "circular")

# ------------------------------------------------------------------------------------------------ references, gradients


def _select(op: str, fill: float = 0.0) -> Any:
    def reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
        x = np.asarray(arrays[0], np.float64)
        value = attributes.get("value", 0.0)
        for axis, index in selected(op, attributes, x.shape).items():
            there = (index >= 0).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
            x = np.where(there, np.take(x, np.maximum(index, 0), axis), value)
        return (x,)

    return reference


def _return(op: str) -> Any:
    def reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
        dy, shape = np.asarray(arrays[0], np.float64), types[0].sizes
        for axis, index in selected(op, attributes, shape).items():
            back = np.zeros((shape[axis], *np.delete(dy.shape, axis)))
            np.add.at(back, index[index >= 0], np.moveaxis(dy, axis, 0)[index >= 0])
            dy = np.moveaxis(back, 0, axis)
        return (dy,)

    return reference


def _infer_return(op: str) -> Any:
    def infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
        dy, size = required(types[0]), attributes["size"]
        if not isinstance(size, tuple | list) or any(d != BATCH and not _are_counts((d,), 1) for d in size):
            raise InferenceError(f"size is the shape of an input, not {size!r}", "size", "E0502")
        x = TensorType(dy.dtype, tuple(size), dy.layout)
        (y,) = OPS[op].infer([x], Attributes({k: v for k, v in attributes.items() if k in OPS[op].attributes}))
        if y.shape != dy.shape:
            raise InferenceError(f"a gradient {dy} does not belong to an input {show(x)}", "size", "E0204")
        return (x,)

    return infer


def _same_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    attributes = {k: v for k, v in node.attributes.items() if k != "value"}
    size = context.type(node.operands[0]).shape
    return [context.add(f"{node.op}_gradient", [gradients[0]], {**attributes, "size": size})]


def _slice_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    """Zeros around it, and between."""
    x = context.type(node.operands[0])
    found = {axis % x.rank: (start, size, step) for axis, start, size, step in cuts(node.attributes)}
    padding, interior = [], []
    for axis in range(min(found), x.rank):
        whole = int(x.shape[axis])
        start, size, step = found.get(axis, (0, whole, 1))
        padding.append((start, whole - start - (size - 1) * step - 1))
        interior.append(step - 1)
    return [context.add("pad", [gradients[0]], {"padding": padding, "interior": interior if any(interior) else None})]


def _pad_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    if node.attribute("mode") != "constant":
        return _same_gradient(context, node, gradients)
    x = context.type(node.operands[0])
    dy = gradients[0]
    around = sides(node.attributes, x.rank)
    if all(not between for *_, between in around):
        return [context.add("pad", [dy], {"padding": [(-before, -after) for _, before, after, _ in around]})]
    dy = context.add("pad", [dy], {"padding": [(-before, -after) for _, before, after, _ in around]})
    spread = [(axis, between) for axis, _, _, between in around if between]
    attributes = {
        "axis": [a for a, _ in spread],
        "start": [0] * len(spread),
        "size": [int(x.shape[a]) for a, _ in spread],
        "step": [between + 1 for _, between in spread],
    }
    return [context.add("slice", [dy], attributes)]


def _shuffle_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    groups = int(node.type.shape[1]) // node.attributes["groups"]
    return [context.add("channel_shuffle", [gradients[0]], {"groups": groups})]


# ------------------------------------------------------------------------------------------------ inference


def _resized(x: TensorType, sizes: Mapping[int, Dim]) -> TensorType:
    return TensorType(x.dtype, tuple(sizes.get(i, d) for i, d in enumerate(x.shape)), x.layout)


def _free(x: TensorType, axis: int, what: str) -> int:
    """The size of an axis that is not the batch's."""
    size = x.shape[axis]
    if not isinstance(size, int):
        raise InferenceError(f"{what} the batch: it stays N to the end", "axis", "E0203")
    return size


def _infer_slice(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    try:
        found = cuts(attributes)
    except ValueError:
        raise InferenceError("axis, start, size and step of a slice are as many", "axis", "E0203") from None
    axes = all_axes(tuple(axis for axis, *_ in found), x.rank)
    for axis, start, size, step in found:
        axis = one_axis(axis, x.rank)
        whole = _free(x, axis, "a slice cannot cut")
        if any(isinstance(v, bool) or not isinstance(v, int) for v in (start, size, step)):
            raise InferenceError("start, size and step of a slice are whole numbers", "start", "E0203")
        if start < 0 or size < 1 or step < 1 or start + (size - 1) * step >= whole:
            by = f" by {step}" if step != 1 else ""
            raise InferenceError(f"slice [{start}, {start + size * step}){by} of {whole}", "start", "E0203")
    assert len(axes) == len(found)
    return (_resized(x, {axis % x.rank: size for axis, _, size, _ in found}),)


def _infer_gather(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, indices = required(types[0]), attributes["indices"]
    axis = one_axis(attributes["axis"], x.rank)
    size = _free(x, axis, "gather cannot take from")
    if (
        not isinstance(indices, tuple | list)
        or not indices
        or any(isinstance(i, bool) or not isinstance(i, int) for i in indices)
    ):
        raise InferenceError(f"indices is a list of whole numbers, not {indices!r}", "indices", "E0203")
    wrong = next((i for i in indices if not -size <= i < size), None)
    if wrong is not None:
        what = f"index {wrong} is outside axis {axis}, which has {size}"
        raise InferenceError(what, "indices", "E0203", help=f"indices run from {-size} to {size - 1}")
    return (_resized(x, {axis: len(indices)}),)


def _infer_flip(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    for axis in all_axes(attributes["axis"], x.rank):
        _free(x, axis, "flip cannot turn")
    return (x,)


def _infer_repeat(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, repeats = required(types[0]), attributes["repeats"]
    if not isinstance(repeats, tuple | list) or len(repeats) != x.rank:
        raise InferenceError(
            f"repeats is a list of {x.rank} numbers, one for each axis of {show(x)}", "repeats", "E0203"
        )
    for i, n in enumerate(repeats):
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InferenceError(f"repeats are whole numbers of at least 1, not {n!r}", "repeats", "E0203")
        if n != 1 and not isinstance(x.shape[i], int):
            raise InferenceError("repeat cannot repeat the batch: it stays N to the end", "repeats", "E0203")
    return (_resized(x, {i: int(x.shape[i]) * n for i, n in enumerate(repeats) if n != 1}),)


def _infer_shuffle(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, groups = required(types[0]), attributes["groups"]
    if x.rank < 2 or not isinstance(x.shape[1], int):
        raise InferenceError(f"channel_shuffle works on [N, C, ...], not on {show(x)}", "x", "E0201")
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise InferenceError(f"groups is a whole number of at least 1, not {groups!r}", "groups", "E0203")
    if x.shape[1] % groups:
        raise InferenceError(f"groups={groups} must divide the {x.shape[1]} channels", "groups", "E0203")
    return (x,)


def _infer_pad(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x, mode, value = required(types[0]), attributes["mode"], attributes.get("value", 0.0)
    if mode not in MODES:
        raise InferenceError(f"mode is {', '.join(MODES[:-1])} or {MODES[-1]}, not {mode!r}", "mode", "E0203")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InferenceError(f"value is a number, not {value!r}", "value", "E0203")
    padding, interior = attributes["padding"], attributes.get("interior")
    if not _are_pairs(padding) or not 0 < len(padding) <= x.rank:
        raise InferenceError("padding is a list of pairs of whole numbers, of the last axes", "padding", "E0203")
    if interior is not None and not (_are_counts(interior, len(padding)) and mode == "constant"):
        raise InferenceError("interior is a number of at least 0 for each pair", "interior", "E0203")
    sizes: dict[int, Dim] = {}
    for axis, before, after, between in sides(attributes, x.rank):
        if x.shape[axis] == BATCH and (before or after or between):
            raise InferenceError("pad cannot widen the batch: it stays N to the end", "padding", "E0203")
        if x.shape[axis] != BATCH:
            size = int(x.shape[axis])
            _check_reach(mode, axis, size, before, after)
            sizes[axis] = before + after + size + (size - 1) * between
            if int(sizes[axis]) < 1:
                what = f"padding by {before} and {after} leaves nothing of axis {axis}, which has {size}"
                raise InferenceError(what, "padding", "E0203")
    return (_resized(x, sizes),)


def _are_pairs(padding: Any) -> bool:
    return isinstance(padding, tuple | list) and all(
        isinstance(p, tuple | list) and len(p) == 2 and all(isinstance(v, int) and not isinstance(v, bool) for v in p)
        for p in padding
    )


def _are_counts(values: Any, count: int) -> bool:
    return (
        isinstance(values, tuple | list)
        and len(values) == count
        and all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 2**31 for v in values)
    )


def _check_reach(mode: str, axis: int, size: int, before: int, after: int) -> None:
    """Raises `InferenceError` where there is not as much as would be reflected or repeated."""
    most = {"reflect": size - 1, "circular": size}.get(mode)
    if most is not None and max(before, after) > most:
        raise InferenceError(
            f"{mode} padding by {max(before, after)} exceeds the {most} that axis {axis} of {size} has for it",
            "padding",
            "E0202",
            help=f"pad by at most {most}, or with another mode",
        )
    if before >= 2**31 or after >= 2**31:
        raise InferenceError(f"padding is {max(before, after)}; it must be below 2^31", "padding", "E0402")


# ------------------------------------------------------------------------------------------------ records


def _field(node: Node, types: Types, seen: Field) -> Field:
    """Of space that is cut by steps: neighbors are further apart. Of space that is gathered: all there is."""
    space = space_of(node.type)
    if len(space) != len(seen.extent):
        return seen
    if node.op == "slice":
        by = {axis % node.type.rank: step for axis, _, _, step in cuts(node.attributes)}
        return seen.window((1,) * len(space), [by.get(axis + 2, 1) for axis in range(len(space))], space)
    if node.op in ("gather", "flip"):
        return seen.over({axis - 2 for axis in all_axes(node.attributes["axis"], node.type.rank)})
    return Field(seen.size, seen.jump, space)


_RECORDS: tuple[tuple[str, Any, Any, dict[str, Any], str], ...] = (
    (
        "slice", _infer_slice, _slice_gradient, {"axis": REQUIRED, "start": REQUIRED, "size": REQUIRED, "step": None},
        "`size` entries of an axis from `start` on, `step` from one to the next; of several axes where these are lists.",
    ),
    (
        "gather", _infer_gather, _same_gradient, {"axis": REQUIRED, "indices": REQUIRED},
        "The entries of an axis that `indices` names; negative ones count from the end.",
    ),
    (
        "flip", _infer_flip, lambda c, n, g: [c.add("flip", [g[0]], {"axis": n.attributes["axis"]})], {"axis": REQUIRED},
        "Each axis the other way round.",
    ),
    (
        "repeat", _infer_repeat, _same_gradient, {"repeats": REQUIRED},
        "Each axis as many times, one behind the other.",
    ),
    (
        "channel_shuffle", _infer_shuffle, _shuffle_gradient, {"groups": REQUIRED},
        "y[n, k * groups + g] = x[n, g * C / groups + k]: the channels of the groups in turn (Zhang et al., ShuffleNet, 2018).",
    ),
    (
        "pad", _infer_pad, _pad_gradient, {"padding": REQUIRED, "mode": "constant", "value": 0.0, "interior": None},
        "The last axes with `padding` = (before, after) each of them, a cut where that is negative: of `value`, or of what is there, "
        'reflected ("reflect", without the edge), repeated ("replicate" the edge, "circular"). `interior` entries of the value come '
        "between neighbors.",
    ),
)  # fmt: skip
for _name, _infer, _gradient, _attributes, _doc in _RECORDS:
    register(
        Op(
            name=_name,
            operands=("x",),
            infer=_infer,
            reference=_select(_name),
            attributes=_attributes,
            gradient=_gradient,
            layout="channels" if _name == "slice" else "moving",
            kind="shape",
            field=_field,
            doc=_doc,
        )
    )
    if f"{_name}_gradient" in RETURNING:
        register(
            Op(
                name=f"{_name}_gradient",
                operands=("dy",),
                infer=_infer_return(_name),
                reference=_return(_name),
                attributes={
                    **{k: v for k, v in _attributes.items() if k not in ("value", "interior")},
                    "size": REQUIRED,
                },
                layout="moving",
                kind="shape",
                doc=f"dL/dx of {_name}: for each place of x, of shape `size`, the sum over all that it went to.",
            )
        )
