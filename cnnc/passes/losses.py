"""Losses as nodes: what `ir/objective.py` names, behind a network's outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cnnc.diagnostics import Span, did_you_mean, error
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph, Node
from cnnc.ir.objective import LOSSES, PENALTIES, Loss, Losses, Wanted, losses_of
from cnnc.ir.op import InferenceError
from cnnc.ir.rewrite import leading_to
from cnnc.ir.types import BATCH, TensorType, activation, product
from cnnc.ops.bounds import are_probabilities
from cnnc.passes.eliminate_dead import EliminateDead


@dataclass(frozen=True)
class Target:
    """An input that a loss reads: what it holds for each image, and where it has class indices how many classes there
    are, and which index is passed over."""

    name: str
    type: TensorType
    classes: int | None = None
    ignored: int | None = None


def attach_loss(graph: Graph, loss: Wanted = "cross_entropy") -> Graph:
    """outputs  -->  loss, accuracy: the sum of the losses, each of its output and its target, an input; and the share of
    right answers to the first one that is of class indices.

    Raises `CnncError` (E0806) where an output does not fit its loss, or a name is taken; E0820 where another output would
    be left untrained.
    """
    losses = losses_of(loss)
    outputs = _outputs(graph, losses)
    _check_other_outputs(graph, losses, outputs)
    found = targets(graph, losses)
    for name in found:
        free(graph, name)
    b = Builder(graph.name, graph.nodes)
    for t in found.values():
        b.input(t.name, t.type)
    total: str | None = None
    last = len(losses) - 1
    for i, (one, value) in enumerate(zip(losses, outputs, strict=True)):
        name = "loss" if last == 0 and one.weight == 1 else f"loss.{one.output or i}"
        try:
            part = _BUILD[one.name](b, one, value, name)
        except InferenceError as e:
            raise _unfit(graph, one, value, e.message, e.help) from None
        if one.weight != 1:
            part = _number(b, f"{one.weight!r} * a0", [part], "loss" if last == 0 else f"{name}.weighted")
        total = part if total is None else b.add("add", [total, part], {}, "loss" if i == last else f"{name}.sum")
    assert total is not None
    of_classes = next(((one, value) for one, value in zip(losses, outputs, strict=True) if one.classes), None)
    right = [("accuracy", _accuracy(b, *of_classes))] if of_classes is not None else []
    return b.finish([("loss", total), *right], graph.updates)


def loss_graph(graph: Graph, losses: Losses) -> Graph:
    """The losses alone, of inputs "output:<label>" in place of the network's outputs."""
    b = Builder(graph.name)
    for node in graph.parameters:
        b.param(node.name, node.type)
    outputs = [(label, b.input(f"output:{label}", graph.type(value))) for label, value in graph.outputs]
    return EliminateDead().apply(attach_loss(b.finish(outputs), losses))


def targets(graph: Graph, losses: Losses) -> dict[str, Target]:
    """What the losses read beside the outputs, by name. Raises `CnncError` (E0806) where two losses want different things
    under one name, or weights are not as many as classes."""
    found: dict[str, Target] = {}
    for loss, value in zip(losses, _outputs(graph, losses), strict=True):
        t = graph.type(value)
        if loss.target is None:
            continue
        if not t.rank or t.shape[0] != BATCH or BATCH in t.shape[1:]:
            raise _unfit(graph, loss, value, "it works on an output [N, ...] of fixed other sizes", None)
        if not loss.classes:
            target = Target(loss.target, activation(t.shape))
        else:
            if t.rank < 2 or (t.rank > 2 and all(d == 1 for d in t.shape[2:])):
                help = "end the network with `-> flatten -> linear(classes)`" if t.rank > 2 else None
                raise _unfit(graph, loss, value, "it works on logits f32[N, classes], or of pixels", help)
            classes = int(t.shape[1])
            ignored = loss.argument("ignore_index") if loss.name == "cross_entropy" else None
            target = Target(loss.target, activation((t.shape[0], *t.shape[2:]), "i64"), classes, ignored)
        before = found.setdefault(target.name, target)
        if before.type != target.type or before.classes != target.classes:
            raise error(
                "E0806",
                f"two losses read '{target.name}', once as {before.type} and once as {target.type}",
                help=f'give one of them a target of its own: {loss.name}(target="other")',
            )
        if loss.classes and before.ignored != target.ignored:
            found[target.name] = Target(target.name, target.type, target.classes)
        weight = loss.arguments.get("weight")
        if weight is not None and (t.rank < 2 or len(weight) != t.shape[1]):
            raise _unfit(graph, loss, value, f"it has {len(weight)} weights for {t.shape[1:2]} classes", None)
    return found


def free(graph: Graph, name: str) -> str:
    if name in graph:
        raise error(
            "E0806",
            f"the network uses the name '{name}', which training needs for itself",
            help="give the layer or input another name",
        )
    return name


def _outputs(graph: Graph, losses: Losses) -> list[str]:
    """The value of each loss's output, checked as far as it can be without a node."""
    labels = dict(graph.outputs)
    values = []
    for loss in losses:
        if loss.output is not None and loss.output not in labels:
            raise error(
                "E0806",
                f"a loss is of the output '{loss.output}', which the network does not have",
                f"it has {', '.join(labels)}",
                help=did_you_mean(loss.output, labels),
            )
        label = loss.output or graph.outputs[0][0]
        value, applied = labels[label], LOSSES[loss.name].logits
        if applied and are_probabilities(graph, value):
            node = _where_bounded(graph, graph.node(value))
            raise error(
                "E0806",
                f"{loss.name} works on logits, and '{label}' lies between 0 and 1: it comes of {node.op}",
                span=_span(node),
                help=f"remove the {node.op}: {loss.name} applies {applied} itself; `cnnc run` shows probabilities all the same",
            )
        values.append(value)
    return values


def _span(node: Node) -> Span | None:
    return node.origin.span if node.origin is not None else None


def _where_bounded(graph: Graph, node: Node) -> Node:
    """The softmax, sigmoid or other op from which an output has its bounds: behind it, bounded values alone are read."""
    while node.inputs and are_probabilities(graph, node.inputs[0]):
        node = graph.node(node.inputs[0])
    return node


def _unfit(graph: Graph, loss: Loss, value: str, why: str, help: str | None) -> Exception:
    label, t = loss.output or graph.outputs[0][0], graph.type(value)
    return error(
        "E0806",
        f"the loss {loss.name} does not fit the output '{label}', {t}: {why}",
        span=_span(graph.node(value)),
        help=help,
    )


def _check_other_outputs(graph: Graph, losses: Losses, values: Sequence[str]) -> None:
    """Raises `CnncError` (E0820) where a param would not learn what it does for an output without a loss: where a node
    reads it that does not lead to one with a loss. Inner values of the network may be outputs too, and what is made of
    the others.
    """
    of = [v for loss, v in zip(losses, values, strict=True) if loss.name not in PENALTIES]
    labels = [label for label, v in graph.outputs if v in of]
    of_these = ", ".join(map(repr, labels)) + (", the first output" if losses[0].output is None else "")
    trained = leading_to(graph, of)
    params = {n.name for n in graph.parameters}
    for label, value in graph.outputs:
        apart = leading_to(graph, [value]) - trained - params
        for node in graph.nodes:
            if node.name in apart and not params.isdisjoint(node.inputs):
                raise error(
                    "E0820",
                    f"the loss is of {of_these}; nothing would train what leads to '{label}'",
                    f"%{node.name} does not lead to an output with a loss",
                    span=_span(node),
                    help=f"give it one: loss = {{{', '.join(f'{x}: {losses[0].name}()' for x in (*labels, label))}}}",
                )


# ------------------------------------------------------------------------------------------------ one loss


def _number(b: Builder, text: str, operands: Sequence[str], name: str) -> str:
    return b.add("pointwise", operands, {"expressions": [text]}, name)


def _sum(b: Builder, value: str, name: str) -> str:
    rank = b.type(value).rank
    return b.add("sum", [value], {"axis": tuple(range(rank))}, name) if rank else value


def _rows(b: Builder, value: str) -> str:
    """A value of one or two axes as [N, 1, rest], whose sums are cut into parts of the batch."""
    t = b.type(value)
    if t.rank > 2:
        return value
    shape = (t.shape[0], 1, product(tuple(int(d) for d in t.shape[1:])))
    return b.add("reshape", [value], {"shape": shape}, f"{value}.rows")


def _mean(b: Builder, text: str, values: Sequence[str], name: str, of_batch: bool = False) -> str:
    """The mean of an expression over values of one shape; `of_batch`: its sum over all but the batch, the mean over it."""
    rows = [_rows(b, v) for v in values]
    totals = b.add("reduce_channels", rows, {"expressions": [text]}, f"{name}.sums")
    total = _sum(b, totals, f"{name}.sum")
    if of_batch:
        return _number(b, "a0 / a1", [total, b.add("batch_size", [rows[-1]], {}, f"{name}.count")], name)
    count = b.add("count", [rows[-1]], {}, f"{name}.count")
    channels = int(b.type(rows[-1]).shape[1])
    return _number(b, f"a0 / (a1 * {channels})" if channels != 1 else "a0 / a1", [total, count], name)


def _mean_of_terms(b: Builder, terms: str, name: str) -> str:
    """The mean over a number for each place."""
    count = b.add("count", [terms], {}, f"{name}.count")
    rest = [int(d) for d in b.type(terms).shape[1:2]]
    return _number(b, f"a0 / (a1 * {rest[0]})" if rest else "a0 / a1", [_sum(b, terms, f"{name}.sum"), count], name)


def _cross_entropy(b: Builder, loss: Loss, value: str, name: str) -> str:
    target = str(loss.target)
    if not loss.arguments.keys() - {"target"} and b.type(value).rank == 2:
        return b.add("cross_entropy", [value, target], {}, name)
    weight = _class_weights(b, loss, name)
    smoothing = loss.argument("label_smoothing")
    if loss.soft:
        terms = b.add("cross_entropy_soft", [value, target, *weight], {"label_smoothing": smoothing}, f"{name}.terms")
        return _mean_of_terms(b, terms, name)
    attributes = {"label_smoothing": smoothing, "ignore_index": loss.argument("ignore_index")}
    parts = b.insert("cross_entropy_terms", [value, target, *weight], attributes, f"{name}.terms").results
    sums = [_sum(b, part, f"{name}.{what}") for part, what in zip(parts, ("sum", "weight"), strict=True)]
    return _number(b, "a0 / a1", sums, name)


def _class_weights(b: Builder, loss: Loss, name: str) -> list[str]:
    weight = loss.argument("weight")
    return [] if weight is None else [b.add("numbers", [], {"values": weight}, f"{name}.class_weights")]


def _hinge(b: Builder, loss: Loss, value: str, name: str) -> str:
    attributes = {"margin": loss.argument("margin"), "p": loss.argument("p")}
    operands = [value, str(loss.target), *_class_weights(b, loss, name)]
    return _mean_of_terms(b, b.add("multiclass_hinge", operands, attributes, f"{name}.terms"), name)


def _elementwise(text: Callable[[Loss], str]) -> Callable[[Builder, Loss, str, str], str]:
    """The mean of an expression over the output a0 and its target a1."""

    def build(b: Builder, loss: Loss, value: str, name: str) -> str:
        return _mean(b, text(loss), [value, str(loss.target)], name)

    return build


def _huber(loss: Loss) -> str:
    delta = loss.argument("delta")
    return f"where(abs(a0 - a1) < {delta!r}, 0.5 * (a0 - a1) * (a0 - a1), {delta!r} * (abs(a0 - a1) - {0.5 * delta!r}))"


def _smooth_l1(loss: Loss) -> str:
    beta = loss.argument("beta")
    if beta == 0:
        return "abs(a0 - a1)"
    return f"where(abs(a0 - a1) < {beta!r}, {0.5 / beta!r} * (a0 - a1) * (a0 - a1), abs(a0 - a1) - {0.5 * beta!r})"


def _bce(loss: Loss) -> str:
    """By softplus of both signs: nothing overflows, and the loss of a sure and right answer keeps its digits."""
    weight = loss.argument("pos_weight")
    positive = "a1 * softplus(-a0)" if weight == 1 else f"{weight!r} * a1 * softplus(-a0)"
    return f"{positive} + (1 - a1) * softplus(a0)"


def _focal(loss: Loss) -> str:
    """Lin et al., 2017, as torchvision has it; alpha below 0 weighs nothing."""
    gamma, alpha = loss.argument("gamma"), loss.argument("alpha")
    entropy = "(a1 * softplus(-a0) + (1 - a1) * softplus(a0))"
    wrong = "(a1 * sigmoid(-a0) + (1 - a1) * sigmoid(a0))"
    factor = "" if gamma == 0 else f" * {wrong}" if gamma == 1 else f" * pow({wrong}, {gamma!r})"
    weight = "" if alpha < 0 else f" * ({alpha!r} * a1 + {1 - alpha!r} * (1 - a1))"
    return f"{entropy}{factor}{weight}"


def _kl_div(b: Builder, loss: Loss, value: str, name: str) -> str:
    text = "where(a1 > 0, a1 * (log(max(a1, 1e-38)) - a0), 0 * a0)"
    return _mean(b, text, [value, str(loss.target)], name, loss.argument("reduction") == "batchmean")


def _output(b: Builder, loss: Loss, value: str, name: str) -> str:
    """The mean of all numbers, wherever the batch may be."""
    shape = b.type(value).shape
    if shape[:1] == (BATCH,) and BATCH not in shape[1:]:
        return _mean(b, "a0", [value], name)
    numbers = product(tuple(int(d) for d in shape if d != BATCH))
    batches = sum(d == BATCH for d in shape)
    total = _sum(b, value, f"{name}.sum")
    if not batches:
        return _number(b, f"a0 / {numbers}" if numbers != 1 else "a0", [total], name)
    image = next(n.name for n in b.nodes if n.op == "input" and n.type.shape[:1] == (BATCH,))
    size = b.add("batch_size", [image], {}, f"{name}.count")
    return _number(b, f"a0 / ({' * '.join([str(numbers), *['a1'] * batches])})", [total, size], name)


def _penalty(text: str) -> Callable[[Builder, Loss, str, str], str]:
    """The sum of an expression over all weights of two axes or more."""

    def build(b: Builder, loss: Loss, value: str, name: str) -> str:
        total: str | None = None
        for node in b.finish([]).parameters:
            shape = tuple(int(d) for d in node.type.shape)
            if len(shape) < 2:
                continue
            rows = b.add(
                "reshape", [node.name], {"shape": (shape[0], 1, product(shape[1:]))}, f"{name}.{node.name}.rows"
            )
            sums = b.add("reduce_channels", [rows], {"expressions": [text]}, f"{name}.{node.name}")
            part = b.add("reshape", [sums], {"shape": ()}, f"{name}.{node.name}.sum")
            total = part if total is None else b.add("add", [total, part], {}, f"{name}.{node.name}.total")
        if total is None:
            raise InferenceError("the network has no weights")
        return total

    return build


_BUILD: Mapping[str, Callable[[Builder, Loss, str, str], str]] = {
    "cross_entropy": _cross_entropy,
    "multiclass_hinge": _hinge,
    "mse": _elementwise(lambda loss: "(a0 - a1) * (a0 - a1)"),
    "l1": _elementwise(lambda loss: "abs(a0 - a1)"),
    "huber": _elementwise(_huber),
    "smooth_l1": _elementwise(_smooth_l1),
    "bce_with_logits": _elementwise(_bce),
    "focal": _elementwise(_focal),
    "kl_div": _kl_div,
    "output": _output,
    "l1_penalty": _penalty("abs(a0)"),
    "l2_penalty": _penalty("a0 * a0"),
}


def _accuracy(b: Builder, loss: Loss, value: str) -> str:
    ignored = loss.argument("ignore_index") if loss.name == "cross_entropy" else -100
    if b.type(value).rank == 2 and "ignore_index" not in loss.arguments:
        return b.add("accuracy", [value, str(loss.target)], {}, "accuracy")
    parts = b.insert("class_hits", [value, str(loss.target)], {"ignore_index": ignored}, "hits").results
    sums = [_sum(b, part, f"accuracy.{what}") for part, what in zip(parts, ("hits", "count"), strict=True)]
    return _number(b, "a0 / max(a1, 1)", sums, "accuracy")
