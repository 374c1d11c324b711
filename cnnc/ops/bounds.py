"""Between which numbers values lie, whatever the input and the weights: interval arithmetic over a graph.

It tells probabilities from logits: softmax, sigmoid and all that is made of them lies between 0 and 1, through
flatten, slices, concat, means and products, and whatever passes have fused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from cnnc.ir import expression as ex
from cnnc.ir.expression import Expression
from cnnc.ir.graph import Graph, Node
from cnnc.ir.types import BATCH, Dim
from cnnc.ops import pointwise
from cnnc.ops.checks import all_axes

Range = tuple[float, float]
ANYTHING: Range = (-math.inf, math.inf)
INCREASING = (
    "exp", "expm1", "log", "log1p", "sigmoid", "softplus", "tanh", "sqrt", "sign", "floor", "erf", "normal_cdf",
)  # fmt: skip
ROUNDING = 1e-6  # a third of three probabilities, added up, may be a little more than 1
# ops whose results are some of their operand's values, or means of some
MOVING = (
    "flatten",
    "reshape",
    "to_layout",
    "slice",
    "expand",
    "gather",
    "flip",
    "repeat",
    "channel_shuffle",
    "transpose",
)
SELECTING = frozenset((*MOVING, "pixel_shuffle", "pixel_unshuffle", "dropout", "maxpool", "global_avgpool", "mean"))


def are_probabilities(graph: Graph, value: str) -> bool:
    """Whether a value of the graph can lie between 0 and 1 only, so that it shows probabilities, and is no logit."""
    low, high = ranges(graph)[value]
    return low >= -ROUNDING and high <= 1 + ROUNDING


def ranges(graph: Graph) -> dict[str, Range]:
    """The least and the greatest that every value can be."""
    found: dict[str, Range] = {}
    for node in graph.nodes:
        given = [found[o] for o in node.inputs]
        for result, bounds in zip(node.results, _of_node(graph, node, given), strict=True):
            found[result] = bounds
    return found


def _of_node(graph: Graph, node: Node, given: Sequence[Range]) -> list[Range]:
    everything = [ANYTHING] * len(node.results)
    if node.op == "softmax":
        return [(0.0, 1.0)]
    if node.op in ("conv", "linear"):
        return [_of_epilogue(node, given)]
    if not given and node.op != "constant":
        return everything
    if node.op in SELECTING or (node.op == "avgpool" and not any(map(any, _padding(node)))):
        return [given[0]]
    if node.op == "pad":
        constant = node.attribute("mode") == "constant"
        return [_union(given[0], (float(node.attribute("value")),) * 2) if constant else given[0]]
    if node.op == "avgpool":  # with zeros of the padding, which are counted or not
        return [_union(given[0], (0.0, 0.0))]
    if node.op == "concat":
        return [(min(low for low, _ in given), max(high for _, high in given))]
    if node.op == "sum":
        return [_of_sum(node, graph.type(node.inputs[0]).shape, given[0])]
    if pointwise.is_pointwise(node):
        named = {f"a{i}": r for i, r in enumerate(given)}
        return [of_expression(e, named) for e in pointwise.expressions(node)]
    return everything


def _of_sum(node: Node, shape: Sequence[Dim], given: Range) -> Range:
    sizes = [shape[a] for a in all_axes(node.attributes["axis"], len(shape))]
    if BATCH in sizes:
        return ANYTHING
    count = float(math.prod(int(d) for d in sizes))
    return (_product(given[0], count), _product(given[1], count))


def _of_epilogue(node: Node, given: Sequence[Range]) -> Range:
    """Of a convolution or a linear layer, whose sums can be anything. Its epilogue reads what is behind the bias."""
    epilogue, extras = node.attribute("epilogue"), sum(o is not None for o in node.operands[3:])
    if epilogue is None:
        return ANYTHING
    named = {f"a{i}": r for i, r in enumerate(given[len(given) - extras :])}
    return of_expression(ex.parse(epilogue), {"y": ANYTHING, **named})


def _padding(node: Node) -> Sequence[Sequence[int]]:
    return [[p] if isinstance(p, int) else p for p in node.attributes.get("padding") or ()]


def of_expression(e: Expression, given: Mapping[str, Range]) -> Range:
    """The range of an expression over variables of known ranges; wider than the truth where a variable occurs twice."""
    return _bounds(e, {ex.var(name): r for name, r in given.items()})


def _bounds(e: Expression, given: Mapping[Expression, Range]) -> Range:
    if e in given:
        return given[e]
    if e[0] == "const":
        return (e[1], e[1])
    if e[0] == "var":
        return ANYTHING
    if e[0] == "where":
        return _where(e, given)
    return _of_operator(e, [_bounds(x, given) for x in e[1:]])


def _of_operator(e: Expression, a: Sequence[Range]) -> Range:
    """The range of an expression whose operands have the ranges a."""
    if len(a) == 1:
        return _of_function(e[0], *a[0])
    (low, high), (low2, high2) = a
    match e[0]:
        case "add":
            return _sound(low + low2, high + high2)
        case "sub":
            return _sound(low - high2, high - low2)
        case "mul":
            products = [_product(x, y) for x in a[0] for y in a[1]]
            return (0.0 if e[1] == e[2] and low <= 0 <= high else min(products), max(products))
        case "div" if low2 > 0 or high2 < 0:
            quotients = [_product(x, 1 / y) for x in a[0] for y in a[1]]
            return (min(quotients), max(quotients))
        case "max":
            return (max(low, low2), max(high, high2))
        case "min":
            return (min(low, low2), min(high, high2))
        case "pow" if low >= 0:  # monotonic in either of the two: the ends are among the corners
            corners = [_at("pow", x, y) for x in a[0] for y in a[1]]
            return _sound(min(corners), max(corners))
        case f if f in ex.COMPARISONS:
            return (0.0, 1.0)
    return ANYTHING


def _of_function(name: str, low: float, high: float) -> Range:
    """The range of a function of one number from low to high."""
    near, far = 0.0 if low <= 0 <= high else min(abs(low), abs(high)), max(abs(low), abs(high))
    if name == "neg":
        return (-high, -low)
    if name == "abs":
        return (near, far)
    if name == "normal_pdf":
        return (_at(name, far), _at(name, near))
    return _sound(_at(name, low), _at(name, high)) if name in INCREASING else ANYTHING


def _at(function: str, *arguments: float) -> float:
    return float(ex.evaluate((function, *map(ex.const, arguments)), {}))


def _where(e: Expression, given: Mapping[Expression, Range]) -> Range:
    """Each branch knows what the condition says: relu6 is where(0 > a, 0, where(a > 6, 6, a))."""
    _, condition, yes, no = e
    if condition[0] != "gt":
        return _union(_bounds(yes, given), _bounds(no, given))
    larger, smaller = condition[1:]
    (low, high), (low2, high2) = _bounds(larger, given), _bounds(smaller, given)
    if_so = {**given, larger: (max(low, low2), high), smaller: (low2, min(high, high2))}
    otherwise = {**given, larger: (low, min(high, high2)), smaller: (max(low, low2), high2)}
    # a branch that cannot be is no part of it
    possible = [_bounds(x, k) for x, k in ((yes, if_so), (no, otherwise)) if all(p <= q for p, q in k.values())]
    return (min(p for p, _ in possible), max(q for _, q in possible)) if possible else ANYTHING


def _union(a: Range, b: Range) -> Range:
    return (min(a[0], b[0]), max(a[1], b[1]))


def _product(x: float, y: float) -> float:
    return 0.0 if x == 0 or y == 0 else x * y


def _sound(low: float, high: float) -> Range:
    """Ends that are no number are unknown."""
    return (-math.inf if math.isnan(low) else low, math.inf if math.isnan(high) else high)
