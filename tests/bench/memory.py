"""Peak memory of whole processes: cnnc beside PyTorch in training, beside ONNX Runtime in inference.

    python -m tests.bench.memory train resnet18 --batch 16
    python -m tests.bench.memory infer resnet18 mobilenetv2 --batch 1

Every engine has a process of its own, which imports it, makes the network with weights drawn at random, and runs three
calls; of cnnc a first process fills the kernel cache, so that the figure is one of running and not of compiling. The
figure is the peak of resident memory, interpreters and libraries included; behind it stands what the process held
before the network was made. `planned` is what `Network.summary` foretells. Needs `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MIB = 1 << 20
CALLS = 3
PEERS = {"train": "torch", "infer": "onnxruntime"}


def peak() -> int:
    """The largest resident memory of this process so far, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would count what the parent held when it started this process
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return 1024 * int(fields["VmHWM"].split()[0])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def data(shape: Sequence[int]) -> tuple[Any, Any]:
    import numpy as np

    random = np.random.default_rng(0)
    return random.standard_normal(tuple(shape), np.float32), random.integers(0, 10, shape[0])


def cnnc_process(task: dict[str, Any]) -> dict[str, int]:
    import cnnc

    before, training = peak(), task["mode"] == "train"
    net = cnnc.load(task["file"], **task["parameters"])
    x, labels = data(task["shape"])
    if training:
        trainer = cnnc.Trainer(net, cnnc.sgd(lr=1e-3, momentum=0.9), threads=task["threads"])
        executable = trainer.executable
        for _ in range(CALLS):
            trainer.step(x, labels)
    else:
        executable = cnnc.compile(net, threads=task["threads"])
        for _ in range(CALLS):
            executable(x)
    highest, memory, planned = peak(), executable.memory(len(x)), net.summary(len(x)).memory
    assert planned is not None
    return {
        "peak": highest,
        "before": before,
        "arena": memory.arena,
        "total": memory.total,
        "planned": planned[training],
    }


def torch_process(task: dict[str, Any]) -> dict[str, int]:
    import torch

    from tests.peers import networks

    torch.set_num_threads(task["threads"])
    before = peak()
    network = networks.build(task["name"]).train()
    x, labels = (torch.from_numpy(a) for a in data(task["shape"]))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(CALLS):
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(network(x), labels)
        loss.backward()
        optimizer.step()
        loss.item()
    return {"peak": peak(), "before": before}


def onnxruntime_process(task: dict[str, Any]) -> dict[str, int]:
    import onnxruntime

    before = peak()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = task["threads"]
    session = onnxruntime.InferenceSession(task["path"], options, providers=["CPUExecutionProvider"])
    x, _ = data(task["shape"])
    for _ in range(CALLS):
        session.run(None, {session.get_inputs()[0].name: x})
    return {"peak": peak(), "before": before}


PROCESSES = {"cnnc": cnnc_process, "torch": torch_process, "onnxruntime": onnxruntime_process}


def measured(engine: str, task: dict[str, Any]) -> dict[str, int]:
    """What an engine's process reports."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.bench.memory", "process", engine, json.dumps(task)]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return dict(json.loads(lines[-1]))


def compared(mode: str, name: str, batch: int, threads: int) -> str:
    """One network's line."""
    import torch

    import cnnc
    from tests.peers import networks

    _, file, parameters = networks.NETWORKS[name]
    path = str(Path(__file__).parents[2] / "examples" / file)
    shape = cnnc.load(path, **parameters).graph.inputs[0].type.concrete(batch)
    task = {"mode": mode, "name": name, "file": path, "parameters": parameters, "shape": shape, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        if mode == "infer":
            task["path"] = f"{folder}/network.onnx"
            module = networks.build(name).eval()
            torch.onnx.export(module, (torch.zeros(shape),), task["path"], dynamo=False, opset_version=17)
        other = measured(PEERS[mode], task)
    measured("cnnc", task)
    ours = measured("cnnc", task)
    shown = {k: f"{v / MIB:.0f}" for k, v in ours.items()}
    return (
        f"{name} {mode} batch {batch}, MiB: cnnc {shown['peak']} ({shown['before']} before) | "
        f"{PEERS[mode]} {other['peak'] / MIB:.0f} ({other['before'] / MIB:.0f} before) | "
        f"cnnc / {PEERS[mode]} {ours['peak'] / other['peak']:.2f} | "
        f"arena {shown['arena']}, in all {shown['total']}, planned {shown['planned']}"
    )


def main() -> None:
    if sys.argv[1:2] == ["process"]:
        print(json.dumps(PROCESSES[sys.argv[2]](json.loads(sys.argv[3]))))
        return
    parser = argparse.ArgumentParser(prog="python -m tests.bench.memory", description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=PEERS)
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    for name in given.networks:
        print(compared(given.mode, name, given.batch, given.threads), flush=True)


if __name__ == "__main__":
    main()
