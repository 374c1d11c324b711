"""Operators that slide a window over an image: convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Importer, Pooled, Result, rule
from cnnc.interop.onnx_import.known import bounded
from cnnc.interop.onnx_import.rules.shape import listed
from cnnc.ir.types import BATCH, PLAIN, WEIGHTS, product
from cnnc.ops.window import spatial
from cnnc.untrusted import FLOAT32, Malformed

INDICES = 7  # ONNX's int64
TAPS = 81  # pixels of a window of which the places are found
Pads = tuple[tuple[int, int], ...]


def kernel_of(i: Importer, c: Call, shape: Sequence[int] | None = None) -> tuple[int, ...]:
    kernel = c.integers("kernel_shape") or (tuple(int(d) for d in shape) if shape is not None else None)
    if kernel is None:
        raise Malformed("it has no kernel_shape")
    if shape is not None and tuple(kernel) != tuple(shape):
        raise Malformed(f"its kernel_shape {list(kernel)} is not that of its weights, {list(shape)}")
    return kernel


def axes_of(c: Call, name: str, rank: int) -> tuple[int, ...]:
    values = c.integers(name) or (1,) * rank
    if len(values) != rank or any(v < 1 for v in values):
        raise Malformed(f"its {name} are {list(values)}, for {rank} axes of space")
    return values


def pads_of(c: Call, size: Sequence[int], kernel: Sequence[int]) -> Pads:
    """Padding before and behind each axis, by `pads` or by `auto_pad`."""
    rank, auto = len(size), c.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        strides, dilations = axes_of(c, "strides", rank), axes_of(c, "dilations", rank)
        result = []
        for extent, k, s, d in zip(size, kernel, strides, dilations, strict=True):
            total = max(0, (-(-extent // s) - 1) * s + (k - 1) * d + 1 - extent)
            less, more = total // 2, total - total // 2
            result.append((less, more) if auto == "SAME_UPPER" else (more, less))
        return tuple(result)
    pads = c.integers("pads") or (0,) * (2 * rank)
    if auto == "VALID":
        pads = (0,) * (2 * rank)
    if len(pads) != 2 * rank or any(p < 0 for p in pads):
        raise Malformed(f"its pads are {list(pads)}, for {rank} axes of space")
    return tuple(zip(pads[:rank], pads[rank:], strict=True))


def image(i: Importer, c: Call) -> tuple[str, tuple[int, ...]]:
    x = i.tensor(c, 0)
    if i.type(x).rank not in (3, 4, 5):
        raise Unsupported(c, f"it works on images of 1 to 3 axes, here on {i.type(x)}")
    return x, spatial(i.type(x))


@rule("Conv")
def convolution(i: Importer, c: Call) -> str:
    x, size = image(i, c)
    w = i.known(c, 1, "weights")
    i.layer(c)
    if w.ndim != len(size) + 2:
        raise Malformed(f"its weights are {list(w.shape)}, its input has {len(size)} axes of space")
    kernel = kernel_of(i, c, w.shape[2:])
    rank, groups = len(size), c.integer("group", 1)
    fan = "uniform_fan_in"
    operands = [x, i.parameter(w, c.inputs[1], "weight", WEIGHTS[w.ndim], fan)]
    if c.has(2):
        operands.append(i.parameter(i.known(c, 2, "bias").reshape(-1), c.inputs[2], "bias"))
    attributes: dict[str, Any] = window_attributes(c, rank, pads_of(c, size, kernel))
    return i.add("conv", operands, {**attributes, **({"groups": groups} if groups != 1 else {})})


def window_attributes(c: Call, rank: int, pads: Pads) -> dict[str, Any]:
    """Attributes as layers of ours leave them out."""
    stride, dilation = axes_of(c, "strides", rank), axes_of(c, "dilations", rank)
    symmetric = all(a == b for a, b in pads)
    result: dict[str, Any] = {}
    if any(s != 1 for s in stride):
        result["stride"] = stride
    if any(a or b for a, b in pads):
        result["padding"] = tuple(a for a, _ in pads) if symmetric else pads
    if any(d != 1 for d in dilation):
        result["dilation"] = dilation
    return result


@rule("ConvTranspose")
def transposed(i: Importer, c: Call) -> str:
    x, size = image(i, c)
    w = i.known(c, 1, "weights")
    i.layer(c)
    rank = len(size)
    kernel = kernel_of(i, c, w.shape[2:])
    strides, dilations = axes_of(c, "strides", rank), axes_of(c, "dilations", rank)
    extra = c.integers("output_padding") or (0,) * rank
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    whole = [(n - 1) * s + r for n, s, r in zip(size, strides, reach, strict=True)]
    wanted, auto = c.integers("output_shape"), c.text("auto_pad", "NOTSET")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(n * s for n, s in zip(size, strides, strict=True))
    if wanted is not None:
        totals = [max(0, full + e - o) for full, e, o in zip(whole, extra, wanted[-rank:], strict=True)]
        pads: Pads = tuple((t // 2, t - t // 2) if auto == "SAME_UPPER" else (t - t // 2, t // 2) for t in totals)
        extra = tuple(o - full + sum(p) for o, full, p in zip(wanted[-rank:], whole, pads, strict=True))
    else:
        pads = pads_of(c, size, kernel)
    out = tuple(full - sum(pair) + e for full, pair, e in zip(whole, pads, extra, strict=True))
    attributes: dict[str, Any] = {**window_attributes(c, rank, pads), "size": out}
    if c.integer("group", 1) != 1:
        attributes["groups"] = c.integer("group", 1)
    operands = [x, i.parameter(w, c.inputs[1], "weight", WEIGHTS[w.ndim])]
    if c.has(2):
        operands.append(i.parameter(i.known(c, 2, "bias").reshape(-1), c.inputs[2], "bias"))
    return i.add("conv_transpose", operands, attributes)


def _pooled(i: Importer, c: Call, op: str, fill: float, more: dict[str, Any]) -> str:
    x, size = image(i, c)
    kernel = kernel_of(i, c)
    pads = pads_of(c, size, kernel)
    attributes: dict[str, Any] = {"kernel": kernel, **window_attributes(c, len(size), pads), **more}
    if c.integer("ceil_mode", 0):
        attributes["ceil_mode"] = True
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, axes_of(c, "dilations", len(size)), strict=True)]
    if all(2 * max(pair) <= r for pair, r in zip(pads, reach, strict=True)):
        return i.add(op, [x], attributes)
    if op == "avgpool" and not more.get("count_include_pad", True):
        raise Unsupported(c, f"its padding {pads} is more than half of its kernel")
    del attributes["padding"]
    return i.add(op, [i.add("pad", [x], {"padding": pads, "value": fill})], attributes)


@rule("MaxPool")
def maximum(i: Importer, c: Call) -> list[Result | None]:
    y = _pooled(i, c, "maxpool", -FLOAT32, {})
    if len(c.outputs) < 2 or not c.outputs[1]:
        return [y]
    x, size = image(i, c)
    kernel = kernel_of(i, c)
    pads = pads_of(c, size, kernel)
    i.pooled[c.outputs[1]] = Pooled(x, {"kernel": kernel, **window_attributes(c, len(size), pads)})
    if BATCH in i.type(x).shape:
        return [y, y]  # for MaxUnpool alone, which looks at what was pooled
    i.kinds[c.outputs[1]] = INDICES
    return [y, _places(i, c, x, i.type(y).sizes, pads)]


def _places(i: Importer, c: Call, x: str, out: Sequence[int], pads: Pads) -> str:
    """Where in the whole tensor the largest of each window is, the first of equals."""
    shape, rank = i.type(x).sizes, len(out) - 2
    kernel, strides, dilations = kernel_of(i, c), axes_of(c, "strides", rank), axes_of(c, "dilations", rank)
    if product(kernel) > TAPS:
        raise Unsupported(c, f"the indices of its maxima are asked for, and its windows have more than {TAPS} pixels")
    i.make(2, *shape)
    indices = np.arange(product(shape), dtype=np.float64).reshape(shape)
    if c.integer("storage_order", 0):
        flat = np.arange(product(shape[2:])).reshape(shape[:1:-1]).T
        indices = indices - np.arange(product(shape[2:])).reshape(shape[2:]) + flat
    reach = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(out[2:], strides, kernel, dilations, strict=True)]
    wide = [(a, max(0, r - a - n)) for (a, _), n, r in zip(pads, shape[2:], reach, strict=True)]
    source = i.add("pad", [x], {"padding": tuple(wide), "value": -FLOAT32}) if any(map(any, wide)) else x
    padded = np.pad(indices, [(0, 0), (0, 0), *wide])
    best, at = "", ""
    for tap in np.ndindex(*kernel):
        value, where = source, [slice(None), slice(None)]
        for axis, (t, o, s, d) in enumerate(zip(tap, out[2:], strides, dilations, strict=True), 2):
            step = {"step": s} if s != 1 and o > 1 else {}
            value = i.add("slice", [value], {"axis": axis, "start": t * d, "size": o, **step})
            where.append(slice(t * d, t * d + (o - 1) * s + 1, s))
        place = i.parameter(padded[tuple(where)], "", "places", PLAIN.get(len(out)))
        at = place if not best else i.pointwise("where(a0 > a1, a2, a3)", value, best, place, at)
        best = value if not best else i.pointwise("max(a0, a1)", value, best)
    return at


@rule("MaxUnpool")
def unpooled(i: Importer, c: Call) -> str:
    """Values back at the places of maxima: those of a pooling in the model, or known ones."""
    y = i.tensor(c, 0)
    pooled = i.pooled.get(c.inputs[1]) if len(c.inputs) > 1 else None
    if pooled is not None and not c.has(2):
        return i.add("unpool", [y, pooled.x], pooled.attributes)
    places, shape = i.known(c, 1, "indices").reshape(-1).astype(np.int64), i.type(y).shape
    rank = len(shape) - 2
    strides, kernel = axes_of(c, "strides", rank), kernel_of(i, c)
    pads = pads_of(c, [int(d) for d in shape[2:]], kernel)
    natural = (
        (int(n) - 1) * s + k - sum(p) for n, s, k, p in zip(shape[2:], strides, kernel, pads, strict=True)
    )  # the least that the pooling may have begun with
    inside = (*(int(d) for d in shape[:2]), *natural)
    whole = tuple(int(v) for v in i.known(c, 2, "output_shape").reshape(-1)) if c.has(2) else inside
    i.make(*whole)
    if len(whole) > len(inside):
        raise Malformed(f"its output_shape is {list(whole)}")
    places = np.ravel_multi_index(np.unravel_index(places, inside), whole)
    source = np.full(product(whole), places.size, np.int64)
    source[places] = np.arange(places.size)
    flat = i.add("pad", [i.add("reshape", [y], {"shape": (1, places.size)})], {"padding": ((0, 0), (0, 1))})
    back = i.add("gather", [flat], {"axis": 1, "indices": listed(source)})
    return i.add("reshape", [back], {"shape": whole})


@rule("AveragePool")
def average(i: Importer, c: Call) -> str:
    include = bool(c.integer("count_include_pad", 0))
    x, size = image(i, c)
    kernel = kernel_of(i, c)
    pads = pads_of(c, size, kernel)
    wide = any(2 * max(pair) > k for pair, k in zip(pads, kernel, strict=True))
    if any(d != 1 for d in c.integers("dilations") or ()) or (wide and not include):
        return _sums(i, c, x, pads, include)
    padded = any(p for pair in pads for p in pair)
    return _pooled(i, c, "avgpool", 0.0, {} if include or not padded else {"count_include_pad": False})


def _sums(i: Importer, c: Call, x: str, pads: Pads, include: bool | None) -> str:
    """Sums over windows, dilated ones too: a convolution of each channel with ones; with `include` means, over the padding
    as well or over pixels alone.
    """
    size, kernel, channels = spatial(i.type(x)), kernel_of(i, c), int(i.type(x).shape[1])
    rank = len(size)
    strides, dilations = axes_of(c, "strides", rank), axes_of(c, "dilations", rank)
    wide, counts = [], np.ones([1] * (rank + 2))
    for axis, (n, k, s, d, (before, behind)) in enumerate(zip(size, kernel, strides, dilations, pads, strict=True)):
        room = n + before + behind - (k - 1) * d - 1
        if room < 0:
            raise Malformed(f"its kernel {list(kernel)} exceeds its input {list(size)}")
        out = room // s + 1
        if c.integer("ceil_mode", 0) and room % s and out * s < n + before:
            out += 1
        wide.append((before, max(behind, (out - 1) * s + (k - 1) * d + 1 - n - before)))
        for counted in ((out, k), (*counts.shape[: axis + 2], out)):
            bounded(counted, "what it counts of windows")
        at = np.arange(out)[:, None] * s + np.arange(k) * d - before
        least, most = (-before, n + behind) if include else (0, n)
        count = ((at >= least) & (at < most)).sum(1)
        counts = counts * count.reshape([-1 if a == axis + 2 else 1 for a in range(rank + 2)])
    i.make(channels, *kernel)
    ones = i.parameter(np.ones((channels, 1, *kernel)), "", "ones", WEIGHTS[rank + 2])
    attributes = {**window_attributes(c, rank, tuple(wide)), "groups": channels}
    y = i.add("conv", [x, ones], attributes)
    if include is None:
        return y
    return i.pointwise("a0 * a1", y, i.aligned((1 / np.maximum(counts, 1)).astype(np.float32), rank + 2))


@rule("GlobalAveragePool")
def global_average(i: Importer, c: Call) -> Result:
    return i.add("global_avgpool", [image(i, c)[0]])


@rule("GlobalMaxPool")
def global_maximum(i: Importer, c: Call) -> Result:
    x, size = image(i, c)
    return i.add("maxpool", [x], {"kernel": size})


@rule("LpPool", "GlobalLpPool")
def root_of_powers(i: Importer, c: Call) -> Result:
    """Of sizes, whatever their sign; padding adds nothing to a sum of powers."""
    x, size = image(i, c)
    x = i.add("abs", [x])
    whole = c.operator == "GlobalLpPool"
    kernel = size if whole else kernel_of(i, c)
    if any(d != 1 for d in c.integers("dilations") or ()):
        p = float(c.integer("p", 2))
        total = _sums(i, c, i.pointwise(f"pow(a0, {p!r})", x), pads_of(c, size, kernel), None)
        return i.pointwise(f"pow(a0, {1 / p!r})", total)
    pads: Pads = ((0, 0),) * len(size) if whole else pads_of(c, size, kernel)
    if any(p for pair in pads for p in pair):
        x = i.add("pad", [x], {"padding": pads})
    attributes: dict[str, Any] = {"norm_type": float(c.integer("p", 2)), "kernel": kernel}
    attributes["stride"] = axes_of(c, "strides", len(size)) if not whole else kernel
    if c.integer("ceil_mode", 0):
        attributes["ceil_mode"] = True
    return i.add("lppool", [x], attributes)
