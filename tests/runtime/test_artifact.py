"""`.cnnx` files: what was saved is what runs; what is damaged is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import cnnc
from cnnc import artifact
from cnnc.diagnostics import CnncError
from cnnc.interop import safetensors
from tests.networks import MIXED


@pytest.fixture(scope="module")
def net():
    return cnnc.parse(MIXED)


def images(batch):
    return np.random.default_rng(0).standard_normal((batch, 3, 19, 17)).astype(np.float32)


def test_runs_like_what_was_saved(net, tmp_path):
    exe = cnnc.compile(net)
    path = tmp_path / "mixed.cnnx"
    cnnc.save(exe, path, batch=2, inputs=net.program.inputs)
    again = artifact.read(path)
    assert again.inputs == net.program.inputs
    assert again.batch == 2
    assert "conv_direct" in again.plan
    for batch in (1, 2, 5):
        assert np.array_equal(again.executable(images(batch)), exe(images(batch)))
    assert str(again.executable.graph) == exe.ir()


def test_any_batch_runs_whatever_size_it_was_saved_for(tmp_path):
    """Layers that read packed weights at one size, and others or none at another."""
    net = cnnc.parse(
        "model m { input x: f32[N, 64, 10, 10] return x -> conv(64, 3) -> relu -> flatten -> linear(20) -> relu -> linear(5) }"
    )
    exe = cnnc.compile(net, tune=False)
    sizes = (1, 3, 4, 17)
    for saved in sizes:
        cnnc.save(exe, tmp_path / "m.cnnx", batch=saved)
        again = cnnc.open(tmp_path / "m.cnnx")
        for batch in sizes:
            x = np.random.default_rng(batch).standard_normal((batch, 64, 10, 10)).astype(np.float32)
            assert np.array_equal(again(x), exe(x)), (saved, batch)


def rewritten(path, change):
    """The file with its tensors and metadata changed."""
    file = safetensors.open_file(path)
    tensors, metadata = {n: np.array(file.read(n)) for n in file.entries}, dict(file.metadata)
    change(tensors, metadata)
    safetensors.write_file(path, tensors, metadata)


def test_weights_are_in_it_once(net, tmp_path):
    """By their names, so that other programs can read them; a file that is opened can be saved again."""
    exe = cnnc.compile(net)
    exe(images(2))
    cnnc.save(exe, tmp_path / "a.cnnx", batch=2)
    file = safetensors.open_file(tmp_path / "a.cnnx")
    assert set(file.entries) == {n.name for n in (*exe.graph.parameters, *exe.graph.states)}
    assert all(np.array_equal(file.read(name), net.weights[name]) for name in file.entries)
    weights = sum(w.nbytes for w in net.weights.values())
    assert (tmp_path / "a.cnnx").stat().st_size < weights + 64 * 1024
    cnnc.save(cnnc.open(tmp_path / "a.cnnx"), tmp_path / "b.cnnx", batch=2)
    assert np.array_equal(cnnc.open(tmp_path / "b.cnnx")(images(3)), exe(images(3)))


def test_a_file_that_is_replaced_meanwhile_changes_nothing(net, tmp_path):
    exe, path = cnnc.compile(net), tmp_path / "a.cnnx"
    cnnc.save(exe, path)
    again = cnnc.open(path)
    other = cnnc.parse(MIXED)
    other.initialize(7)
    cnnc.save(cnnc.compile(other), path)
    path.unlink()
    assert np.array_equal(again(images(2)), exe(images(2)))
    assert np.array_equal(pickle.loads(pickle.dumps(again.values._given))["out.bias"], net.weights["out.bias"])


def test_an_opened_artifact_takes_other_weights(net, tmp_path):
    cnnc.save(cnnc.compile(net), tmp_path / "a.cnnx")
    other = cnnc.parse(MIXED)
    other.initialize(7)
    again = cnnc.open(tmp_path / "a.cnnx")
    again.refresh(other.weights)
    assert np.array_equal(again(images(2)), cnnc.compile(other)(images(2)))


CHANGES = {
    "another format": lambda t, m: m.update(format="cnnx 99"),
    "another machine": lambda t, m: m.update(target="neon"),
    "graph that is none": lambda t, m: m.update(ir="graph @x() {"),
    "graph with a wrong type": lambda t, m: m.update(ir=m["ir"].replace("f32[N,5]", "f32[N,6]")),
    "graph of other weights": lambda t, m: m.update(ir=m["ir"].replace("%out.bias", "%other.bias")),
    "batch that is none": lambda t, m: m.update(batch="-1"),
    "batch that is no number": lambda t, m: m.update(batch="x"),
    "inputs that are none": lambda t, m: m.update(inputs='{"image": {"crop": "x"}}'),
    "no metadata": lambda t, m: m.clear(),
    "weights of another size": lambda t, m: t.update({next(iter(t)): np.zeros(3, np.float32)}),
    "weights of another kind": lambda t, m: t.update({n: w.astype(np.float64) for n, w in t.items()}),
    "no weights": lambda t, m: t.clear(),
    "a weight too few": lambda t, m: t.pop(next(iter(t))),
    "batch beyond all": lambda t, m: m.update(batch="9" * 30),
    "batch in other digits": lambda t, m: m.update(batch="\u0663"),
    "exactness that is none": lambda t, m: m.update(exact="maybe"),
    "no labels": lambda t, m: m.pop("labels"),
    "labels that are none": lambda t, m: m.update(labels='["a", 3]'),
    "labels of surrogates": lambda t, m: m.update(labels='["\\ud800"]'),
    "decisions that are none": lambda t, m: m.update(decisions='{"pace": {"own": NaN}, "decisions": {}}'),
    "decisions of another kind": lambda t, m: m.update(decisions='{"a": {"algorithm": 3, "microseconds": {}}}'),
    "inputs of another graph": lambda t, m: m.update(inputs='{"other": {}}'),
    "a tensor too many": lambda t, m: t.update(extra=np.zeros(3, np.float32)),
}


@pytest.mark.parametrize("name", CHANGES)
def test_damage_is_a_diagnostic(net, tmp_path, name):
    path = tmp_path / "mixed.cnnx"
    cnnc.save(cnnc.compile(net), path)
    rewritten(path, CHANGES[name])
    with pytest.raises(CnncError) as e:
        artifact.open_artifact(path)(images(1))
    assert e.value.exit_code == 3


@pytest.mark.parametrize(
    "settings",
    [
        *(
            '{"crop": []}',
            '{"resize": 0}',
            '{"resize": 1.5}',
            '{"resize": [64]}',
            '{"resize": true}',
            '{"resize": 1e6}',
        ),
        *('{"scale": ' + "9" * 400 + "}", '{"scale": 0}', '{"scale": 1e39}', '{"scale": 1e-320}', '{"scale": "1"}'),
        *(
            '{"mean": []}',
            '{"mean": [1, 2]}',
            '{"mean": [NaN]}',
            '{"std": [0]}',
            '{"std": [-1, 1, 1]}',
            '{"std": [[1]]}',
        ),
        *('{"channels": "grey"}', '{"channels": 3}', '{"labels": "../x"}', '{"labels": 3}', '{"other": 1}', "[]", "3"),
        *('{"crop": [19, 17], "resize": 18}', '{"crop": [20, 17]}', '{"crop": 19}', '{"mean": {"a": 1}}'),
    ],
)
def test_settings_of_an_input_are_checked_for_their_values(net, tmp_path, settings):
    path = tmp_path / "mixed.cnnx"
    cnnc.save(cnnc.compile(net), path)
    rewritten(path, lambda t, m: m.update(inputs=f'{{"image": {settings}}}'))
    with pytest.raises(CnncError, match="E0610") as e:
        artifact.read(path)
    assert e.value.exit_code == 3


@pytest.mark.parametrize("keep", [0, 5, 100, 5000, -1])
def test_truncated_files(net, tmp_path, keep):
    path = tmp_path / "mixed.cnnx"
    cnnc.save(cnnc.compile(net), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CnncError) as e:
        artifact.read(path)
    assert e.value.exit_code == 3


def test_class_names_travel(tmp_path):
    net = cnnc.parse("model m { input x: f32[N, 4] return x -> linear(3) as fc }")
    net.classes = ("cat", "dog", "caf\\xe9")
    cnnc.save(cnnc.compile(net), tmp_path / "m.cnnx")
    assert artifact.read(tmp_path / "m.cnnx").labels == net.classes
    again = cnnc.open(tmp_path / "m.cnnx")
    assert again.classes == net.classes
    cnnc.save(again, tmp_path / "n.cnnx", labels=("a", "b", "c"))
    assert artifact.read(tmp_path / "n.cnnx").labels == ("a", "b", "c")


@pytest.mark.parametrize("names", [3, "cat", ["cat", 3], [None]])
def test_class_names_are_names(names):
    net = cnnc.parse("model m { input x: f32[N, 4] return x -> linear(3) as fc }")
    with pytest.raises(CnncError, match="E0706"):
        net.classes = names


@pytest.mark.parametrize("batch", [0, -1, 1.5, "2", True, None])
def test_a_batch_that_is_none_is_refused(net, tmp_path, batch):
    with pytest.raises(CnncError, match="E0704"):
        cnnc.save(cnnc.compile(net), tmp_path / "m.cnnx", batch=batch)
    assert not list(tmp_path.iterdir())


def test_flipped_bits_are_noticed(net, tmp_path):
    path = tmp_path / "mixed.cnnx"
    cnnc.save(cnnc.compile(net), path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CnncError, match="E0610"):
        artifact.read(path)


@pytest.mark.parametrize(
    "layer", ["conv(16, 1, padding=1)", "conv(16, 1, padding=2, stride=2)", "conv(16, 3, padding=4)"]
)
def test_slices_wholly_in_padding_are_saved(layer, tmp_path):
    net = cnnc.parse(f"model m() {{ input x: f32[N, 1, 1, 2, 2]  return x -> {layer} }}")
    exe, x = cnnc.compile(net), np.random.default_rng(0).standard_normal((3, 1, 1, 2, 2)).astype(np.float32)
    cnnc.save(exe, tmp_path / "m.cnnx")
    assert artifact.read(tmp_path / "m.cnnx").executable(x).tobytes() == exe(x).tobytes()
