"""The graph, its builder, its verification, rewriting, and the interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import cnnc.ops  # noqa: F401
from cnnc.backends import backend
from cnnc.backends.reference import BACKEND
from cnnc.diagnostics import CnncError
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Attributes, Graph, Node
from cnnc.ir.interpret import batch_of, random_values, run
from cnnc.ir.op import InferenceError
from cnnc.ir.rewrite import Rewriter, dependent, fixed_values, rename_values, rewrite
from cnnc.ir.types import TensorType, activation, blocked
from cnnc.ir.verify import verify
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph
from tests.passes.networks import Net, small


def test_types() -> None:
    t = TensorType("f32", ("N", 6, 5, 4), "nchw16c")
    assert str(t) == "f32[N,6,5,4] nchw16c"
    assert t.block == 16
    assert t.memory_shape(2) == (2, 1, 5, 4, 16)
    assert t.bytes(2) == 2 * 5 * 4 * 16 * 4
    assert t.concrete(3) == (3, 6, 5, 4)
    assert blocked(activation(("N", 3, 5)), 8) == "ncw8c"
    assert activation(("N", 3)).layout is None


def test_attributes_are_frozen_and_ordered() -> None:
    a, b = Attributes({"b": [1, [2]], "a": 0.5}), Attributes({"a": 0.5, "b": (1, (2,))})
    assert a == b
    assert hash(a) == hash(b)
    assert list(a) == ["a", "b"]
    assert a.with_(a=None, c=1) == Attributes({"b": (1, (2,)), "c": 1})


def test_names_are_made_unique() -> None:
    b = Net("g")
    x = b.image(3)
    assert [b.add("relu", [x]) for _ in range(3)] == ["relu", "relu.1", "relu.2"]
    assert b.insert("moments", [x], {}, "m").results == ("m", "m.variance")
    with pytest.raises(AssertionError, match="twice"):
        b.input("x", activation(("N",)))
    with pytest.raises(InferenceError, match="no attribute 'slope'"):
        b.add("relu", [x], {"slope": 1})


def test_who_reads_what() -> None:
    graph = small()
    assert [n.name for n in graph.users("relu1")] == ["conv2", "sum"]
    assert graph.only_user("relu1") is None
    assert graph.only_user("conv1") is graph.node("bn1")
    assert graph.only_user("fc") is None
    assert graph.users("fc") == ()
    assert "conv1" in graph
    assert "conv9" not in graph
    order = {n.name: i for i, n in enumerate(graph.nodes)}
    assert all(order[a] < order[b] for a, b in graph.digraph().edges)


@pytest.mark.parametrize(
    "damage",
    ["undefined", "twice", "type", "attribute", "operands", "output", "update", "labels", "leaf", "absent", "kind"],
)
def test_verification_finds(damage: str) -> None:
    graph = small()
    relu = graph.node("relu1")
    nodes = list(graph.nodes)
    at = nodes.index(relu)
    wrong = {
        "undefined": replace(relu, operands=("nowhere",)),
        "twice": replace(relu, results=("bn1",)),
        "type": replace(relu, types=(relu.type.with_layout("nchw16c"),)),
        "attribute": replace(relu, attributes=Attributes({"slope": 1})),
        "operands": replace(relu, operands=("bn1", "bn1")),
        "absent": replace(relu, operands=(None,)),
        "leaf": Node("param", ("bn1",), Attributes(), ("p",), (relu.type,)),
        "kind": replace(relu, op="maxpool", attributes=Attributes({"kernel": "big"})),
    }
    changed = {
        "output": replace(graph, outputs=(("y", "nowhere"),)),
        "update": replace(graph, updates=(("conv1", "conv2"),)),
        "labels": replace(graph, outputs=(("y", "fc"), ("y", "sum"))),
    }
    if damage in wrong:
        nodes[at] = wrong[damage]
    with pytest.raises(CnncError) as e:
        verify(changed.get(damage) or replace(graph, nodes=tuple(nodes)))
    assert all(d.code.startswith("E05") for d in e.value.diagnostics)


def test_verification_reports_at_most_twenty() -> None:
    b = Builder("g")
    x = b.input("x", activation(("N", 3)))
    for i in range(50):
        b.append(Node("relu", (x,), Attributes(), (f"y{i}",), (activation(("N", 4)),)))
    with pytest.raises(CnncError) as e:
        verify(b.finish([("y", "y1")]))
    assert len(e.value.diagnostics) == 20


# ------------------------------------------------------------------------------------------------ rewriting


def test_a_rule_that_does_not_apply_gives_the_same_graph() -> None:
    graph = small()
    assert rewrite(graph, lambda rewriter, node: None) is graph
    assert Rewriter(graph).finish() is graph


def test_a_rule_replaces_values_everywhere() -> None:
    graph = small()

    def rule(rewriter: Rewriter, node: Node) -> str | None:
        return rewriter.add("tanh", node.operands, {}, f"{node.name}.tanh") if node.op == "relu" else None

    result = rewrite(graph, rule)
    verify(result)
    assert not result.of("relu")
    assert result.node("conv2").operands[0] == "relu1.tanh"
    again = rename_values(result, {"relu1.tanh": "relu1", "x": "picture", "conv1.weight": "w"})
    verify(again)
    assert again.inputs[0].name == "picture"
    assert again.node("conv1").operands == ("picture", "w")


def test_new_names_do_not_collide_with_old_ones_further_down() -> None:
    graph = small()

    def rule(rewriter: Rewriter, node: Node) -> str | None:
        return (
            rewriter.add("relu", [rewriter.add("neg", node.operands, {}, "fc")], {}, results=node.results)
            if node.name == "relu1"
            else None
        )

    verify(rewrite(graph, rule))


def test_what_depends_on_what() -> None:
    graph = small()
    assert dependent(graph, ["conv2.bias"]) == {"conv2.bias", "conv2", "bn2", "sum", "relu2", "pool", "flat", "fc"}
    b = Net("g")
    x, v = b.image(3), b.vector("v", 3)
    two = b.add("constant", [], {"value": 2.0}, "two")
    w = b.add("mul", [v, two], {}, "w")
    assert fixed_values(b.finish([("y", b.add("mul", [x, w], {}, "y"))])) == {"v", "two", "w"}


# ------------------------------------------------------------------------------------------------ the interpreter


def test_the_interpreter_frees_and_keeps() -> None:
    graph = small()
    inputs, values = random_values(graph, 3)
    result = run(graph, inputs, values, keep=["relu1"])
    assert list(result) == ["logits"]
    assert result["logits"].shape == (3, 3)
    assert result["logits"].dtype == np.float64
    assert list(result.kept) == ["relu1"]
    assert result.updates == {}


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_any_batch(batch: int) -> None:
    graph = small()
    inputs, values = random_values(graph, batch)
    assert run(graph, inputs, values)["logits"].shape == (batch, 3)
    assert batch_of(graph, inputs) == batch


def test_inputs_of_every_kind() -> None:
    graph = small()
    inputs, values = random_values(graph, 2, integers=True)
    expected = run(graph, inputs, values)["logits"]
    x = inputs["x"]
    for other in (
        x.astype(np.float32),
        x.astype(np.int32),
        x.astype(">f4"),
        np.asfortranarray(x),
        np.repeat(x, 2, 0)[::2],
        x.tolist(),
    ):
        np.testing.assert_array_equal(run(graph, {"x": other}, values)["logits"], expected)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [({}, "missing"), ({"x": np.zeros((2, 6, 6))}, "not \\[2, 6, 6\\]"), ({"x": np.zeros((2, 3, 6, 6))}, "nchw, not")],
)
def test_inputs_that_do_not_fit(inputs: dict[str, object], words: str) -> None:
    graph = small()
    with pytest.raises(CnncError, match=words):
        run(graph, inputs, random_values(graph)[1])


def test_inputs_of_different_batches() -> None:
    b = Net("g")
    graph = b.finish([("y", b.add("add", [b.image(3, name="u"), b.image(3, name="v")], {}, "y"))])
    with pytest.raises(CnncError, match="different batches: u 2, v 3"):
        run(graph, {"u": np.zeros((2, 3)), "v": np.zeros((3, 3))}, {})


def test_random_values_depend_on_names_alone() -> None:
    graph = training_graph(small(dropout=True), optimizer=SGD(momentum=0.9))
    inputs, values = random_values(graph, 4, seed=3)
    again = Graph("other", tuple(reversed(graph.nodes)), graph.outputs)
    _, others = random_values(again, 4, seed=3)
    for name, v in values.items():
        np.testing.assert_array_equal(v, others[name])
    assert ((inputs["labels"] >= 0) & (inputs["labels"] < 3)).all()
    assert inputs["seed"].shape == (2,)
    assert (values["bn1.running_var"] > 0).all()
    integers, _ = random_values(graph, 4, integers=True)
    assert np.abs(integers["x"]).max() <= 4
    assert (integers["x"] == integers["x"].round()).all()


def test_the_reference_backend_performs_updates() -> None:
    graph = training_graph(small(), optimizer=SGD())
    inputs, values = random_values(graph, 4)
    runner = BACKEND.prepare(graph, values)
    losses = [float(runner.run(inputs)["loss"]) for _ in range(3)]
    assert losses[2] < losses[0]
    assert not np.array_equal(runner.values["fc.weight"], values["fc.weight"])
    assert backend("reference") is BACKEND
    with pytest.raises(CnncError, match="did you mean 'cpu'"):
        backend("cpuu")
