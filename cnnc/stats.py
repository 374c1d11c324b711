"""How values and gradients are spread in every layer, before training or in the midst of it.

What is looked at is one training step of a batch: forward, each layer's values; backward, the gradients of the loss by
them and by the parameters. Activations that shrink or grow from layer to layer, dead units and saturated values show
there (Glorot and Bengio, 2010; He et al., 2015).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnc import describe, driver
from cnnc.diagnostics import CnncError
from cnnc.ir import expression as ex
from cnnc.ir.graph import LEAVES, Graph, Node
from cnnc.ir.interpret import random_inputs
from cnnc.ir.objective import Wanted, losses_of, written
from cnnc.ir.rewrite import dependent
from cnnc.network import Network
from cnnc.ops import pointwise
from cnnc.passes.named import differentiable, values
from cnnc.passes.output_gradient import WEIGHTS, output_gradient_graph
from cnnc.passes.training import training_graph
from cnnc.spread import Spread
from cnnc.table import Column, Table
from cnnc.trace import check_room

Array = np.ndarray[Any, Any]
FLAT = 0.01  # a slope below it counts as saturated: tanh's beyond 0.995, sigmoid's beyond 0.99
UNTRAINED = ("E0806", "E0820")  # a network that no loss is of


@dataclass(frozen=True)
class Layer:
    """A value of the network: an input, or what a layer gives. dead: the share of its channels or features that are 0 in
    the whole batch. saturated: the share of its numbers that are not 0 and whose slope is below `FLAT`. Both are None for
    what is no activation.
    """

    name: str
    op: str
    words: str
    forward: Spread
    backward: Spread
    dead: float | None = None
    saturated: float | None = None


@dataclass(frozen=True)
class Parameter:
    name: str
    forward: Spread
    backward: Spread

    @property
    def ratio(self) -> float | None:
        """The gradient's deviation over the parameter's; None where that is 0."""
        return self.backward.deviation / self.forward.deviation if self.forward.deviation > 0 else None


@dataclass(frozen=True)
class Statistics:
    """Of a batch of random numbers, or of data. loss: what the gradients are of, in words, and its value. apart: values that
    it does not depend on, which are not looked at.
    """

    name: str
    batch: int
    loss: str
    value: float
    layers: tuple[Layer, ...]
    parameters: tuple[Parameter, ...]
    apart: tuple[str, ...] = ()

    @property
    def about(self) -> str:
        return f"a batch of {self.batch}, gradients of {self.loss} = {self.value:.4g}"

    def tables(self) -> list[Table]:
        """Forward, backward, and the parameters."""
        forward = [
            (row.name, *figures(row.forward), share(row.dead), share(row.saturated), row.forward.line())
            for row in self.layers
        ]
        backward = [(row.name, *figures(row.backward), row.backward.line()) for row in self.layers]
        parameters = [
            (row.name, *figures(row.forward)[:2], *figures(row.backward)[:2], ratio(row), row.backward.line())
            for row in self.parameters
        ]
        rows: tuple[Layer | Parameter, ...] = (*self.layers, *self.parameters)
        lost = sum(row.forward.lost + row.backward.lost for row in rows)
        notes = [f"{lost:,} numbers are not finite; the figures leave them out"] if lost else []
        if self.apart:
            notes.append(f"not looked at, for {self.loss} does not depend on them: {', '.join(self.apart)}")
        found = [
            Table(FORWARD, forward, f"{self.name}, {self.about}\n", notes=[DEAD]),
            Table(BACKWARD, backward, "gradients by the values", notes=[] if parameters else notes),
        ]
        if parameters:
            found.append(Table(PARAMETERS, parameters, "parameters and gradients by them", notes=notes))
        return found

    def to_json(self) -> dict[str, Any]:
        layers = [
            {
                "name": row.name,
                "op": row.op,
                "forward": row.forward.to_json(),
                "backward": row.backward.to_json(),
                "dead": row.dead,
                "saturated": row.saturated,
            }
            for row in self.layers
        ]
        parameters = [
            {"name": row.name, "forward": row.forward.to_json(), "backward": row.backward.to_json()}
            for row in self.parameters
        ]
        value = self.value if np.isfinite(self.value) else None
        return {"batch": self.batch, "loss": self.loss, "value": value, "layers": layers, "parameters": parameters}


DEAD = (
    "dead: channels or features that are 0 in the whole batch; saturated: values of an activation, not 0, at which its "
    f"slope is below {FLAT}; heights of histograms, from the least to the greatest value, are roots of counts"
)
SPREAD = (
    Column("mean", True, leaves=1),
    Column("deviation", True),
    Column("least", True, leaves=4),
    Column("greatest", True, leaves=3),
)
FORWARD = (Column("layer"), *SPREAD, Column("dead", True), Column("saturated", True), Column("histogram", leaves=2))
BACKWARD = (Column("layer"), *SPREAD, Column("histogram", leaves=2))
PARAMETERS = (
    Column("parameter"),
    Column("mean", True, leaves=3),
    Column("deviation", True, leaves=1),
    Column("gradient's\nmean", True, leaves=4),
    Column("gradient's\ndeviation", True),
    Column("ratio", True),
    Column("gradient's\nhistogram", leaves=2),
)


def figures(s: Spread) -> tuple[str, str, str, str]:
    return f"{s.mean:.3g}", f"{s.deviation:.3g}", f"{s.least:.3g}", f"{s.greatest:.3g}"


def ratio(row: Parameter) -> str:
    return "" if row.ratio is None else f"{row.ratio:.2g}"


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def statistics(
    network: Network,
    batch: int = 16,
    seed: int = 0,
    given: Mapping[str, Array] | None = None,
    loss: Wanted | None = "cross_entropy",
    target: str = "cpu",
    threads: int | None = None,
) -> Statistics:
    """The statistics of one training step, with the network's weights of now.

    given: inputs [batch, ...] by name, and what the loss reads, such as "labels"; what is missing is random, inputs of
    N(0, 1). loss: None for the sum of the first output's numbers, each times one of N(0, 1); so it is too where the
    network has no output that the loss takes. Raises `CnncError` (E0410 where the values do not fit in memory, E07xx for
    arrays that do not fit).
    """
    source = network.graph
    graph, words = _with_gradients(source, loss)
    known = [v for v in values(source) if v in graph and graph.type(v).dtype == "f32"]
    graph = replace(graph, outputs=(*graph.outputs, *((f"value:{v}", v) for v in known)), updates=())
    check_room(graph, batch)
    inputs = {**random_inputs(graph, batch, seed), **(given or {})}
    weights = dict(network.weights)  # held, so that they are drawn once
    found = driver.build(graph, weights, target, threads).run(inputs)
    gradients = driver.gradients_of(found)
    arrays: dict[str, Array] = {v: found[f"value:{v}"] for v in known}
    layers = tuple(_layers(source, arrays, gradients, weights))
    parameters = tuple(
        Parameter(n.name, Spread.of(weights[n.name]), Spread.of(gradients[n.name])) for n in source.parameters
    )
    value = float(found["loss" if "loss" in found else "value"])
    apart = tuple(v for v in values(source) if v not in arrays)
    return Statistics(source.name, batch, words, value, layers, parameters, apart)


def _with_gradients(graph: Graph, loss: Wanted | None) -> tuple[Graph, str]:
    """A graph with all gradients, and what they are of."""
    wanted = differentiable(graph)
    try:
        if loss is not None:
            return training_graph(graph, loss, gradients=True, wanted=wanted), written(losses_of(loss)).removesuffix(
                "()"
            )
    except CnncError as e:
        if e.diagnostics[0].code not in UNTRAINED:
            raise
    label = graph.outputs[0][0]
    return output_gradient_graph(graph, label, wanted), f"sum({label} * {WEIGHTS})"


def _layers(
    graph: Graph, arrays: Mapping[str, Array], gradients: Mapping[str, Array], weights: Mapping[str, Array]
) -> Iterator[Layer]:
    reached = dependent(graph, [n.name for n in graph.inputs])  # what is made of parameters alone is no layer
    for node in graph.nodes:
        if node.name not in arrays or node.name not in reached:
            continue
        words = "input" if node.op in LEAVES else describe.layer(graph, node)
        for more in node.results[1:]:
            yield Layer(more, node.op, words, Spread.of(arrays[more]), Spread.of(gradients[more]))
        y = arrays[node.name]
        flat = _slope(graph, node, {**arrays, **weights}, reached)
        dead = saturated = None
        if flat is not None and y.size:
            units = np.moveaxis(y, 1, 0).reshape(y.shape[1], -1) if y.ndim > 1 else y[None]
            dead = float(np.mean(~np.any(units != 0, 1)))
            saturated = float(np.mean((np.abs(flat) < FLAT) & (y != 0)))
        yield Layer(node.name, node.op, words, Spread.of(y), Spread.of(gradients[node.name]), dead, saturated)


def _slope(graph: Graph, node: Node, known: Mapping[str, Array], reached: Collection[str]) -> Array | None:
    """dy/dx of an activation, where it is: of a pointwise function of one value that is no straight line."""
    if node.op in LEAVES or not pointwise.is_pointwise(node) or not node.operands:
        return None
    read = [o for o in node.inputs if o in reached]
    if len(read) != 1 or not all(o in known or graph.node(o).op == "constant" for o in node.inputs):
        return None
    at = node.inputs.index(read[0])
    (expression, *_) = pointwise.expressions(node)
    slope = ex.simplify(pointwise.slope(node, expression, at))
    if not {f"a{at}", "y"} & set(ex.variables(slope)):
        return None
    rank = node.type.rank
    arrays = {
        f"a{i}": pointwise.align(known[o] if o in known else graph.node(o).attributes["value"], rank)
        for i, o in enumerate(node.inputs)
    }
    with np.errstate(all="ignore"):
        return np.broadcast_to(ex.evaluate(slope, {**arrays, "y": known[node.name]}), known[node.name].shape)
