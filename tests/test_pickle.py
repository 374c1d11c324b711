"""Whatever a person gets from cnnc goes to another process and back, or is copied, as it is."""

from __future__ import annotations

import ast
import copy
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.diagnostics import CnncError, Diagnostic, Origin, Source, Span, error
from cnnc.frontend.inputs import Preprocess
from cnnc.frontend.sizes import OpenSizes
from cnnc.interop.onnx_import.calls import Call, Unsupported
from cnnc.ir.op import InferenceError
from cnnc.train import schedules
from cnnc.train.loop import Interrupted, Result

TEXT = """
model small(classes = 3) {
    input image: f32[N, 3, 8, 8] { scale = 1/255 }
    return image -> conv(4, 3, padding=1) -> batchnorm -> relu -> dropout(0.5) -> flatten -> linear(classes)
}
"""
X = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)
Y = np.arange(6) % 3
WAYS = {
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "pickle 2": lambda value: pickle.loads(pickle.dumps(value, 2)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def wrong():
    with pytest.raises(CnncError) as e:
        cnnc.parse("model m { input x: f32[N, 3, 4, 4] return x -> relo -> conv(4, 9) }")
    return e.value


@ways
def test_errors(way):
    first = wrong()
    first.add_note("seen in a test")
    second = way(first)
    assert (str(second), second.exit_code, second.diagnostics) == (str(first), 1, first.diagnostics)
    assert second.__notes__ == ["seen in a test"]
    assert way(error("E0601", "no", help="a way out", exit_code=3)).exit_code == 3
    span = Span(Source("m.cnn", "model m"), 0, 5)
    diagnostic = Diagnostic("E0202", "no", span, ("note",), "help", "warning", (("b", span),))
    assert str(way(diagnostic)) == str(diagnostic)
    assert str(way(Origin(span, (("b", span),)))) == str(Origin(span, (("b", span),)))


MADE_OF_MORE = {
    "CnncError": error("E0601", "no", "note", help="a way out", exit_code=3),
    "InferenceError": InferenceError("no", "kernel", "E0202", ("note",), "help"),
    "OpenSizes": OpenSizes({"x": ("N", 3, "H")}, "m"),
    "Unsupported": Unsupported(Call("Conv", ("x",), ("y",)), "it is none"),
    "Interrupted": Interrupted(Result(Path("runs/x"), ({"epoch": 1},), Path("w.safetensors"))),
}


@pytest.mark.parametrize("name", MADE_OF_MORE)
def test_exceptions_that_are_made_of_more_than_their_text(name):
    first = MADE_OF_MORE[name]
    second = pickle.loads(pickle.dumps(first))
    assert (type(second), str(second), vars(second)) == (type(first), str(first), vars(first))


def test_there_are_no_others():
    root = Path(__file__).parent.parent
    found = {}
    for path in (*(root / "cnnc").rglob("*.py"), *(root / "kernels").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
            if any(base.endswith(("Error", "Exception", "KeyboardInterrupt")) for base in bases):
                found[node.name] = {f.name for f in node.body if isinstance(f, ast.FunctionDef)}
    assert {name for name, methods in found.items() if "__init__" in methods} == set(MADE_OF_MORE)


def test_a_pool_gets_the_error_of_a_wrong_model(tmp_path):
    program = """
import multiprocessing, sys
import cnnc
def work(text):
    return cnnc.parse(text).name
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        try:
            pool.map_async(work, ["model m { input x: f32[N, 3] return x -> relo }"]).get(timeout=60)
        except cnnc.CnncError as e:
            print(e.diagnostics[0].code)
"""
    root = Path(__file__).parent.parent
    (tmp_path / "pool.py").write_text(f"import sys; sys.path.insert(0, {str(root)!r})\n{program}")
    run = [sys.executable, str(tmp_path / "pool.py")]
    done = subprocess.run(run, capture_output=True, text=True, timeout=100, check=False)
    assert (done.stdout.strip(), done.stderr) == ("E0302", "")


@ways
def test_networks(way):
    net = cnnc.parse(TEXT, classes=2)
    net.initialize(7)
    name = next(iter(net.weights))
    net.weights[name] = net.weights[name] + 1
    other = way(net)
    assert repr(other) == repr(net)
    assert str(other.graph) == str(net.graph)
    assert list(other.weights) == list(net.weights)
    assert all(np.array_equal(other.weights[n], net.weights[n]) for n in net.weights)
    assert not other.weights[name].flags.writeable
    assert str(other.summary(2)) == str(net.summary(2))
    other.weights[name] = np.zeros_like(net.weights[name])
    assert bool(np.any(net.weights[name])) is (way is not copy.copy)  # which shares what it holds


@ways
@pytest.mark.parametrize("value", ["tanh", "conv", "conv(4, 3)", "twice", "[relu, {1: maxpool}]"])
def test_networks_with_layers_and_blocks_among_their_parameters(way, value):
    block = "block twice(x) { return x -> relu -> relu }"
    net = cnnc.parse(f"{block}\nmodel m(f = {value}) {{\n  input x: f32[N, 3, 8, 8]\n  return x -> relu\n}}")
    other = way(net)
    assert str(other.graph) == str(net.graph)
    assert list(other.weights) == list(net.weights)


@ways
@pytest.mark.parametrize("target", ["cpu", "reference"])
def test_executables(way, target):
    net = cnnc.parse(TEXT)
    exe = cnnc.compile(net, target=target, threads=1)
    expected = exe(X)
    other = way(exe)
    assert np.array_equal(other(X), expected)
    assert other.ir() == exe.ir()
    assert other.ir("source") == exe.ir("source")
    if target == "cpu":
        assert other.plan(3) == exe.plan(3)
        assert way(exe.memory(3)) == exe.memory(3)
        assert other.runner.threads == 1
    other.refresh({name: np.zeros_like(value) for name, value in net.weights.items()})
    assert not np.any(other(X))


@ways
def test_artifacts(way, tmp_path):
    cnnc.save(cnnc.compile(cnnc.parse(TEXT)), tmp_path / "m.cnnx", batch=6)
    exe = cnnc.open(tmp_path / "m.cnnx")
    other = way(exe)
    (tmp_path / "m.cnnx").unlink()
    assert np.array_equal(other(X), exe(X))
    assert np.array_equal(other(X[:1]), exe(X[:1]))


@pytest.mark.parametrize("way", [WAYS["pickle"], copy.deepcopy], ids=["pickle", "deepcopy"])
@pytest.mark.parametrize(
    "optimizer", [cnnc.sgd(lr=0.1, momentum=0.9), cnnc.adam(), cnnc.adadelta(), cnnc.rmsprop(centered=True)], ids=repr
)
def test_trainers_go_on(way, optimizer):
    """A copy takes the steps that the first would have taken, and leaves it alone."""
    assert way(optimizer) == optimizer
    trainer = cnnc.Trainer(cnnc.parse(TEXT), optimizer, seed=3, threads=1)
    trainer.step(X, Y)
    name = next(iter(trainer.network.weights))
    trainer.network.weights[name] = trainer.network.weights[name] * 2
    other = way(trainer)
    losses = [trainer.step(X, Y) for _ in range(3)]
    weights = {n: np.array(v) for n, v in trainer.network.weights.items()}
    assert [other.step(X, Y) for _ in range(3)] == losses
    assert other.steps == trainer.steps == 4
    assert all(np.array_equal(other.network.weights[n], v) for n, v in weights.items())
    assert all(np.array_equal(trainer.network.weights[n], v) for n, v in weights.items())
    assert other.evaluate((X, Y)) == trainer.evaluate((X, Y))


@ways
def test_the_rest(way, tmp_path):
    function = cnnc.value_and_grad(cnnc.parse(TEXT), target="reference")
    (loss, gradients), (again, same) = function(X, Y), way(function)(X, Y)
    assert loss == again
    assert all(np.array_equal(gradients[n], same[n]) for n in gradients)
    data = cnnc.Dataset.from_arrays(X, Y, X[:2], Y[:2])
    other = way(data)
    assert [x.tobytes() for x, _ in other.batches(2, 1, 0)] == [x.tobytes() for x, _ in data.batches(2, 1, 0)]
    assert [y.tobytes() for _, y in other.test_batches(2)] == [y.tobytes() for _, y in data.test_batches(2)]
    for schedule in (schedules.Schedule(), schedules.Step(2, 0.5), schedules.Cosine(), schedules.Exponential(0.9)):
        assert way(schedule) == schedule
    net = cnnc.parse(TEXT)
    net.save_weights(tmp_path / "w.safetensors")
    assert way(net.load_weights(tmp_path / "w.safetensors")) == net.load_weights(tmp_path / "w.safetensors")
    assert str(way(net.summary())) == str(net.summary())
    assert way(net.program.inputs["image"]) == net.program.inputs["image"] != Preprocess()


def test_hashes_hold_in_another_process():
    """Texts have other hashes there: what is kept of them must not go along."""
    net = cnnc.parse(TEXT)
    for node in net.graph.nodes:
        hash(node.attributes)
    program = (
        "import pickle, sys; net = pickle.load(sys.stdin.buffer); import cnnc; from cnnc.ir.graph import Attributes\n"
        "assert all(hash(n.attributes) == hash(Attributes(dict(n.attributes))) for n in net.graph.nodes)\n"
    )
    root = Path(__file__).parent.parent
    subprocess.run([sys.executable, "-c", program], input=pickle.dumps(net), cwd=root, check=True, timeout=60)
