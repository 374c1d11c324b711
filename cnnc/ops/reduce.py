"""What axes of a tensor give together: means, sums, maxima, minima, products, logarithms of sums of powers, norms, where the
largest stands, and running sums.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from cnnc.ir import expression as ex
from cnnc.ir.graph import Attributes, Node
from cnnc.ir.layer import Argument, Layer, Site, builds, register_layer
from cnnc.ir.op import REQUIRED, InferenceError, Op, Types, defines, register, required
from cnnc.ir.receptive import Field
from cnnc.ir.types import BATCH, TensorType, activation, product
from cnnc.ops.checks import all_axes, flag, one_axis

Gradient = Callable[[Any, Node, Sequence[str | None]], Sequence[str | None]]


def _infer(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    axes = all_axes(attributes["axis"], x.rank)
    if attributes["keepdim"]:
        return (activation(tuple(1 if i in axes else d for i, d in enumerate(x.shape)), x.dtype),)
    return (activation(tuple(d for i, d in enumerate(x.shape) if i not in axes), x.dtype),)


def _reduced(function: Any) -> Any:
    def reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
        x = np.asarray(arrays[0], np.float64)
        return (function(x, all_axes(attributes["axis"], x.ndim), keepdims=attributes["keepdim"]),)

    return reference


def _field(node: Node, types: Types, seen: Field) -> Field:
    """All there is along the axes that are reduced."""
    rank = required(types[0]).rank
    return seen.over({axis - 2 for axis in all_axes(node.attributes["axis"], rank)})


def _kept(context: Any, node: Node, value: str) -> str:
    """A value of the result's shape with axes of 1 where the operand's were reduced."""
    x = context.type(node.operands[0])
    axes = all_axes(node.attribute("axis"), x.rank)
    shape = tuple(1 if i in axes else d for i, d in enumerate(x.shape))
    found: str = value if context.type(value).shape == shape else context.add("reshape", [value], {"shape": shape})
    return found


def _sum(context: Any, node: Node, value: str) -> str:
    axes = all_axes(node.attribute("axis"), context.type(node.operands[0]).rank)
    found: str = context.add("sum", [value], {"axis": axes, "keepdim": True})
    return found


def _values(context: Any, node: Node, gradients: Sequence[str | None]) -> dict[str, str]:
    """The operand, and the result and its gradient beside it."""
    dy = _kept(context, node, gradients[0] or "")
    return {"x": str(node.operands[0]), "y": _kept(context, node, node.name), "dy": dy}


def _sum_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    x, dy = context.type(node.operands[0]), _kept(context, node, gradients[0] or "")
    if node.op == "mean":
        space = [x.shape[i] for i in all_axes(node.attributes["axis"], x.rank)]
        dy = context.scale(dy, 1 / product(tuple(int(d) for d in space if d != BATCH)))
        if BATCH in space:
            dy = context.add("div", [dy, context.add("batch_size", [node.operands[0]])])
    return [context.expand(dy, x)]


def _extreme_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    """All entries that are the extreme have equal shares, as in PyTorch's amax and amin."""
    values = _values(context, node, gradients)
    hit = context.pointwise(ex.parse("x == y"), {"x": values["x"], "y": values["y"]})
    shares = {"hit": hit, "count": _sum(context, node, hit), "dy": values["dy"]}
    return [context.pointwise(ex.parse("hit * (dy / count)"), shares)]


def _product_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    """The product of the others: of one 0 among them nothing but its own is left, of several nothing."""
    values = _values(context, node, gradients)
    x = {"x": values["x"]}
    others = context.pointwise(ex.parse("where(x == 0, 1, x)"), x)
    attributes = {"axis": all_axes(node.attribute("axis"), context.type(others).rank), "keepdim": True}
    values |= {"p": context.add("prod", [others], attributes), "others": others}
    values["zeros"] = _sum(context, node, context.pointwise(ex.parse("x == 0"), x))
    alone = "where(x == 0, where(zeros > 1, 0, p), where(zeros > 0, 0, p / others))"
    tree = ex.parse(f"dy * {alone}")
    return [context.pointwise(tree, {k: v for k, v in values.items() if k in ex.variables(tree)})]


def _powers_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    """Softmax times dy."""
    values = _values(context, node, gradients)
    return [context.pointwise(ex.parse("dy * exp(x - y)"), values)]


def _log_of_powers(x: Any, axes: Any, keepdims: bool) -> Any:
    with np.errstate(all="ignore"):
        top = np.clip(x.max(axes, keepdims=True, initial=-np.inf), -1e300, 1e300)
        y = np.log(np.exp(x - top).sum(axes, keepdims=True)) + top
    return y if keepdims else y.squeeze(axes)


REDUCTIONS: dict[str, tuple[Any, Gradient, str, str]] = {
    "mean": (np.mean, _sum_gradient, "the mean over one axis or several", "The mean"),
    "sum": (np.sum, _sum_gradient, "the sum over one axis or several", "The sum"),
    "max": (partial(np.max, initial=-np.inf), _extreme_gradient, "the largest over one axis or several", "The largest"),
    "min": (partial(np.min, initial=np.inf), _extreme_gradient, "the smallest over one axis or several", "The smallest"),
    "prod": (np.prod, _product_gradient, "the product over one axis or several", "The product"),
    "logsumexp": (
        _log_of_powers,
        _powers_gradient,
        "the logarithm of the sum of powers of e over one axis or several",
        "The logarithm of the sum of e to the power of each, shifted by the largest,",
    ),
}  # fmt: skip


def _axes_layer(site: Site) -> dict[str, Any]:
    axes = all_axes(site.arguments["axis"], site.type.rank)
    return {"axis": axes, "keepdim": flag(site.arguments["keepdim"], "keepdim")}


def _over_axes(op: str) -> Callable[[Site], str]:
    return lambda site: site.add(op, site.operands, _axes_layer(site))


def _along(op: str) -> Callable[[Site], str]:
    def build(site: Site) -> str:
        axis, keepdim = one_axis(site.arguments["axis"], site.type.rank), flag(site.arguments["keepdim"], "keepdim")
        return site.add(op, site.operands, {"axis": axis, "keepdim": keepdim})

    return build


AXES = (
    Argument("axis", doc="a number, or a list"),
    Argument("keepdim", False, "whether axes stay, with a size of 1"),
)
_over = partial(Op, operands=("x",), attributes={"axis": REQUIRED, "keepdim": False}, kind="pooling", field=_field)
for _name, (_function, _rule, _line, _doc) in REDUCTIONS.items():
    _doc = f"{_doc} over axes, which go, or stay as 1 with `keepdim`."
    register(_over(_name, infer=_infer, reference=_reduced(_function), gradient=_rule, doc=_doc))
    register_layer(
        Layer(
            name=_name,
            arguments=AXES,
            build=_over_axes(_name),
            doc=_line,
            shapes="any shape -> the same without these axes",
            example=f"x -> {_name}([2, 3])",
        )
    )


@builds(
    "norm",
    Argument("p", 2, "1 for the sum of absolute values, 2 for the root of the sum of squares"),
    *AXES,
    shapes="any shape -> the same without these axes",
    example="x -> norm(2, axis=1)",
)
def _norm(site: Site) -> str:
    """how long the vectors along one axis or several are"""
    p, attributes = site.arguments["p"], _axes_layer(site)
    if p not in (1, 2):
        raise InferenceError(f"p is {p!r}; norms are of p = 1 and p = 2", "p", "E0203")
    b, x = site.builder, site.operands[0]
    sizes = b.add("abs", [x], {}, f"{site.name}.abs", site.origin) if p == 1 else ""
    if p == 1:
        return site.add("sum", [sizes], attributes)
    squares = b.add("mul", [x, x], {}, f"{site.name}.squares", site.origin)
    return site.add("sqrt", [b.add("sum", [squares], attributes, f"{site.name}.sum", site.origin)])


# ------------------------------------------------------------------------------------------------ where the largest is


def _infer_place(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    axis = one_axis(attributes["axis"], x.rank)
    if x.shape[axis] == BATCH:
        raise InferenceError("places are within an image: axis cannot be the batch", "axis", "E0203")
    return _infer(types, attributes)


def _place(function: Any) -> Any:
    def reference(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
        found = function(np.asarray(arrays[0], np.float64), attributes["axis"])
        return (np.asarray(found, np.float64).reshape(types[0].sizes),)

    return reference


for _name, _function, _what in (("argmax", np.argmax, "largest"), ("argmin", np.argmin, "smallest")):
    _doc = f"Where along an axis the {_what} is, a whole number as float32: the first of equals, and the first NaN."
    register(_over(_name, infer=_infer_place, reference=_place(_function), doc=_doc))
    register_layer(
        Layer(
            name=_name,
            arguments=(Argument("axis", doc="a number"), AXES[1]),
            build=_along(_name),
            doc=f"where along an axis the {_what} is; it has no gradient",
            shapes="any shape -> the same without this axis",
            example=f"x -> {_name}(1)",
        )
    )


# ------------------------------------------------------------------------------------------------ running sums


def _infer_running(types: Types, attributes: Attributes) -> tuple[TensorType, ...]:
    x = required(types[0])
    flag(attributes["reverse"], "reverse")
    if x.shape[one_axis(attributes["axis"], x.rank)] == BATCH:
        raise InferenceError("running sums are within an image: axis cannot be the batch", "axis", "E0203")
    return (x,)


def _running_gradient(context: Any, node: Node, gradients: Sequence[str | None]) -> list[str | None]:
    turned = {"axis": node.attribute("axis"), "reverse": not node.attribute("reverse")}
    return [context.add("cumsum", [gradients[0]], turned)]


def _running_field(node: Node, types: Types, seen: Field) -> Field:
    """As far as an axis goes; where it stands does not change."""
    axis = one_axis(node.attribute("axis"), node.type.rank) - 2
    if not 0 <= axis < len(seen.size):
        return seen
    size = list(seen.size)
    size[axis] += (seen.extent[axis] - 1) * seen.jump[axis]
    return Field(tuple(size), seen.jump, seen.extent)


@defines(
    _over(
        "cumsum",
        infer=_infer_running,
        attributes={"axis": REQUIRED, "reverse": False},
        gradient=_running_gradient,
        field=_running_field,
    )
)
def _running(arrays: Sequence[Any], attributes: Attributes, types: Sequence[TensorType]) -> tuple[Any, ...]:
    """Running sums along an axis: y_i is the sum of x up to i, or with `reverse` from i on."""
    x, axis = np.asarray(arrays[0], np.float64), attributes["axis"]
    return (np.flip(np.flip(x, axis).cumsum(axis), axis) if attributes["reverse"] else x.cumsum(axis),)


@builds("cumsum", Argument("axis", doc="a number"), example="x -> cumsum(2)")
def _cumsum(site: Site) -> str:
    """running sums along an axis"""
    return site.add("cumsum", site.operands, {"axis": one_axis(site.arguments["axis"], site.type.rank)})
