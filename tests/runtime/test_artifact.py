"""`.cnnx` files: what was saved is what runs; what is damaged is refused."""

from __future__ import annotations

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


def first(tensors, kind):
    return next(n for n in tensors if n.startswith(kind))


def drop(tensors, kind):
    for name in [n for n in tensors if n.startswith(kind)]:
        del tensors[name]


def test_saved_again_without_what_other_sizes_begin_with(tmp_path):
    """As files were written before these were kept."""
    net = cnnc.parse("model m { input x: f32[N, 64, 10, 10] return x -> conv(64, 3) -> flatten -> linear(5) }")
    cnnc.save(cnnc.compile(net, tune=False), tmp_path / "m.cnnx", batch=4)
    rewritten(
        tmp_path / "m.cnnx",
        lambda tensors, _: [tensors.pop(n) for n in [*tensors] if n.endswith(".weight") and n.startswith("value")],
    )
    cnnc.save(cnnc.open(tmp_path / "m.cnnx"), tmp_path / "again.cnnx", batch=4)
    x = np.ones((4, 64, 10, 10), np.float32)
    assert np.array_equal(cnnc.open(tmp_path / "again.cnnx")(x), cnnc.open(tmp_path / "m.cnnx")(x))


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
    "weights of another size": lambda t, m: t.update({first(t, "packed"): np.zeros(3, np.float32)}),
    "value of another size": lambda t, m: t.update({first(t, "value"): np.zeros(3, np.float32)}),
    "no values": lambda t, m: drop(t, "value"),
    "no packed weights": lambda t, m: drop(t, "packed"),
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


def test_packed_weights_of_another_batch_are_checked(tmp_path):
    """Those of the size that the artifact was saved for are checked when it is opened, others when they are needed."""
    net = cnnc.parse("model m { input x: f32[N, 64, 10, 10] return x -> conv(64, 3) -> flatten -> linear(5) }")
    exe = cnnc.compile(net, tune=False)
    for batch in (1, 4):
        cnnc.save(exe, tmp_path / f"{batch}.cnnx", batch=batch)
    other = safetensors.open_file(tmp_path / "4.cnnx").entries
    new = [n for n in other if n.startswith("packed") and n not in safetensors.open_file(tmp_path / "1.cnnx").entries]
    assert new
    rewritten(tmp_path / "1.cnnx", lambda t, m: t.update({n: np.zeros(1, np.float32) for n in new}))
    again = cnnc.open(tmp_path / "1.cnnx")
    with pytest.raises(CnncError, match="E0610") as e:
        again(np.ones((4, 64, 10, 10), np.float32))
    assert e.value.exit_code == 3


@pytest.mark.parametrize("keep", [0, 5, 100, 5000, -1])
def test_truncated_files(net, tmp_path, keep):
    path = tmp_path / "mixed.cnnx"
    cnnc.save(cnnc.compile(net), path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CnncError) as e:
        artifact.read(path)
    assert e.value.exit_code == 3
