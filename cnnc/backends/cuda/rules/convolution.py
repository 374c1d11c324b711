"""Convolutions and linear layers on GPUs, as products of matrices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cnnc.backends.cpu.problem import epilogue, problem
from cnnc.backends.cuda.context import Lowering
from cnnc.backends.cuda.emit import at, emit, in_blocks, is_blocked, map_to, scratch
from cnnc.backends.cuda.rules.reduce import add_parts
from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.ir.types import product as size_of
from cnnc.kernels.cpu.problem import BARE, Conv, Epilogue
from cnnc.kernels.cuda.conv import implicit_plan as ip
from cnnc.kernels.cuda.conv import weight_gradient_plan as wg
from cnnc.kernels.cuda.elementwise.map_plan import IDENTITY, Space
from cnnc.kernels.cuda.target import LANES
from cnnc.lowering.plan import Ref


@dataclass(frozen=True)
class Behind:
    """What is done to the sums, of which y is the variable: operands by kind, with the bias as one of channels."""

    epilogue: Epilogue
    values: tuple[str, ...]


def behind(low: Lowering, node: Node, bias: str | None) -> Behind:
    given, values = epilogue(low, node)
    if bias is None:
        return Behind(given, values)
    tree = ("add", ex.var("y"), ex.var(f"a{len(values)}"))
    if given.expression is not None:
        tree = _replaced(given.expression, tree)
    return Behind(Epilogue(tree, (*given.operands, "channel")), (*values, bias))


def _replaced(tree: Any, y: Any) -> Any:
    """An expression with another in the place of y."""
    if tree[0] == "var":
        return y if tree[1] == "y" else tree
    return tree if tree[0] == "const" else (tree[0], *(_replaced(part, y) for part in tree[1:]))


def _as_map(tree: Any, sums: Sequence[Any]) -> Any:
    """The epilogue of a map whose first operands are the parts of y."""
    total = sums[0]
    for other in sums[1:]:
        total = ("add", total, other)

    def shifted(part: Any) -> Any:
        if part[0] == "var":
            return total if part[1] == "y" else ex.var(f"a{int(part[1][1:]) + len(sums)}")
        return part if part[0] == "const" else (part[0], *(shifted(p) for p in part[1:]))

    return total if tree is None else shifted(tree)


@dataclass(frozen=True)
class Product:
    """A convolution, or what is like one: where its x lies, the name of its weights, and the shape of its result."""

    problem: ip.Problem
    taps: Sequence[ip.Taps]
    x: Ref
    weight: str
    shape: tuple[int, ...]


def _plans(low: Lowering, product: Product, after: Epilogue) -> list[ip.Product]:
    """A launch for each of the taps. Of several, which have outputs of their own in one memory, none is cut into parts."""
    what = product.problem
    if len(product.taps) == 1:
        return [ip.plan(low.chip, what, product.taps[0], after)]
    return [ip.plan(low.chip, what, one, after, (ip.choice(low.chip, what, one)[0], 1)) for one in product.taps]


def multiply(low: Lowering, node: Node, product: Product, after: Behind) -> None:
    """The steps of a product. A kernel does all, where the result is in blocks and no sum is cut; else a map comes behind."""
    shape = product.shape
    plans = _plans(low, product, after.epilogue)
    whole = is_blocked(node.type) or (
        len(shape) == 2 and shape[1] % LANES == 0
    )  # the result lies as the kernel leaves it
    direct = whole and plans[0].parts == 1
    size = size_of(Space(shape, True).axes)
    target = low.ref(node.name) if direct else scratch(low, f"{node.name}~sums", plans[0].parts * size)
    for one, plan in zip(product.taps, plans, strict=True):
        if not direct and plan.parts == 1:
            plan = ip.plan(low.chip, product.problem, one, BARE, (ip.tile_of(plan.launch), 1))
        buffers = {"x": product.x, "weights": _packed(low, node, product.weight, plan.weights), "y": target}
        if direct:
            buffers |= {f"a{i}": low.ref(v) for i, v in enumerate(after.values)}
        emit(low, node, plan.launch, buffers, ["y"], note=_note(plan, len(plans)))
    if not direct:
        _finish(low, node, shape, target, plans[0].parts, after)


def _finish(low: Lowering, node: Node, shape: tuple[int, ...], sums: Ref, parts: int, after: Behind) -> None:
    """Add the parts of sums in their order, and what comes behind."""
    space = Space(shape, True)
    operands = [at(space, sums, shape, True, start=i * size_of(space.axes)) for i in range(parts)]
    for kind, value in zip(after.epilogue.operands, after.values, strict=True):
        ones = [1] * (len(shape) - 2)
        own = shape if kind == "full" else (1, shape[1], *ones) if kind == "channel" else (1, 1, *ones)
        operands.append(at(space, low.ref(value), own, is_blocked(low.type(value)) and kind == "full"))
    tree = _as_map(after.epilogue.expression, [ex.var(f"a{i}") for i in range(parts)])
    note = f"sum of {parts} parts" if parts > 1 else "behind the product"
    map_to(low, node, space, [at(space, low.ref(node.name), shape, is_blocked(node.type))], operands, [tree], note)


def _note(plan: ip.Product, count: int) -> str:
    tile = ip.tile_of(plan.launch)
    cut = f", {plan.parts} parts" if plan.parts > 1 else f", one of {count} remainders" if count > 1 else ""
    return f"product {tile.pixels}x{tile.filters}{cut}"


def _packed(low: Lowering, node: Node, weight: str, form: ip.Packed) -> Ref:
    """Weights in the kernel's order; what wants the same form of the same weights shares it."""

    def make() -> Ref:
        target = scratch(low, f"{weight}~packed", form.floats)
        emit(low, node, ip.plan_pack(form), {"source": low.ref(weight), "packed": target}, ["packed"])
        return target

    return low.once(("packed", weight, form), make)


def convolution(low: Lowering, node: Node) -> None:
    """A convolution, a transposed one, or the gradient of the input of one."""
    p = problem(low, node)
    what = (ip.of_backward if p.transposed else ip.of_forward)(p.conv)
    assert what.fits, "groups without whole blocks of channels"
    taps = ip.backward(p.conv) if p.transposed else [ip.forward(p.conv)]
    product = Product(what, taps, in_blocks(low, node, p.x), p.weight, low.shape(node.name))
    multiply(low, node, product, behind(low, node, p.bias))


def _as_conv(low: Lowering, rows: int, weight: str) -> Conv:
    outputs, inputs = low.shape(weight)
    return Conv(rows, inputs, (1, 1), outputs, (1, 1))


def _rows(low: Lowering, node: Node, value: str) -> tuple[Ref, int]:
    """A matrix as images of one pixel, and its rows: itself, where these are whole blocks; else a copy with zeros behind them."""
    *rows, columns = low.shape(value)
    count = size_of(tuple(rows))
    if columns % LANES == 0:
        return low.ref(value), count

    def make() -> Ref:
        space = Space((count, columns), True)
        ref = scratch(low, f"{value}~rows", size_of(space.axes))
        result, source = at(space, ref, (count, columns), True), at(space, low.ref(value), (count, columns))
        map_to(low, node, space, [result], [source], [IDENTITY], "rows of whole blocks")
        return ref

    return low.once(("rows", value), make), count


def linear(low: Lowering, node: Node) -> None:
    x, weight, bias = node.operand("x"), node.operand("weight"), node.optional("bias")
    ref, rows = _rows(low, node, x)
    conv = _as_conv(low, rows, weight)
    product = Product(ip.of_forward(conv), [ip.forward(conv)], ref, weight, (rows, conv.filters))
    multiply(low, node, product, behind(low, node, bias))


def linear_data_gradient(low: Lowering, node: Node) -> None:
    dy, weight = node.inputs
    ref, rows = _rows(low, node, dy)
    conv = _as_conv(low, rows, weight)
    multiply(
        low,
        node,
        Product(ip.of_backward(conv), ip.backward(conv), ref, weight, (rows, conv.channels)),
        Behind(BARE, ()),
    )


def _weights(low: Lowering, node: Node, conv: Conv, x: Ref, dy: Ref) -> None:
    """The gradient of weights: sums over parts of the pixels, and their sum where weights lie."""
    made = wg.plan(low.chip, conv)
    groups, taps, rows, row = made.shape
    part = groups * taps * rows * row
    sums = scratch(low, f"{node.name}~sums", made.parts * part)
    tile = wg.tile_of(dict(made.launch.kernel.parameters)["tile"])
    note = f"product {tile.filters}x{tile.channels}" + (f", {made.parts} parts" if made.parts > 1 else "")
    emit(low, node, made.launch, {"x": x, "dy": dy, "dw": sums}, ["dw"], note)
    one = conv.of_group
    space = Space((groups, one.filters, one.channels, taps))
    steps = (taps * rows * row, row, 1, rows * row)
    parts = [at(space, sums, space.shape, steps=steps, start=i * part) for i in range(made.parts)]
    add_parts(low, node, space, at(space, low.ref(node.name), space.shape), parts)


def weight_gradient(low: Lowering, node: Node) -> None:
    p = problem(low, node)
    assert ip.of_forward(p.conv).fits, "groups without whole blocks of channels"
    _weights(low, node, p.conv, in_blocks(low, node, p.x), in_blocks(low, node, p.weight))


def linear_weight_gradient(low: Lowering, node: Node) -> None:
    x, dy = node.inputs
    (source, rows), (given, _) = _rows(low, node, x), _rows(low, node, dy)
    conv = Conv(rows, low.shape(x)[-1], (1, 1), low.shape(dy)[-1], (1, 1))
    _weights(low, node, conv, source, given)
