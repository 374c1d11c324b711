"""cnnc beside PyTorch, ONNX Runtime and OpenVINO on the same network, in one process.

    python -m tests.bench infer lenet resnet18 vgg11
    python -m tests.bench train resnet18 --batch 16

Engines take turns in blocks, each after a pause and two warm-up calls, so that a drift of the machine hits all of them
and no engine is timed while another's idle threads still spin. Results are compared before anything is timed. Times are
medians in milliseconds of whole calls from Python, NumPy arrays in and out. Needs `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import cnnc
from cnnc import driver
from cnnc.passes.optimizer import SGD
from tests.peers import networks

Engine = Callable[[], object]
EXAMPLES = Path(__file__).parents[2] / "examples"


def pair(name: str) -> tuple[torch.nn.Module, cnnc.Network]:
    """The PyTorch module and our network with the same weights."""
    module, (_, file, parameters) = networks.build(name), networks.NETWORKS[name]
    net = cnnc.load(EXAMPLES / file, **parameters)
    for key, value in module.state_dict().items():
        if key in net.weights:
            net.weights[key] = value.numpy()
    return module, net


def inference(name: str, batch: int, threads: int) -> dict[str, Engine]:
    import onnxruntime
    import openvino

    module, net = pair(name)
    module.eval()
    exe = cnnc.compile(net, threads=threads)
    x = np.random.default_rng(0).standard_normal(exe.graph.inputs[0].type.concrete(batch)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/network.onnx"
        torch.onnx.export(module, (torch.from_numpy(x),), path, dynamo=False, opset_version=17)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    feed = session.get_inputs()[0].name
    last = networks.build(name).eval().to(memory_format=torch.channels_last)

    def eager(net: torch.nn.Module, channels_last: bool) -> object:
        with torch.inference_mode():
            t = torch.from_numpy(x)
            return net(t.contiguous(memory_format=torch.channels_last) if channels_last else t).numpy()

    engines: dict[str, Engine] = {
        "cnnc": lambda: exe(x),
        "onnxruntime": lambda: session.run(None, {feed: x})[0],
        "openvino": lambda: request.infer({0: x}, share_inputs=True)[0],
        "torch": lambda: eager(module, False),
        "torch channels_last": lambda: eager(last, True),
    }
    expected = engines["torch"]()
    for engine, call in engines.items():
        difference = np.abs(call() - expected).max() / np.abs(expected).max()  # type: ignore[operator]
        assert difference <= 1e-4, f"{engine} differs from torch by {difference:.1e} of the largest output"
    return engines


def training(name: str, batch: int, threads: int) -> dict[str, Engine]:
    """A step of SGD with momentum: forward, backward, update."""
    module, net = pair(name)
    exe = driver.compile_training(net, optimizer=SGD(momentum=0.9), threads=threads)
    x = np.random.default_rng(0).standard_normal(exe.graph.inputs[0].type.concrete(batch)).astype(np.float32)
    labels = np.random.default_rng(0).integers(0, 10, batch)
    inputs = {"labels": labels, "learning_rate": np.float32(1e-3), "seed": np.array([0, 0], np.int64)}
    inputs = {k: v for k, v in inputs.items() if any(n.name == k for n in exe.graph.inputs)}

    def step(channels_last: bool) -> Engine:
        network = networks.build(name).train()
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
        t = torch.from_numpy(x)
        if channels_last:
            network, t = network.to(memory_format=torch.channels_last), t.contiguous(memory_format=torch.channels_last)

        def call() -> float:
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(network(t), torch.from_numpy(labels))
            loss.backward()
            optimizer.step()
            return loss.item()

        return call

    engines: dict[str, Engine] = {
        "cnnc": lambda: float(exe(x, **inputs)["loss"]),
        "torch": step(False),
        "torch channels_last": step(True),
    }
    if not any(isinstance(m, torch.nn.Dropout) for m in module.modules()):
        losses = {engine: call() for engine, call in engines.items()}
        assert max(losses.values()) - min(losses.values()) <= 1e-4 * abs(losses["torch"]), losses  # type: ignore
    return engines


def alternate(engines: dict[str, Engine], rounds: int, block: float) -> dict[str, float]:
    """Median milliseconds of each engine's calls over `rounds` blocks of `block` seconds."""
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(rounds):
        for name, call in engines.items():
            time.sleep(0.4)
            call()
            call()
            end = time.perf_counter() + block
            while True:
                start = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - start))
                if time.perf_counter() > end:
                    break
    return {name: statistics.median(t) for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["infer", "train"])
    parser.add_argument("networks", nargs="+", choices=networks.NETWORKS, metavar="NETWORK")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", type=float, default=0.5, help="seconds")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(arguments.threads)
    for name in arguments.networks:
        make = inference if arguments.mode == "infer" else training
        print(f"{name}: compiling", file=sys.stderr)
        times = alternate(make(name, arguments.batch, arguments.threads), arguments.rounds, arguments.block)
        best = min(t for engine, t in times.items() if engine != "cnnc")
        shown = " | ".join(f"{engine} {t:.3g}" for engine, t in times.items())
        print(f"{name} {arguments.mode} batch {arguments.batch}: {shown} | best peer / cnnc {best / times['cnnc']:.2f}")


if __name__ == "__main__":
    main()
