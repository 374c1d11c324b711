"""Tensors, graphs, artifacts, checkpoints and what is remembered: each with good files, a way to forge one of their fields, and
a judge of what the reader gave.
"""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import cnnc
from cnnc import artifact
from cnnc.backends.cpu import BACKEND, decisions
from cnnc.interop import safetensors
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import random_values
from cnnc.ir.text import parse_graph, print_graph
from cnnc.train import train
from tests.malformed.arrays import ARRAYS, Cifar, Format, Idx, Images, Npy, Npz, archive, refusing, same
from tests.malformed.fields import damage, forged_json, put
from tests.malformed.ir import forged_ir
from tests.malformed.mutate import mutate, mutate_values
from tests.malformed.onnx_files import Onnx
from tests.random_networks.check import Setting, executables
from tests.random_networks.generate import network
from tests.random_networks.reference import Mismatch, Reference

TRAINED = """model tiny(classes = 3) {
    input image: f32[N, 1, 6, 6] {
        resize = 6
        mean = 0.5
        std = [0.25]
    }
    return image -> conv(4, 3, padding=1) -> batchnorm -> relu -> maxpool(2) -> flatten -> linear(classes)
}
train {
    optimizer = sgd(lr=0.05, momentum=0.9)
    batch = 8
    epochs = 2
}
"""


# ------------------------------------------------------------------------------------------------ safetensors


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a good safetensors file; without the digest, which would be all that is looked at."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header["__metadata__"].pop(safetensors.DIGEST, None)
    return header, data[8 + length :]


def data_of(path: Path) -> bytes:
    """What lies behind the header."""
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def joined(header: str, data: bytes) -> bytes:
    text = header.encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + data


def forged_tensors(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file with a field of its header forged, or its length, or damaged."""
    how = draw.randrange(10)
    if how == 0:
        return put(data, 0, 8, draw)
    if how == 1:
        return damage(data, draw)
    header, rest = parts(data)
    return joined(forged_json(json.dumps(header), draw), rest)


class Tensors(Format):
    name = "safetensors"

    def __init__(self, folder: Path) -> None:
        self.network = cnnc.parse(TRAINED)
        self.network.save_weights(folder / "good.safetensors")
        self.good = (folder / "good.safetensors").read_bytes()

    def forge(self, draw: random.Random, folder: Path) -> Path:
        path = folder / "w.safetensors"
        path.write_bytes(forged_tensors(self.good, draw))
        return path

    def read(self, path: Path) -> Any:
        file = safetensors.open_file(path)
        with refusing():
            self.network.load_weights(path)
        self.network.load_weights(path, strict=False)
        return file

    def judge(self, path: Path, found: Any) -> None:
        from safetensors.numpy import load

        other = load(path.read_bytes())
        for name, entry in found.entries.items():
            if entry.dtype in ("F32", "F64", "F16", "I64", "I32", "U8"):
                same(name, found.read(name), other[name])


class Weights(Format):
    name = "weights"

    def __init__(self) -> None:
        self.network = cnnc.parse(TRAINED)
        self.good = dict(self.network.weights)

    def forge(self, draw: random.Random, folder: Path) -> Path:
        path = folder / "w.npz"
        path.write_bytes(archive(self.good, draw))
        return path

    def read(self, path: Path) -> Any:
        with refusing():
            self.network.load_weights(path)
        return self.network.load_weights(path, strict=False)

    def judge(self, path: Path, found: Any) -> None:
        with warnings.catch_warnings(), np.load(path, allow_pickle=False) as want:
            warnings.simplefilter("ignore")
            for name in set(self.good) - {*found.missing, *found.mismatched}:
                same(name, self.network.weights[name], want[name].astype(np.float32))


# ------------------------------------------------------------------------------------------------ graphs

SMALL = 200_000  # numbers in a graph that is run


def small(graph: Graph) -> bool:
    counts = [int(np.prod([d for d in t.concrete(3)], dtype=object)) for n in graph.nodes for t in n.types]
    return sum(counts) < SMALL and sum(len(n.operands) for n in graph.nodes) < 200


def agree(graph: Graph, run: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Whether what runs gives what the reference does, at a batch of 3, whole numbers and others."""
    for whole in (True, False):
        reference = Reference(graph, 3, whole)
        got = run(reference.inputs, reference.values)
        for label, value in graph.outputs:
            reference.compare(label, value, got[label])


class Ir(Format):
    """Graphs as they are written, and as the passes leave them."""

    name = "ir"

    def __init__(self) -> None:
        from cnnc.driver import optimize
        from tests.networks import MIXED

        written = [cnnc.parse(t).graph for t in (TRAINED, MIXED)] + [network(seed) for seed in range(12)]
        self.texts = [print_graph(g) for g in written]
        self.texts += [print_graph(optimize(g, BACKEND.layouts())[0]) for g in written]

    def forge(self, draw: random.Random, folder: Path) -> Path:
        path = folder / "g.ir"
        text = forged_ir(draw.choice(self.texts), draw)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return path

    def read(self, path: Path) -> Any:
        from cnnc.cli.opt import _read

        graph = parse_graph(_read(str(path)), path.name)
        if parse_graph(print_graph(graph)) != graph:
            raise Mismatch("the graph does not print and parse back")
        return graph

    def judge(self, path: Path, found: Graph) -> None:
        runs = all(t.dtype == "f32" for n in found.nodes for t in n.types) and not found.updates
        if not small(found) or not runs:
            return

        def run(inputs: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
            exe, _ = executables(found, Setting("inference", f"cpu-{BACKEND.target.name}"), values)
            return exe.run(inputs)

        agree(found, run)


class Cnn(Format):
    name = "cnn"

    def __init__(self) -> None:
        from tests.networks import EXAMPLES, MIXED

        self.texts = [TRAINED, MIXED, *(p.read_text() for p in sorted(EXAMPLES.glob("*.cnn")))]

    def forge(self, draw: random.Random, folder: Path) -> Path:
        path = folder / "m.cnn"
        text = draw.choice((mutate, mutate_values))(draw.choice(self.texts), draw.getrandbits(32))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return path

    def read(self, path: Path) -> Any:
        net = cnnc.load(path)
        return net, str(net.summary()), print_graph(net.graph)


class Cnnx(Format):
    name = "cnnx"
    seconds = 30.0  # with kernels to compile

    def __init__(self, folder: Path) -> None:
        from tests.networks import MIXED

        self.good, self.paths = [], []
        for i, text in enumerate((TRAINED, MIXED)):
            net, path = cnnc.parse(text), folder / f"good{i}.cnnx"
            exe = cnnc.compile(net, tune=False)
            cnnc.save(exe, path, batch=3, inputs=net.program.inputs, labels=("a", "b", "c"))
            self.good.append(path.read_bytes())
            self.paths.append(path)

    def forge(self, draw: random.Random, folder: Path) -> Path:
        path, good = folder / "m.cnnx", draw.choice(self.good)
        if draw.random() < 0.2:
            path.write_bytes(forged_tensors(good, draw))
            return path
        header, rest = parts(good)
        meta = header["__metadata__"]
        key = draw.choice(("ir", "ir", "inputs", "inputs", "decisions", "labels", "batch", "other"))
        if key == "ir":
            meta["ir"] = forged_ir(meta["ir"], draw)
        elif key in ("inputs", "decisions", "labels"):
            meta[key] = forged_json(meta[key], draw)
        elif key == "batch":
            meta["batch"] = draw.choice(
                ("0", "-1", "1", "2", "4", "7", "1e3", "2147483647", "9" * 30, "true", "", "\u0663")
            )
        else:
            other = draw.choice(list(meta))
            meta[other] = draw.choice(("", "x", "true", "false", "null", "\0", "x" * 10**6, other))
        path.write_bytes(joined(json.dumps(header), rest))
        return path

    def read(self, path: Path) -> Any:
        opened = artifact.read(path, 1)
        graph = opened.executable.graph
        if not small(graph):
            return None
        inputs, _ = random_values(graph, 3)
        given = {n.name: np.asarray(inputs[n.name], np.float32) for n in graph.inputs}
        return opened, given, opened.executable.run(given)

    def judge(self, path: Path, found: Any) -> None:
        if found is None:
            return
        if not any(data_of(path) == data_of(good) for good in self.paths):
            return  # other weights, which are as good as any
        opened, given, got = found
        graph, values = opened.executable.graph, {}
        for name, node in ((n.name, n) for n in (*graph.parameters, *graph.states)):
            if name not in opened.executable.values:
                return
            values[name] = np.asarray(opened.executable.values[node.name])
        from cnnc.ir.interpret import run

        want = run(graph, given, values)
        for label in want:
            size = max(1.0, float(np.abs(want[label]).max(initial=0)))
            if got[label].shape != want[label].shape:
                raise Mismatch(f"{label} is {got[label].shape}, not {want[label].shape}")
            if np.isfinite(want[label]).all() and not np.allclose(got[label], want[label], rtol=1e-3, atol=1e-4 * size):
                raise Mismatch(f"{label} has other values")


# ------------------------------------------------------------------------------------------------ runs, caches


class Run(Format):
    """A checkpoint that a run goes on from: where it is taken, the run ends as it would have."""

    name = "checkpoint"
    seconds = 30.0  # with kernels to compile

    def __init__(self, folder: Path) -> None:
        self.data = folder / "digits.npz"
        np.savez(self.data, x=ARRAYS[0].repeat(10, 0), y=np.arange(30) % 3)
        self.go(folder / "run", 1, False)
        self.path = folder / "good.checkpoint"
        self.good = (folder / "run" / "checkpoint.safetensors").read_bytes()
        self.path.write_bytes(self.good)
        self.want = self.go(folder / "run", 2, True)

    def go(self, folder: Path, epochs: int, resume: bool) -> dict[str, Any]:
        net = cnnc.parse(TRAINED)
        train(net, self.data, folder, epochs=epochs, resume=resume, quiet=True, threads=1)
        return {n: np.array(v) for n, v in net.weights.items()}

    def forge(self, draw: random.Random, folder: Path) -> Path:
        header, rest = parts(self.good)
        if draw.random() < 0.2:
            data = forged_tensors(self.good, draw)
        else:
            header["__metadata__"]["run"] = forged_json(header["__metadata__"]["run"], draw)
            data = joined(json.dumps(header), rest)
        (folder / "run").mkdir()
        (folder / "run" / "checkpoint.safetensors").write_bytes(data)
        return folder

    def read(self, path: Path) -> Any:
        good = data_of(path / "run" / "checkpoint.safetensors") == data_of(self.path)
        return self.go(path / "run", 2, True), good

    def judge(self, path: Path, found: Any) -> None:
        weights, good = found
        for name, value in weights.items() if good else ():
            same(name, value, self.want[name])


class Decisions(Format):
    """What the cache folder remembers: never an error, what is damaged is made again."""

    name = "decisions"

    def __init__(self) -> None:
        algorithm = {"algorithm": "direct", "microseconds": {"direct": 3.5, "winograd 2x2": 4}}
        pace = {"own": 1.0, "shared": 0.5, "memory": 2.0}
        record = {
            "format": decisions.FORMAT,
            "kernels": BACKEND.code.version(*decisions.FAMILIES),
            "pace": pace,
            "decisions": {"conv 1 2 3": algorithm},
        }
        self.good = json.dumps(record)

    def forge(self, draw: random.Random, folder: Path) -> Path:
        folder.chmod(0o700)
        path = folder / "decisions-0.json"
        text = forged_json(self.good, draw).encode("utf-8", "surrogatepass")
        path.write_bytes(text if draw.random() < 0.8 else damage(text, draw))
        path.chmod(0o600)
        return path

    def read(self, path: Path) -> Any:
        return decisions._read(path, BACKEND.code)

    def judge(self, path: Path, found: Any) -> None:
        json.dumps(found.to_json(), allow_nan=False).encode()


def formats(folder: Path) -> list[Format]:
    """All formats, their good files made in a folder."""
    tensors, cnnx, run = Tensors(folder), Cnnx(folder), Run(folder)
    return [Npy(), Npz(), Weights(), Idx(), Cifar(), tensors, cnnx, run, Ir(), Images(), Cnn(), Decisions(), Onnx()]
