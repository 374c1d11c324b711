"""Pooling by the norm of powers: (sum of x^p over a window)^(1/p)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from cnnc.ir import expression as ex
from cnnc.ir.expression import Expression
from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Site, builds
from cnnc.ir.op import OPS, REQUIRED, Op, Types, defines
from cnnc.ir.types import TensorType, product
from cnnc.ops.checks import flag, number
from cnnc.ops.pool import ATTRIBUTES
from cnnc.ops.window import KERNEL_SIZE, Window, image, spatial, window_field

LPPOOL = {k: ATTRIBUTES[k] for k in ("kernel", "stride", "ceil_mode")}


def averaging(node: Node) -> Attributes:
    """Those of the average pooling within."""
    return node.attributes.with_(norm_type=None)


def powers(node: Node) -> tuple[Expression, Expression]:
    """In front of the averages, of a0, and behind them, of a0: the power, and the root of as many as a window has."""
    p, many = float(node.attribute("norm_type")), product(tuple(node.attribute("kernel")))
    within = ex.simplify(("pow", ex.var("a0"), ex.const(p)))
    return within, ex.simplify(("pow", ("mul", ex.var("a0"), ex.const(many)), ex.const(1 / p)))


def _infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    number(attributes["norm_type"], "norm_type", 2.0**-10, 2.0**10)
    return OPS["avgpool"].infer(types, attributes.with_(norm_type=None))


def _gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    """dm = dy * many / p * y^(1 - p) for the mean m, 0 where y is; dx = p * x^(p - 1) * the average's gradient of it."""
    p, many, x = float(node.attribute("norm_type")), product(tuple(node.attribute("kernel"))), node.operands[0]
    above: Expression = ("mul", ("mul", ex.var("g"), ex.const(many)), ("pow", ex.var("y"), ex.const(1 - p)))
    if p != 1:
        above = ("where", ("eq", ex.var("y"), ex.const(0)), ex.const(0), above)
    mean = context.pointwise(above, {"g": gradients[0], "y": node.name})
    size = spatial(context.type(x))
    spread = context.add("avgpool_gradient", [mean], {**averaging(node), "size": size})
    return [context.pointwise(("mul", ex.var("d"), ("pow", ex.var("x"), ex.const(p - 1))), {"d": spread, "x": x})]


@defines(
    Op(
        "lppool",
        ("x",),
        infer=_infer,
        attributes={"norm_type": REQUIRED, **LPPOOL},
        gradient=_gradient,
        layout="any",
        kind="pooling",
        field=window_field,
    )
)
def _reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """The root of the sum of powers, (sum of x^p)^(1/p) with p = `norm_type`, of each window; of a window that reaches past
    the input as many times the mean as the kernel has pixels (PyTorch's rule). Powers keep signs: for p = 1 it is the sum.
    The gradient is 0 where the result is.
    """
    p, many = float(attributes["norm_type"]), product(tuple(attributes["kernel"]))
    with np.errstate(invalid="ignore"):
        powers = np.asarray(arrays[0], np.float64) ** p
        (mean,) = OPS["avgpool"].reference((powers,), attributes.with_(norm_type=None), types)
        return ((mean * many) ** (1 / p),)


@builds(
    "lppool",
    Argument("norm_type", doc="the power p: 1 is the sum, 2 the root of the sum of squares"),
    KERNEL_SIZE,
    Argument("stride", None, "pixels from one window to the next; the kernel's size unless given"),
    Argument("ceil_mode", False, "whether the last window may reach past the input"),
    shapes="[N, C, H, W] -> [N, C, H', W'], where H' = floor((H - kernel_size) / stride) + 1, rounded up with ceil_mode",
    example="x -> lppool(2, 3, stride=2)",
)
def _build(site: Site) -> str:
    """the norm of each window, `(sum of x^p)^(1/p)`"""
    given, rank = site.arguments, image(site.type, "lppool").rank - 2
    window = Window.of(given["kernel_size"], {"stride": given["stride"]}, rank, stride_default=given["kernel_size"])
    attributes = {"kernel": window.kernel, **window.attributes(), "ceil_mode": flag(given["ceil_mode"], "ceil_mode")}
    return site.add("lppool", site.operands, {**attributes, "norm_type": given["norm_type"]})
