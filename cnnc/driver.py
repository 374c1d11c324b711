"""The whole compiler on one page.

    source text --frontend--> Program --Network--> weights
    Program.graph --passes--> graph of the target's layouts --backend: lowering, kernels--> Executable

Training is the same road with a longer graph: `training_graph` adds the loss, the gradients and the optimizer's updates
as ordinary ops.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnnc import frontend, onnx_models
from cnnc.arguments import a_call, as_path, flag, of_kind, seed_of
from cnnc.backends import backend, native
from cnnc.diagnostics import CnncError, error
from cnnc.foreign import ONNX, recognize
from cnnc.ir.graph import Graph
from cnnc.ir.objective import Wanted, losses_of
from cnnc.ir.types import product
from cnnc.lowering.lower import lower
from cnnc.lowering.memory import memory_of
from cnnc.network import Network
from cnnc.open_sizes import OpenExecutable, OpenNetwork
from cnnc.passes.losses import Target, targets
from cnnc.passes.manager import Observer, Pass, PassManager, Stages, observers
from cnnc.passes.optimizer import SGD, Optimizer
from cnnc.passes.output_gradient import WEIGHTS, output_gradient_graph
from cnnc.passes.pipelines import inference_pipeline, training_pipeline
from cnnc.passes.training import training_graph, training_stages
from cnnc.runtime import room
from cnnc.runtime.executable import Executable
from cnnc.runtime.inputs import batch_of, broadcast, check_labels, gather, whole
from cnnc.runtime.threads import cores

if TYPE_CHECKING:
    from cnnc.frontend.elaborate import Program

Array = np.ndarray[Any, Any]
Shapes = Mapping[str, Sequence[int | None]]
GRADIENT = "grad:"  # begins the labels of outputs that are gradients


def load(
    path: str | Path,
    model: str | None = None,
    *,
    shapes: Shapes | None = None,
    external_data: bool = False,
    **parameters: Any,
) -> Network:
    """The network of a `.cnn` or an `.onnx` file. Raises `CnncError` with every diagnostic.

    model: one of several in a `.cnn` file; parameters: those of the model there.
    shapes: of an `.onnx` file's inputs by name, where it leaves sizes open: {"image": (None, 3, 640, 640)}, None for the
    open batch. external_data: whether tensors that it keeps in other files of its folder are read.
    """
    return load_with(path, model, parameters, shapes, external_data)


def load_with(
    path: str | Path,
    model: str | None,
    parameters: Mapping[str, Any],
    shapes: Shapes | None = None,
    external_data: bool = False,
) -> Network:
    """`load`, with the parameters as a mapping."""
    flag("external_data", external_data)
    if isinstance(path, str | os.PathLike) and recognize(path) is ONNX:
        if model is not None or parameters:
            what = f"model '{model}'" if model is not None else f"parameter '{next(iter(parameters))}'"
            why = "an ONNX file holds one model, in which all is set"
            raise error("E0655", f"{path} has no {what} to choose", why, exit_code=2)
        return onnx_models.load(as_path("path", path), shapes, external_data, _network)
    found = _opened(lambda sizes: frontend.load_with(path, model, parameters, sizes))
    return found.of_shapes(shapes) if shapes is not None and isinstance(found, OpenNetwork) else found


def parse(text: str, model: str | None = None, **parameters: Any) -> Network:
    """The network of a `.cnn` text. Raises `CnncError` with every diagnostic."""
    return _opened(lambda sizes: frontend.parse_with(text, model, parameters, sizes))


def _network(program: Program) -> Network:
    return Network(program, measure=measure, build=build)


def _opened(program: Callable[[Mapping[str, int]], Program]) -> Network:
    """The network of a program for given sizes; an open one where it needs some."""
    try:
        return _network(program({}))
    except frontend.OpenSizes as e:
        return OpenNetwork(e.shapes, lambda sizes: _network(program(sizes)), e.model)


def optimize(
    graph: Graph, layouts: Sequence[Pass], observer: Observer | None = None, earlier: Sequence[tuple[str, Graph]] = ()
) -> tuple[Graph, Stages]:
    """All passes, with those that give tensors a target's layouts; the graph, and every stage on the way, behind those
    that led to it. A graph with updates or gradients is one for training.
    """
    stages = Stages(graph, earlier)
    pipeline = training_pipeline(layouts) if is_training(graph) else inference_pipeline(layouts)
    return PassManager(pipeline, observer=observers(stages, observer)).run(graph), stages


def tuning(tune: bool | None) -> bool:
    """Whether timed runs decide: where it is not said, unless CNNC_TUNE or CNNC_OPTIMIZE is 0."""
    return "0" not in map(os.environ.get, ("CNNC_TUNE", "CNNC_OPTIMIZE")) if tune is None else tune


def is_training(graph: Graph) -> bool:
    has_labels = any(n.name == "labels" and n.type.dtype == "i64" for n in graph.inputs)
    return bool(graph.updates) or has_labels or any(label.startswith(GRADIENT) for label, _ in graph.outputs)


def build(
    graph: Graph,
    values: Mapping[str, Array],
    target: str = "cpu",
    threads: int | None = None,
    observer: Observer | None = None,
    exact: bool = False,
    earlier: Sequence[tuple[str, Graph]] = (),
    tune: bool | None = None,
) -> Executable:
    """An Executable of any graph. values: params and states by name; earlier: the stages that led to it."""
    flag("exact", exact)
    if tune is not None:
        flag("tune", tune)
    a_call("observer", observer)
    machine = backend(target, exact, tuning(tune))
    if threads is not None:
        whole("threads", threads)
    optimized, stages = optimize(graph, machine.layouts(), observer, earlier)
    return Executable(machine.prepare(optimized, values, threads), stages)


def compile(
    network: Network,
    target: str = "cpu",
    threads: int | None = None,
    exact: bool = False,
    batch: int | None = None,
    observer: Observer | None = None,
    tune: bool | None = None,
) -> Executable:
    """Compile a network for inference, with the weights that it has now.

    target: "cpu", or "reference" for the float64 interpreter. threads: as many as the process may use cores unless
    given (its affinity, and a container's quota); the result does not depend on it.
    exact: only algorithms that round like the direct one. batch: prepare kernels and weights for this batch size at
    once; any other works too, and is prepared when it is first met.
    tune: on target "cpu" the estimates of algorithms and blocks follow the machine's measured speeds, and where those of a
    convolution's algorithms are close, a timed run of a few milliseconds decides. Both are remembered in the cache folder:
    results are the same to the bit until that is cleared. False: fixed estimates decide, the same on all machines with
    this instruction set. None: True, unless CNNC_TUNE or CNNC_OPTIMIZE is 0.
    """
    of_kind("network", network, Network, "a network", "cnnc.load gives one")
    if batch is not None:
        whole("batch", batch)
    if isinstance(network, OpenNetwork):
        return OpenExecutable(network, lambda fixed: compile(fixed, target, threads, exact, batch, observer, tune))
    executable = build(network.graph, network.weights, target, threads, observer, exact, tune=tune)
    executable.classes = network.classes
    if batch is not None:
        executable.runner.prepare(batch)
    return executable


def gradients_of(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """The gradients among a graph's outputs, by the name of what they are by."""
    return {k.removeprefix(GRADIENT): v for k, v in outputs.items() if k.startswith(GRADIENT)}


class ValueAndGrad:
    """A function (inputs..., labels) -> (loss, gradients by name). In place of labels are the targets that the loss reads,
    if it reads any."""

    def __init__(self, executable: Executable, targets: Mapping[str, Target]) -> None:
        self.executable, self.targets = executable, targets
        self._inputs = [n for n in executable.graph.inputs if n.name != "seed"]
        self._seeded = len(self._inputs) < len(executable.graph.inputs)

    def __call__(self, *inputs: Any, seed: int = 0, **named: Any) -> tuple[float, dict[str, Array]]:
        """Raises `CnncError` (E0629 for a label that is no class, E07xx for arrays that do not fit)."""
        given = gather(self._inputs, inputs, named)
        for target in self.targets.values():
            check_labels(given[target.name], target.classes, target.ignored)
        if self._seeded:
            given["seed"] = np.array([seed_of(seed), 0], np.int64)
        outputs = self.executable.run(given)
        return float(outputs["loss"]), gradients_of(outputs)


class OutputAndGrad:
    """A function (inputs...) -> (weighted sum of an output, gradients by name)."""

    def __init__(self, executable: Executable) -> None:
        self.executable = executable
        self._inputs = [n for n in executable.graph.inputs if n.name != WEIGHTS]
        self._weights = next(n for n in executable.graph.inputs if n.name == WEIGHTS)

    def __call__(self, *inputs: Any, grad_output: Any = None, **named: Any) -> tuple[float, dict[str, Array]]:
        """grad_output: what each number of the output counts in the sum, an array of its shape or one that broadcasts to
        it; 1 unless given. Raises `CnncError` (E07xx for arrays that do not fit).
        """
        given = gather(self._inputs, inputs, named)
        batch = batch_of(given, self._inputs)
        given[WEIGHTS] = broadcast(1.0 if grad_output is None else grad_output, self._weights, batch)
        outputs = self.executable.run(given)
        return float(outputs["value"]), gradients_of(outputs)


def value_and_grad(
    network: Network,
    loss: Wanted = "cross_entropy",
    threads: int | None = None,
    target: str = "cpu",
    tune: bool | None = None,
    wrt: Sequence[str] | None = None,
    of: str | None = None,
) -> ValueAndGrad | OutputAndGrad:
    """A function (inputs..., labels) -> (loss, gradients by name), with the network's weights of now, in training mode.

    loss: a name, `cnnc.loss(name, ...)`, a list of these to be added up, or by output: `{"logits": "cross_entropy", "aux":
    0.3 * cnnc.loss("cross_entropy")}`. Labels are class indices [n]; a loss of numbers takes `target`, of the output's
    shape, and `"output"` takes none: it is the output itself.

    wrt: by what the gradients are, all parameters unless given: names of parameters, inputs and inner values as
    `cnnc ir` prints them, `["image", "conv1", "fc.weight"]`. A gradient has the shape of its value; that of an input or
    an inner value has the batch, and is that of the loss, a mean over the batch.

    of: an output, or an inner value, in place of the loss. The function is then (inputs..., grad_output=1) -> (sum of
    `of` * grad_output, its gradients) of the network as it predicts: batch norms use their running statistics, and
    nothing is dropped. `grad_output` has the shape of `of` or broadcasts to it: with a row of zeros and a 1 the
    gradients are those of one class (Simonyan, Vedaldi and Zisserman, 2013).

    Raises `CnncError` (E0830 for a name that the network does not have, with the nearest); the function raises it too
    (E0629 for a label that is no class, E07xx for arrays that do not fit).
    """
    of_kind("network", network, Network, "a network", "cnnc.load gives one")
    if of is not None:
        graph = output_gradient_graph(network.graph, of, wrt)
        return OutputAndGrad(build(graph, network.weights, target, threads, tune=tune))
    graph = training_graph(network.graph, loss, gradients=True, wanted=wrt)
    executable = build(graph, network.weights, target, threads, tune=tune)
    return ValueAndGrad(executable, targets(network.graph, losses_of(loss)))


def compile_training(
    network: Network,
    loss: Wanted = "cross_entropy",
    optimizer: Optimizer | None = None,
    threads: int | None = None,
    wanted: set[str] | None = None,
    target: str = "cpu",
    tune: bool | None = None,
) -> Executable:
    """One call of the result is a training step: forward, backward and update of `executable.values`, which start as
    the network's weights.
    """
    of_kind("network", network, Network, "a network", "cnnc.load gives one")
    stages = training_stages(network.graph, loss, optimizer, wanted=wanted)
    graph = stages[-1][1]
    room.check(8 * sum(product(n.type.concrete(1)) for n in (*graph.parameters, *graph.states)), " to train")
    values: dict[str, Array] = dict(network.weights)
    for node in graph.states:
        if node.name not in values:
            values[node.name] = np.zeros(node.type.concrete(1), np.float32)
    return build(graph, values, target, threads, earlier=stages, tune=tune)


def measure(network: Network, batch: int) -> tuple[int, int]:
    """The planned memory of inference and of a training step (SGD with momentum; 0 where there is none) at a batch size,
    in bytes, without allocating it. Raises `CnncError` (E0410) for what no machine can hold.
    """
    machine, workers = native(tune=tuning(None)), cores()

    def planned(graph: Graph) -> int:
        return memory_of(lower(optimize(graph, machine.layouts())[0], batch, machine, workers), workers).total

    try:
        step = training_graph(network.graph, optimizer=SGD(momentum=0.9))
    except CnncError:  # a network without logits has no training step
        return planned(network.graph), 0
    return planned(network.graph), planned(step)
