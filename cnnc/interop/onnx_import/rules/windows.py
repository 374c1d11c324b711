"""Operators that slide a window over an image: convolution and pooling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.interop.onnx_import.importer import Importer, Result, rule
from cnnc.ir.types import WEIGHTS
from cnnc.ops.window import spatial
from cnnc.untrusted import FLOAT32, Malformed

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
def maximum(i: Importer, c: Call) -> str:
    if len(c.outputs) > 1 and c.outputs[1]:
        raise Unsupported(c, "the indices of its maxima are asked for")
    return _pooled(i, c, "maxpool", -FLOAT32, {})


@rule("AveragePool")
def average(i: Importer, c: Call) -> str:
    if any(d != 1 for d in c.integers("dilations") or ()):
        raise Unsupported(c, "it is dilated")
    include = bool(c.integer("count_include_pad", 0))
    padded = any(p for pair in pads_of(c, image(i, c)[1], kernel_of(i, c)) for p in pair)
    return _pooled(i, c, "avgpool", 0.0, {} if include or not padded else {"count_include_pad": False})


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
        raise Unsupported(c, "it is dilated")
    pads: Pads = ((0, 0),) * len(size) if whole else pads_of(c, size, kernel)
    if any(p for pair in pads for p in pair):
        x = i.add("pad", [x], {"padding": pads})
    attributes: dict[str, Any] = {"norm_type": float(c.integer("p", 2)), "kernel": kernel}
    attributes["stride"] = axes_of(c, "strides", len(size)) if not whole else kernel
    if c.integer("ceil_mode", 0):
        attributes["ceil_mode"] = True
    return i.add("lppool", [x], attributes)
