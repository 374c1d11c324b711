"""The engines: cnnc and its peers, each as a function without arguments, on the same network, weights and input.

Every call is a whole one, NumPy arrays in and out. Peers are imported when they are asked for.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cnnc import driver
from cnnc.bench import torch_network
from cnnc.diagnostics import did_you_mean, error
from cnnc.interop import onnx
from cnnc.ir.graph import Graph
from cnnc.network import Network
from cnnc.passes.optimizer import SGD
from cnnc.runtime.executable import Executable
from cnnc.runtime.threads import cores

Array = np.ndarray[Any, Any]
PEERS = ("onnxruntime", "openvino", "torch", "torch-compile")
PACKAGES = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
TRAINERS = ("torch", "torch-compile")
LAYOUTS = {"": False, " channels_last": True}
OURS = "cnnc"
# Small: the second loss shows that the gradients agree, and not how a large step makes rounding grow, which parts PyTorch's
# own two layouts by 1e-3 in ResNet-50.
RATE, MOMENTUM = 2e-5, 0.9
USAGE = 2


Progress = Callable[[str], None]


def silent(text: str) -> None:
    """Progress that nobody wants to see."""


@dataclass(frozen=True)
class Setting:
    """What is timed and how: `mode` is "infer" or "train", `against` are names of `PEERS`, `threads` every engine's."""

    network: Network
    mode: str = "infer"
    batch: int = 1
    threads: int = field(default_factory=cores)
    against: Sequence[str] = ()
    target: str = "cpu"
    exact: bool = False


@dataclass
class Case:
    """One network, one mode, one batch: `engines` by name, ours first; `left_out` says why a peer is not among them.

    compare() calls every engine, and gives by how much each differs from the first: outputs relative to the largest,
    the first step's loss to the loss. The second step's tells of gradients and updates: relative to the loss and 100
    times what the first step changed it, since where a ReLU's input is within rounding of 0 gradients differ by up to
    a hundredth. `bound` is how much they may.
    """

    mode: str
    batch: int
    threads: int
    executable: Executable
    inputs: dict[str, Array]
    engines: dict[str, Callable[[], Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    bound: float = 1e-4

    def compare(self) -> dict[str, float]:
        expected, differences = None, {}
        for name, call in self.engines.items():
            results = [a for _ in range(2 if self.mode == "train" else 1) for a in call()]
            found = [np.array(a, np.float64) for a in results]
            if expected is None:
                expected = found
                scales = [max(np.abs(b).max(initial=0), 1e-30) for b in expected]
                if self.mode == "train":
                    scales[1] += 100 * np.abs(expected[1] - expected[0])
                continue
            parts = [np.abs(a - b).max(initial=0) / scale for a, b, scale in zip(found, expected, scales, strict=True)]
            differences[name] = float(np.max(parts))  # NaN stays
        return differences


def known(names: Sequence[str]) -> tuple[str, ...]:
    """The peers of these names, each once. Raises `CnncError`: E0810 for a name that is none, E0650 for one that is not
    installed.
    """
    from importlib.util import find_spec

    for name in names:
        if name not in PEERS:
            raise error(
                "E0810",
                f"there is no engine '{name}' to compare with",
                help=did_you_mean(name, PEERS) or f"one of {', '.join(PEERS)}",
                exit_code=USAGE,
            )
        for package in PACKAGES.get(name, ("torch",)):
            if find_spec(package) is None:
                raise error(
                    "E0650",
                    f"the package {package} is not installed",
                    help="pip install 'cnnc[bench]'",
                    exit_code=USAGE,
                )
    return tuple(dict.fromkeys(names))


def random_inputs(graph: Graph, batch: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {
        n.name: rng.integers(0, 2, n.type.concrete(batch))
        if n.type.dtype.startswith("i")
        else rng.standard_normal(n.type.concrete(batch)).astype(np.float32)
        for n in graph.inputs
    }


def inference(setting: Setting, progress: Progress = silent) -> Case:
    network, batch, threads = setting.network, setting.batch, setting.threads
    progress("compiling")
    executable = driver.compile(network, setting.target, threads, setting.exact, batch)
    inputs = random_inputs(network.graph, batch)
    case = Case("infer", batch, threads, executable, inputs)
    case.engines[OURS] = lambda: list(executable.run(inputs).values())
    arrays = list(inputs.values())
    for name in setting.against:
        progress(f"building {name}")
        with quiet():
            if name in PACKAGES:
                content = onnx.model(network.graph, network.weights, batch).SerializeToString()
                case.engines[name] = (_onnxruntime if name == "onnxruntime" else _openvino)(content, threads, inputs)
            else:
                for layout, last in LAYOUTS.items():
                    case.engines[name + layout] = _torch(network, arrays, threads, last, name == "torch-compile")
    return case


def _onnxruntime(content: bytes, threads: int, inputs: Mapping[str, Array]) -> Callable[[], Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)


def _openvino(content: bytes, threads: int, inputs: Mapping[str, Array]) -> Callable[[], Any]:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(core.read_model(content), "CPU", settings).create_infer_request()
    feed = dict(enumerate(inputs.values()))
    return lambda: list(request.infer(feed, share_inputs=True).values())


def placed(torch: Any, array: Array, last: bool) -> Any:
    """An array as a tensor, in the layout that is asked for where it is an image or a volume."""
    t = torch.from_numpy(array)
    return t.contiguous(memory_format=_format(torch, t.ndim)) if last and t.ndim in (4, 5) else t


def _format(torch: Any, rank: int) -> Any:
    return torch.channels_last_3d if rank == 5 else torch.channels_last


def _built(torch: Any, network: Network, threads: int, last: bool) -> Any:
    torch.set_num_threads(threads)
    module = torch_network.module(network.graph, network.weights)
    if last:
        for p in module.parameters():
            if p.ndim in (4, 5):
                p.data = p.data.contiguous(memory_format=_format(torch, p.ndim))
    return module


def _torch(network: Network, arrays: Sequence[Array], threads: int, last: bool, compiled: bool) -> Callable[[], Any]:
    import torch

    module = _built(torch, network, threads, last).eval()
    run = torch.compile(module) if compiled else module

    def call() -> list[Array]:
        with torch.inference_mode():
            y = run(*(placed(torch, a, last) for a in arrays))
            return [t.numpy() for t in (y if isinstance(y, tuple) else (y,))]

    return call


def without_dropout(network: Network) -> Network:
    """The same network with the same weights, its dropout set to drop nothing: every engine draws other numbers."""
    graph = network.graph
    nodes = tuple(replace(n, attributes=n.attributes.with_(p=0.0)) if n.op == "dropout" else n for n in graph.nodes)
    plain = Network(replace(network.program, graph=replace(graph, nodes=nodes)))
    plain.weights = network.weights
    return plain


def training(setting: Setting, progress: Progress = silent) -> Case:
    """A step of SGD with momentum: forward, cross-entropy, backward, update. Each engine trains weights of its own."""
    network, batch, threads = setting.network, setting.batch, setting.threads
    progress("compiling")
    optimizer = SGD(momentum=MOMENTUM)
    executable = driver.compile_training(network, optimizer=optimizer, threads=threads, target=setting.target)
    classes = int(network.graph.type(network.graph.outputs[0][1]).shape[1])
    labels = np.random.default_rng(0).integers(0, classes, batch)
    arrays = random_inputs(network.graph, batch)
    more: dict[str, Array] = {
        "labels": labels,
        "learning_rate": np.array(RATE, np.float32),
        "seed": np.zeros(2, np.int64),
    }
    inputs = {n.name: arrays[n.name] if n.name in arrays else more[n.name] for n in executable.graph.inputs}
    case = Case("train", batch, threads, executable, inputs)
    case.engines[OURS] = lambda: [executable.run(inputs)["loss"]]
    for name in setting.against:
        if name not in TRAINERS:
            case.left_out[name] = "it does not train"
            continue
        progress(f"building {name}")
        with quiet():
            for layout, last in LAYOUTS.items():
                case.engines[name + layout] = _torch_step(
                    network, list(arrays.values()), labels, threads, last, name == "torch-compile"
                )
    return case


def _torch_step(
    network: Network, arrays: Sequence[Array], labels: Array, threads: int, last: bool, compiled: bool
) -> Callable[[], Any]:
    import torch

    module = _built(torch, network, threads, last).train()
    optimizer = torch.optim.SGD(module.parameters(), lr=RATE, momentum=MOMENTUM)
    run = torch.compile(module) if compiled else module
    tensors, wanted = [placed(torch, a, last) for a in arrays], torch.from_numpy(labels)

    def call() -> list[float]:
        optimizer.zero_grad(set_to_none=True)
        y = run(*tensors)
        loss = torch.nn.functional.cross_entropy(y[0] if isinstance(y, tuple) else y, wanted)
        loss.backward()
        optimizer.step()
        return [loss.item()]

    return call


@contextmanager
def quiet() -> Any:
    """Peers' warnings about themselves are not ours to show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
