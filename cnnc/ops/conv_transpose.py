"""Transposed convolution in one, two and three dimensions (Zeiler et al., "Deconvolutional Networks", 2010).

It is the gradient of a convolution's input, `conv_data_gradient`, as a layer: every pixel of the input is spread over the
window of the result that a convolution would have read it from. Its own gradients are a convolution, and a convolution's
weight gradient in which the two images have changed places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lcm
from typing import Any

from cnnc.ir.graph import Node
from cnnc.ir.layer import STARTS_OF_LAYERS, Argument, ParameterSpec, Site, builds
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, register, required
from cnnc.ir.receptive import Field, space_of
from cnnc.ir.types import WEIGHTS, TensorType, product
from cnnc.ops.checks import flag, integer, integers
from cnnc.ops.conv import ATTRIBUTES, check_groups, data_macs, infer_data, spread
from cnnc.ops.window import DILATION, GROUPS, KERNEL_SIZE, Window, image, spatial


def _gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    dy, x, w, bias = gradients[0], node.operand("x"), node.operand("weight"), node.optional("bias")
    shared = {k: node.attributes[k] for k in ("stride", "padding", "dilation", "groups") if k in node.attributes}
    kernel = {"kernel": context.type(w).shape[2:]}
    dx = context.add("conv", [dy, w], shared) if context.wanted(x) else None
    dw = context.add("conv_weight_gradient", [dy, x], {**shared, **kernel}) if context.wanted(w) else None
    db = context.reduce_to(dy, bias) if bias is not None and context.wanted(bias) else None
    return [dx, dw, db][: len(node.operands)]


def _field(node: Node, types: Types, seen: Field) -> Field:
    """Of the taps, a pixel of the result meets those that are a stride apart, by pixels of the input."""
    kernel = required(types[1]).shape[2:]
    window = Window.of(kernel, node.attributes, len(kernel))
    size, jump = [], []
    for axis, (s, d) in enumerate(zip(window.stride, window.dilation, strict=True)):
        met = -(-window.kernel[axis] // (lcm(s, d) // d))
        size.append(seen.size[axis] + (met - 1) * (lcm(s, d) // s) * seen.jump[axis])
        jump.append(-(-seen.jump[axis] // s))
    return Field(tuple(size), tuple(jump), space_of(node.type))


register(
    Op(
        name="conv_transpose",
        operands=("x", "weight", "bias?", "epilogue*"),
        infer=infer_data("conv_transpose", "x"),
        reference=spread,
        attributes={**ATTRIBUTES, "size": REQUIRED},
        gradient=_gradient,
        macs=data_macs,
        layout="window",
        kind="convolution",
        field=_field,
        doc="y[n, c, i] = b[c] + sum over k, o, t of w[k, c, t] * x[n, k, o] where i = o * stride + t * dilation - padding, "
        "within each of `groups` groups of channels. `size`: of the result. `epilogue` as of conv.",
    )
)


# ------------------------------------------------------------------------------------------------ the layer


def _window(type: TensorType, arguments: Mapping[str, Any]) -> Window:
    if isinstance(arguments["padding"], str):
        raise InferenceError(
            f'padding is a number or a list, not "{arguments["padding"]}"', "padding", "E0203", help="write a number"
        )
    return Window.of(arguments["kernel_size"], arguments, len(spatial(image(type, "conv_transpose"))))


def _parameters(types: Sequence[TensorType], arguments: Mapping[str, Any]) -> dict[str, ParameterSpec]:
    window, channels = _window(types[0], arguments), int(types[0].shape[1])
    filters = integer(arguments["out_channels"], "out_channels", 1)
    groups = check_groups(arguments["groups"], channels, filters)
    fan_in = filters // groups * product(window.kernel)  # of PyTorch, which takes the weights for a convolution's
    shape = (channels, filters // groups, *window.kernel)
    specs = {"weight": ParameterSpec(shape, WEIGHTS[types[0].rank], fan_in=fan_in, groups=groups)}
    if flag(arguments["bias"], "bias"):
        specs["bias"] = ParameterSpec((filters,), fan_in=fan_in)
    return specs


def _size(window: Window, axis: int, extent: int, more: int) -> tuple[int, tuple[int, int]]:
    """Pixels of the result, `more` of them at its end, and the padding with which a convolution makes `extent` of them.

    It would make more where `more` is a stride or above; then as many of those that the padding takes from the end stay.
    """
    stride, (before, after) = window.stride[axis], window.padding[axis]
    if more >= max(stride, window.dilation[axis]):
        raise InferenceError(
            f"output_padding {more} must be smaller than the stride {stride} or the dilation {window.dilation[axis]}",
            "output_padding",
            "E0203",
            help="use a larger stride, or pad the result",
        )
    whole = (extent - 1) * stride + window.reach(axis)
    size, kept = whole - before - after + more, more // stride * stride
    if size < 1:
        raise InferenceError(
            f"padding {before} and {after} leaves nothing of {whole} pixels",
            "padding",
            "E0202",
            notes=[f"({extent} - 1) * {stride} + {window.reach(axis)} = {whole} on axis {axis + 2}"],
            help="use less padding, or a larger kernel",
        )
    if kept > after:
        raise InferenceError(
            f"output_padding {more} adds pixels that no window reaches",
            "output_padding",
            "E0203",
            help=f"use at most {stride - 1 + after // stride * stride}, or more padding",
        )
    return size, (before, after - kept)


@builds(
    "conv_transpose",
    Argument("out_channels", doc="how many channels the result has"),
    KERNEL_SIZE,
    Argument("stride", 1, "pixels of the result from one window to the next"),
    Argument("padding", 0, "pixels taken from the result's ends: a number, a list, or a list of pairs"),
    Argument("output_padding", 0, "pixels added to the result's end, fewer than a stride"),
    GROUPS,
    Argument("bias", True, "whether a trained number is added to each channel of the result"),
    DILATION,
    *STARTS_OF_LAYERS,
    parameters=_parameters,
    shapes="[N, C, H, W] -> [N, out_channels, H', W'], where "
    "H' = (H - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1",
    example="x -> conv_transpose(16, 2, stride=2)",
)
def _build(site: Site) -> str:
    """transposed convolution in 1, 2 or 3 dimensions: each pixel spread over a window of the result"""
    window, extents = _window(site.type, site.arguments), spatial(site.type)
    more = integers(site.arguments["output_padding"], "output_padding", len(extents), 0)
    found = [_size(window, axis, extent, more[axis]) for axis, extent in enumerate(extents)]
    size, padding = zip(*found, strict=True)
    window = Window(window.kernel, window.stride, padding, window.dilation)
    attributes = {**window.attributes(), "size": size, "groups": site.arguments["groups"]}
    return site.add("conv_transpose", [*site.operands, *site.parameters.values()], attributes)
