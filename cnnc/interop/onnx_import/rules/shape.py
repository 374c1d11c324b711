"""Operators that move values, or reduce axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from cnnc.interop.onnx_import import known
from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Array, Importer, Result, rule
from cnnc.ir.types import BATCH, Dim, product
from cnnc.untrusted import Malformed


@rule("Shape")
def shape_of(i: Importer, c: Call) -> Result:
    return known.of_shape(i.type(i.tensor(c, 0)).shape)[c.integer("start", 0) : c.get("end")]


@rule("Size")
def size_of(i: Importer, c: Call) -> Result:
    total: Any = 1
    for d in known.of_shape(i.type(i.tensor(c, 0)).shape):
        total = total * d
    return known.closed(np.array(total, object))


def reshaped(i: Importer, c: Call, x: str, shape: Sequence[Dim]) -> str:
    """x in another shape, as flatten where that says the same."""
    t = i.type(x)
    if tuple(shape) == t.shape:
        return x
    for start in range(1, t.rank - 1):
        if BATCH not in t.shape[start:] and tuple(shape) == (
            *t.shape[:start],
            product(tuple(int(d) for d in t.shape[start:])),
        ):
            return i.add("flatten", [x], {"start": start})
    return i.add("reshape", [x], {"shape": tuple(shape)})


def _count(shape: Sequence[Dim]) -> Any:
    """How many elements a shape has: a number, or one times the batch."""
    return prod(known.Batch() if d == BATCH else int(d) for d in shape)


def _resolved(t_shape: Sequence[Dim], wanted: Sequence[Any], keep_zero: bool) -> tuple[Dim, ...]:
    """What Reshape's 0 and -1 stand for. Raises `Malformed`."""
    sizes: list[Any] = []
    for at, d in enumerate(wanted):
        if not isinstance(d, known.Batch) and int(d) == 0 and not keep_zero:
            if at >= len(t_shape):
                raise Malformed(f"it keeps axis {at} of {list(t_shape)}")
            d = known.Batch() if t_shape[at] == BATCH else t_shape[at]
        sizes.append(d)
    free = [at for at, d in enumerate(sizes) if not isinstance(d, known.Batch) and int(d) == -1]
    if len(free) > 1:
        raise Malformed(f"more than one size is left open: {[str(s) for s in sizes]}")
    if free:
        total, rest = _count(t_shape), prod(d for at, d in enumerate(sizes) if at != free[0])
        if not isinstance(rest, known.Batch) and (rest == 0 or (not isinstance(total, known.Batch) and total % rest)):
            raise Malformed(f"{list(t_shape)} does not divide into {[str(s) for s in sizes]}")
        sizes[free[0]] = total // rest
    return known.dims(np.array(sizes, object))


@rule("Reshape")
def reshape(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    wanted = i.known(c, 1, "shape").reshape(-1) if c.has(1) else np.array(c.integers("shape") or (), np.int64)
    return reshaped(i, c, x, _resolved(i.type(x).shape, list(wanted), bool(c.integer("allowzero", 0))))


@rule("Flatten")
def flatten(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    shape, axis = i.type(x).shape, c.integer("axis", 1)
    axis = axis % len(shape) if axis < 0 else axis
    return reshaped(i, c, x, known.dims(np.array([_count(shape[:axis]), _count(shape[axis:])], object)))


@rule("Squeeze")
def squeeze(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    shape = i.type(x).shape
    given = i.numbers(c, 1, "axes")
    axes = {a % len(shape) for a in given} if given is not None else {a for a, d in enumerate(shape) if d == 1}
    if any(shape[a] != 1 for a in axes):
        raise Malformed(f"it removes axes {sorted(axes)} of {list(shape)}, which are not all of size 1")
    return reshaped(i, c, x, tuple(d for a, d in enumerate(shape) if a not in axes))


@rule("Unsqueeze")
def unsqueeze(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    shape: list[Dim] = list(i.type(x).shape)
    given = i.numbers(c, 1, "axes") or ()
    for a in sorted(a % (len(shape) + len(given)) for a in given):
        shape.insert(a, 1)
    return reshaped(i, c, x, tuple(shape))


@rule("Transpose")
def transpose(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    rank = i.type(x).rank
    axes = c.integers("perm") or tuple(reversed(range(rank)))
    if tuple(axes) == tuple(range(rank)):
        return x
    return i.add("transpose", [x], {"axes": axes})


@rule("Concat")
def concat(i: Importer, c: Call) -> Result:
    parts = [i.values[name] for name in c.inputs]
    return i.add(
        "concat", [i.tensor(c, at) for at in range(len(parts))], {"axis": c.integer("axis", 1) % _rank(i, parts)}
    )


def _rank(i: Importer, parts: Sequence[Result]) -> int:
    return max(1, max(i.type(p).rank if isinstance(p, str) else p.ndim for p in parts))


@rule("Split")
def split(i: Importer, c: Call) -> list[str]:
    x = i.tensor(c, 0)
    t = i.type(x)
    axis = c.integer("axis", 0) % t.rank
    if t.shape[axis] == BATCH:
        raise Unsupported(c, "it splits the batch, which is open")
    total, sizes = int(t.shape[axis]), i.numbers(c, 1, "split")
    if sizes is None:
        count = c.integer("num_outputs", len(c.outputs))
        if not 0 < count <= max(1, len(c.outputs)):
            raise Malformed(f"it has {len(c.outputs)} results and makes {count}")
        each = -(-total // count)
        sizes = tuple(min(each, total - k * each) for k in range(count))
    if sum(sizes) != total:
        raise Malformed(f"its parts {list(sizes)} do not make up {total}")
    starts = np.cumsum([0, *sizes])
    return [
        i.add("slice", [x], {"axis": axis, "start": int(s), "size": n}) for s, n in zip(starts, sizes, strict=False)
    ]


def listed(numbers: Sequence[int] | Array) -> tuple[int, ...]:
    """Numbers as an attribute. Raises `Malformed` where there are too many."""
    if len(numbers) > known.LISTED:
        raise Malformed(f"it picks {len(numbers):,} entries; {known.LISTED:,} are the limit")
    return tuple(int(v) for v in numbers)


@rule("Slice")
def slice_(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    given = [None if at and not c.has(at) else (i.known(c, at, "limits") if at else None) for at in range(5)]
    t = i.type(x)
    for start, end, axis, step in zip(*known.slice_arguments(given, c.attributes, t.rank), strict=True):
        if t.shape[axis] == BATCH:
            if start == 0 and end >= 2**31 - 1 and step == 1:
                continue
            raise Unsupported(c, "it cuts the batch, which is open")
        size = int(t.shape[axis])
        where = range(size)[slice(start, None if step < 0 and end < -size else end, step)]
        if len(where) == 0:
            raise Unsupported(c, "nothing is left of it")
        if step > 0 and len(where) != size:
            more = {"step": step} if step != 1 and len(where) > 1 else {}
            x = i.add("slice", [x], {"axis": axis, "start": where[0], "size": len(where), **more})
        elif step == -1 and len(where) == size:
            x = i.add("flip", [x], {"axis": axis})
        elif step < 0:
            x = i.add("gather", [x], {"axis": axis, "indices": listed(where)})
    return x


@rule("Gather")
def gather(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    t = i.type(x)
    axis = c.integer("axis", 0) % t.rank
    indices = i.known(c, 1, "indices")
    if t.shape[axis] == BATCH:
        raise Unsupported(c, "it picks images of the batch, which is open")
    size = int(t.shape[axis])
    flat = [v % size if -size <= v < size else size for v in listed(indices.reshape(-1))]
    if any(v >= size for v in flat) or not flat:
        raise Malformed(f"its indices leave the {size} entries of axis {axis}")
    shape = (*t.shape[:axis], *indices.shape, *t.shape[axis + 1 :])
    if flat == list(range(flat[0], flat[0] + len(flat))):
        y = x if len(flat) == size else i.add("slice", [x], {"axis": axis, "start": flat[0], "size": len(flat)})
    else:
        y = i.add("gather", [x], {"axis": axis, "indices": tuple(flat)})
    return reshaped(i, c, y, shape)


@rule("Pad")
def pad(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    t, mode = i.type(x), c.text("mode", "constant")
    pads = i.numbers(c, 1, "pads") or ()
    value = i.number(c, 2, "value", 0.0) if i.opset < 11 or c.has(2) else 0.0
    axes = tuple(a % t.rank for a in i.known(c, 3, "axes").reshape(-1)) if c.has(3) else tuple(range(t.rank))
    if len(pads) != 2 * len(axes):
        raise Malformed(f"its pads are {list(pads)}, for {len(axes)} axes")
    pairs = [(0, 0)] * t.rank
    for at, axis in enumerate(axes):
        pairs[int(axis)] = (pads[at], pads[at + len(axes)])
    if not any(p for pair in pairs for p in pair):
        return x
    if t.shape[0] == BATCH and any(pairs[0]):
        raise Unsupported(c, "it pads the batch, which is open")
    names = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
    if mode not in names:
        raise Malformed(f"its mode is '{mode}'")
    first = next(a for a, pair in enumerate(pairs) if any(pair))
    attributes: dict[str, Any] = {"padding": tuple(pairs[first:])}
    if mode == "constant" and value:
        attributes["value"] = value
    if mode != "constant":
        attributes["mode"] = names[mode]
    return i.add("pad", [x], attributes)


@rule("CenterCropPad")
def centered(i: Importer, c: Call) -> str:
    """The middle of axes that are too long, and zeros around those that are too short."""
    x = i.tensor(c, 0)
    rank, sizes = i.type(x).rank, i.known(c, 1, "shape").reshape(-1)
    axes = [a % rank for a in c.integers("axes") or range(rank)]
    if len(axes) != len(sizes):
        raise Malformed(f"its shape has {len(sizes)} sizes, for {len(axes)} axes")
    pairs = [(0, 0)] * rank
    for axis, size in zip(axes, map(int, sizes), strict=True):
        if i.type(x).shape[axis] == BATCH:
            raise Unsupported(c, "it cuts the batch, which is open")
        less = int(i.type(x).shape[axis]) - size
        if less > 0:
            x = i.add("slice", [x], {"axis": axis, "start": less // 2, "size": size})
        pairs[axis] = (-less // 2, -less - -less // 2) if less < 0 else (0, 0)
    first = next((a for a, pair in enumerate(pairs) if any(pair)), None)
    return x if first is None else i.add("pad", [x], {"padding": tuple(pairs[first:])})


@rule("Expand")
def expand(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    t, wanted = i.type(x), known.dims(i.known(c, 1, "shape").reshape(-1))
    rank = max(t.rank, len(wanted))
    here, there = (1,) * (rank - t.rank) + t.shape, (1,) * (rank - len(wanted)) + wanted
    whole = tuple(b if a == 1 else a for a, b in zip(here, there, strict=True))
    x = i.aligned(x, rank)
    return x if i.type(x).shape == whole else i.add("expand", [x], {"shape": whole})


@rule("Tile")
def tile(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    repeats = tuple(known.dims_or_numbers(i.known(c, 1, "repeats")))
    return x if set(repeats) == {1} else i.add("repeat", [x], {"repeats": repeats})


def _channels(i: Importer, c: Call) -> tuple[str, tuple[Dim, ...], int]:
    x = i.tensor(c, 0)
    if i.type(x).rank != 4:
        raise Malformed(f"it works on [N, C, H, W], here on {i.type(x)}")
    return x, i.type(x).shape, c.integer("blocksize", 1)


@rule("DepthToSpace")
def depth_to_space(i: Importer, c: Call) -> str:
    x, (n, channels, h, w), b = _channels(i, c)
    if c.text("mode", "DCR") == "CRD":
        return i.add("pixel_shuffle", [x], {"factor": b})
    y = i.add("reshape", [x], {"shape": (n, b, b, int(channels) // (b * b), h, w)})
    y = i.add("transpose", [y], {"axes": (0, 3, 4, 1, 5, 2)})
    return i.add("reshape", [y], {"shape": (n, int(channels) // (b * b), int(h) * b, int(w) * b)})


@rule("SpaceToDepth")
def space_to_depth(i: Importer, c: Call) -> str:
    x, (n, channels, h, w), b = _channels(i, c)
    if c.text("mode", "DCR") == "CRD":
        return i.add("pixel_unshuffle", [x], {"factor": b})
    y = i.add("reshape", [x], {"shape": (n, channels, int(h) // b, b, int(w) // b, b)})
    y = i.add("transpose", [y], {"axes": (0, 3, 5, 1, 2, 4)})
    return i.add("reshape", [y], {"shape": (n, int(channels) * b * b, int(h) // b, int(w) // b)})


def _reduced(i: Importer, c: Call, op: str, x: str) -> str:
    t = i.type(x)
    axes = i.numbers(c, 1, "axes")
    if axes is None or not axes:
        if c.integer("noop_with_empty_axes", 0):
            return x
        axes = tuple(range(t.rank))
    axes = tuple(sorted(a % t.rank for a in axes))
    keep = bool(c.integer("keepdims", 1))
    if op == "mean" and keep and t.rank in (3, 4, 5) and axes == tuple(range(2, t.rank)):
        return i.add("global_avgpool", [x])
    return i.add(op, [x], {"axis": axes, "keepdim": keep})


# before, over x; the reduction; behind, over its result
REDUCTIONS = {
    "ReduceMean": ("", "mean", ""),
    "ReduceSum": ("", "sum", ""),
    "ReduceMax": ("", "max", ""),
    "ReduceMin": ("", "min", ""),
    "ReduceProd": ("", "prod", ""),
    "ReduceL1": ("abs(a0)", "sum", ""),
    "ReduceL2": ("a0 * a0", "sum", "sqrt(a0)"),
    "ReduceSumSquare": ("a0 * a0", "sum", ""),
    "ReduceLogSum": ("", "sum", "log(a0)"),
    "ReduceLogSumExp": ("", "logsumexp", ""),
}


@rule(*REDUCTIONS)
def reduction(i: Importer, c: Call) -> str:
    before, op, behind = REDUCTIONS[c.operator]
    x = i.tensor(c, 0)
    y = _reduced(i, c, op, i.pointwise(before, x) if before else x)
    return i.pointwise(behind, y) if behind else y


@rule("ArgMax", "ArgMin")
def place(i: Importer, c: Call) -> str:
    if c.integer("select_last_index", 0):
        return _last_place(i, c)
    attributes = {"axis": c.integer("axis", 0), "keepdim": bool(c.integer("keepdims", 1))}
    return i.add("argmax" if c.operator == "ArgMax" else "argmin", [i.tensor(c, 0)], attributes)


def _last_place(i: Importer, c: Call) -> str:
    """The last of equals: counted from the end."""
    x, keep = i.tensor(c, 0), bool(c.integer("keepdims", 1))
    axis = c.integer("axis", 0) % i.type(x).rank
    size = i.type(x).shape[axis]
    if size == BATCH:
        raise Unsupported(c, "it looks along the batch, which is open")
    turned = i.add("flip", [x], {"axis": axis})
    y = i.add("argmax" if c.operator == "ArgMax" else "argmin", [turned], {"axis": axis, "keepdim": keep})
    return i.pointwise(f"{int(size) - 1} - a0", y)


@rule("CumSum")
def running(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    axis = int(i.known(c, 1, "axis").reshape(-1)[0]) % i.type(x).rank
    y = i.add("cumsum", [x], {"axis": axis, **({"reverse": True} if c.integer("reverse", 0) else {})})
    return i.add("sub", [y, x]) if c.integer("exclusive", 0) else y


@rule("Hardmax")
def hardmax(i: Importer, c: Call) -> str:
    """1 at the first largest along an axis."""
    x = i.tensor(c, 0)
    t = i.type(x)
    axis = c.integer("axis", -1 if i.opset >= 13 else 1) % t.rank
    if t.shape[axis] == BATCH or (i.opset < 13 and axis != t.rank - 1):
        raise Unsupported(c, "it runs along the batch, or several axes")
    i.make(int(t.shape[axis]))
    places = np.arange(int(t.shape[axis]), dtype=np.float32).reshape([-1 if a == axis else 1 for a in range(t.rank)])
    at = i.add("argmax", [x], {"axis": axis, "keepdim": True})
    return i.pointwise("a0 == a1", at, i.aligned(places, t.rank))


@rule("Trilu")
def triangle(i: Importer, c: Call) -> str:
    x = i.tensor(c, 0)
    t, k = i.type(x), int(i.known(c, 1, "diagonal").reshape(-1)[0]) if c.has(1) else 0
    if BATCH in t.shape[-2:]:
        raise Unsupported(c, "it cuts the batch, which is open")
    i.make(*(int(d) for d in t.shape[-2:]))
    ones = np.ones([int(d) for d in t.shape[-2:]], np.float32)
    mask = np.triu(ones, k) if c.integer("upper", 1) else np.tril(ones, k)
    return i.pointwise("where(a1, a0, 0)", x, i.aligned(mask, t.rank))
