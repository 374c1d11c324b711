"""What is exported is valid ONNX, and ONNX Runtime gives what our reference gives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.diagnostics import CnncError
from cnnc.interop import onnx as ours
from cnnc.interop.onnx_ops import WRITERS
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import random_values, run
from cnnc.ir.op import OPS
from cnnc.ir.types import TensorType, activation
from cnnc.ops.definitions import DEFINITIONS
from tests.networks import ALL_EXAMPLES, EXAMPLES, MIXED
from tests.ops.checking import POSITIVE, SETTINGS
from tests.random_networks.generate import network as random_network

onnx = pytest.importorskip("onnx")

# ops that only graphs of training have: losses, gradients, statistics of a batch
TRAINING = {"cross_entropy", "accuracy", "count", "reduce_channels"}
LOSSES = {"cross_entropy_terms", "cross_entropy_soft", "multiclass_hinge", "class_hits", "numbers"}
LOWERED = {"merge_groups", "split_groups"}  # of graphs on their way to kernels
AWAY_FROM_ZERO = (*POSITIVE, "div", "log1p")


def agree(graph: Graph, batch: int = 3, fixed: int | None = None, relative: float = 1e-4) -> None:
    """The exported model passes ONNX's checker; ONNX Runtime's results are the reference's."""
    inputs, values = random_values(graph, batch)
    inputs = {k: v.astype(np.float32) for k, v in inputs.items()}
    values = {k: v.astype(np.float32) for k, v in values.items()}
    model = ours.model(graph, values, fixed)
    onnx.checker.check_model(model, full_check=True)
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == [n.name for n in graph.inputs]
    found = session.run(None, inputs)
    expected = run(graph, inputs, values)
    assert len(found) == len(graph.outputs)
    for (label, _), y in zip(graph.outputs, found, strict=True):
        wanted = expected[label]
        assert y.shape == wanted.shape
        scale = np.abs(wanted[np.isfinite(wanted)]).max(initial=0)
        np.testing.assert_allclose(y, wanted, rtol=relative, atol=max(1e-5, 1e-5 * scale), err_msg=label)


def one_op(op: str, shapes: list[Any], attributes: dict[str, Any], weights: dict[int, str] | None = None) -> Graph:
    """The op over inputs of these shapes; operands in `weights` are params of that layout ("" for none)."""
    b = Builder("case")
    operands = []
    for i, shape in enumerate(shapes):
        if weights and i in weights:
            operands.append(b.param(f"w{i}", TensorType("f32", tuple(shape), weights[i] or None)))
        else:
            operands.append(b.input(f"x{i}", activation(tuple(shape))))
    node = b.insert(op, operands, attributes, "y")
    return b.finish([(name, name) for name in node.results])


def test_every_op_of_inference_has_a_rule() -> None:
    missing = {name for name in OPS if name not in WRITERS and not name.endswith("_gradient")}
    known = {"input", "param", "state"} | TRAINING | LOSSES | LOWERED
    assert {m for m in missing if not m.startswith(("adam", "sgd"))} <= known


@pytest.mark.parametrize("op", DEFINITIONS)
def test_pointwise_ops(op: str) -> None:
    b = Builder("case")
    operands = [b.input(f"x{i}", activation(("N", 5, 4, 3))) for i in range(DEFINITIONS[op].operands)]
    if op in AWAY_FROM_ZERO:
        one = b.add("constant", [], {"value": 0.5}, "half")
        operands[-1] = b.add("add", [b.add("abs", operands[-1:]), one], {}, "positive")
    scaled = [b.add("mul", [o, b.add("constant", [], {"value": 4.0})], {}) for o in operands]
    attributes = SETTINGS.get(op, {})
    agree(b.finish([("y", b.add(op, scaled if op not in ("exp", "expm1") else operands, attributes, "result"))]))


EXPRESSIONS = [
    ["where(a0 > a1, a0, 2 * a1)"],
    ["max(min(a0, 1), -1) * abs(a1)", "a0 - tanh(a1) / 3"],
    ["(a0 > 0) * a1", "where(a1, exp(a0), sqrt(abs(a0)))"],
    ["log(abs(a0) + 1)", "a1", "-a1"],
    ["(a0 >= a1) + (a0 != a1) * 2 - (a0 == a0)", "log1p(abs(a0)) + log1p(a1 * a1 * 1e-4)"],
    ["normal_cdf(a0) + normal_pdf(a1)", "pow(abs(a0), a1) + softplus(a0)"],
]


@pytest.mark.parametrize("texts", EXPRESSIONS)
def test_expressions(texts: list[str]) -> None:
    agree(one_op("pointwise", [("N", 4, 6, 2), ("N", 4, 6, 2)], {"expressions": texts}))


def test_expression_that_reads_nothing_of_the_batch_is_broadcast() -> None:
    b = Builder("case")
    b.input("x", activation(("N", 4, 3, 2)))
    v = b.param("v", TensorType("f32", (4,)))
    agree(b.finish([("y", b.add("pointwise", [v], {"expressions": ["2 * a0"], "shape": ("N", 4, 3, 2)}))]))


@pytest.mark.parametrize("shape", [("N", 6), ("N", 6, 5), ("N", 6, 5, 4), ("N", 6, 3, 2, 2)])
@pytest.mark.parametrize("other", [(6,), (), "same"])
def test_vectors_are_values_of_channels(shape: Any, other: Any) -> None:
    b = Builder("case")
    x = b.input("x", activation(shape))
    v = x if other == "same" else b.param("v", TensorType("f32", other))
    agree(b.finish([("y", b.add("add", [v, x], {})), ("z", b.add("mul", [x, v], {}))]))


CONVOLUTIONS = [
    ((2, 3, 8, 7), (4, 3, 3, 3), {}),
    ((2, 3, 8, 7), (4, 3, 3, 3), {"stride": [2, 2], "padding": [1, 1]}),
    ((2, 3, 9, 8), (4, 3, 5, 2), {"stride": [3, 1], "padding": [2, 1]}),
    ((2, 3, 9, 9), (4, 3, 3, 2), {"padding": [1, 1], "dilation": [2, 3]}),
    ((2, 6, 5, 5), (4, 3, 3, 3), {"padding": [1, 1], "groups": 2}),
    ((2, 6, 5, 5), (12, 1, 3, 3), {"stride": [2, 2], "padding": [1, 1], "groups": 6}),
    ((1, 17, 1, 13), (5, 17, 1, 3), {"padding": [0, 1]}),
    ((2, 3, 11), (4, 3, 4), {"stride": [2], "padding": [1]}),
    ((1, 2, 5, 4, 6), (3, 2, 2, 3, 1), {"stride": [1, 2, 1], "padding": [1, 0, 0]}),
    ((1, 2, 7, 7), (2, 2, 3, 3), {"stride": [5, 5]}),
    ((2, 3, 6, 5), (4, 3, 3, 3), {"padding": [[0, 2], [1, 0]]}),
    ((2, 3, 6, 5), (4, 3, 4, 2), {"padding": "same", "dilation": [1, 2]}),
]


@pytest.mark.parametrize(("x", "w", "attributes"), CONVOLUTIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_convolutions(x: Any, w: Any, attributes: dict[str, Any], bias: bool) -> None:
    layout = {3: "oiw", 4: "oihw", 5: "oidhw"}[len(w)]
    shapes = [("N", *x[1:]), w, *([w[:1]] if bias else [])]
    agree(one_op("conv", shapes, attributes, {1: layout, 2: ""}))


def test_epilogues() -> None:
    b = Builder("case")
    x = b.input("x", activation(("N", 3, 6, 5)))
    w, bias, scale = (
        b.param("w", TensorType("f32", (4, 3, 3, 3), "oihw")),
        b.param("b", TensorType("f32", (4,))),
        b.param("s", TensorType("f32", (4,))),
    )
    y = b.add("conv", [x, w, bias, scale], {"epilogue": "where(y < 0, a0 * y, y)"}, "conv1")
    f = b.add("linear", [b.add("flatten", [y]), b.param("v", TensorType("f32", (2, 48)))], {"epilogue": "tanh(y)"})
    agree(b.finish([("y", y), ("f", f)]))


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias: bool) -> None:
    agree(one_op("linear", [("N", 7), (3, 7), *([(3,)] if bias else [])], {}, {1: "", 2: ""}))


WINDOWS = [
    {"kernel": [2, 2], "stride": [2, 2]},
    {"kernel": [3, 3], "stride": [2, 2], "padding": [1, 1]},
    {"kernel": [3, 2], "stride": [2, 3], "padding": [1, 0], "ceil_mode": True},
    {"kernel": [2, 2], "stride": [2, 2], "ceil_mode": True},
    {"kernel": [3, 3], "stride": [3, 3], "padding": [1, 1], "ceil_mode": True},
    {"kernel": [5, 4], "stride": [1, 2], "padding": [[2, 1], [0, 2]]},
    {"kernel": [2, 2], "stride": [5, 5], "ceil_mode": True},
]


@pytest.mark.parametrize("attributes", WINDOWS)
@pytest.mark.parametrize("op", ["maxpool", "avgpool", "uncounted"])
def test_pooling(op: str, attributes: dict[str, Any]) -> None:
    more = {"count_include_pad": False} if op == "uncounted" else {}
    agree(one_op(op.replace("uncounted", "avgpool"), [("N", 3, 9, 8)], {**attributes, **more}))


@pytest.mark.parametrize("shape", [("N", 3, 11), ("N", 3, 7, 6, 5)])
@pytest.mark.parametrize("op", ["maxpool", "avgpool", "global_avgpool"])
def test_pooling_in_one_and_three_dimensions(op: str, shape: Any) -> None:
    rank = len(shape) - 2
    window = {} if op == "global_avgpool" else {"kernel": [3] * rank, "stride": [2] * rank, "ceil_mode": True}
    agree(one_op(op, [shape], window))


@pytest.mark.parametrize("padding", [0, 2, 3])
def test_dilated_pooling(padding: int) -> None:
    agree(one_op("maxpool", [("N", 2, 11, 9)], {"kernel": [3, 3], "dilation": [3, 3], "padding": [padding] * 2}))


@pytest.mark.parametrize("shape", [("N", 6), ("N", 6, 5), ("N", 6, 5, 4), ("N", 6, 3, 2, 2)])
def test_batchnorm(shape: Any) -> None:
    agree(one_op("batchnorm", [shape, (6,), (6,), (6,), (6,)], {"eps": 1e-3}, dict.fromkeys(range(1, 5), "")))


@pytest.mark.parametrize("shape", [("N", 6, 5), ("N", 6, 5, 4), ("N", 6, 3, 2, 2)])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_lrn(shape: Any, size: int) -> None:
    agree(one_op("lrn", [shape], {"size": size, "alpha": 0.3, "beta": 0.6, "k": 1.5}))


SHAPES = [
    ("flatten", ("N", 3, 4, 5), {}),
    ("flatten", ("N", 3, 4, 5), {"start": 2}),
    ("reshape", ("N", 6, 4), {"shape": ("N", 2, 12)}),
    ("reshape", ("N", 6, 4), {"shape": (1, 24, "N")}),
    ("slice", ("N", 6, 4), {"axis": 1, "start": 2, "size": 3}),
    ("slice", ("N", 6, 4), {"axis": -1, "start": 0, "size": 2}),
    ("slice", ("N", 6, 9, 4), {"axis": (1, -2), "start": (2, 1), "size": (3, 3), "step": (1, 3)}),
    ("gather", ("N", 6, 4), {"axis": -1, "indices": (3, 0, -2, 0)}),
    ("flip", ("N", 6, 4, 3), {"axis": (1, 3)}),
    ("repeat", ("N", 2, 3), {"repeats": (1, 3, 2)}),
    ("channel_shuffle", ("N", 6, 4, 3), {"groups": 3}),
    ("channel_shuffle", ("N", 6), {"groups": 2}),
    ("transpose", ("N", 2, 3, 4), {"axes": (0, 2, -1, 1)}),
    ("pixel_shuffle", ("N", 8, 3, 2), {"factor": 2}),
    ("pixel_shuffle", ("N", 8, 1, 2, 1), {"factor": 2}),
    ("pixel_unshuffle", ("N", 2, 6, 3), {"factor": 3}),
    ("pixel_unshuffle", ("N", 2, 6), {"factor": 3}),
    ("pad", ("N", 2, 3), {"padding": ((2, 1),), "value": 7.0}),
    *(("pad", ("N", 2, 4, 5), {"padding": ((2, 1), (1, 0)), "mode": m}) for m in ("reflect", "replicate", "circular")),
    *(
        ("pad", ("N", 2, 4, 5), {"padding": ((2, -1), (-1, 0)), "mode": m})
        for m in ("constant", "reflect", "replicate")
    ),
    ("sum", ("N", 6, 4), {"axis": 1}),
    ("sum", ("N", 6, 4), {"axis": (0, 2), "keepdim": True}),
    ("mean", ("N", 6, 4, 3), {"axis": (2, 3)}),
    ("mean", ("N", 6, 4, 3), {"axis": (-1, 1), "keepdim": True}),
    ("mean", ("N", 6), {"axis": (0, 1)}),
    ("softmax", ("N", 6), {}),
    ("softmax", ("N", 6, 4), {"axis": -1}),
    ("dropout", ("N", 6), {"p": 0.3}),
    ("batch_size", ("N", 6), {}),
    ("to_layout", ("N", 6, 4, 3), {"layout": "nchw"}),
]


@pytest.mark.parametrize(("op", "shape", "attributes"), SHAPES)
def test_shapes_and_sums(op: str, shape: Any, attributes: dict[str, Any]) -> None:
    agree(one_op(op, [shape], attributes))


def test_concat() -> None:
    agree(one_op("concat", [("N", 3, 4), ("N", 1, 4), ("N", 2, 4)], {}))
    agree(one_op("concat", [("N", 3, 4), ("N", 3, 1)], {"axis": -1}))


@pytest.mark.parametrize("shape", [("N", 4), ("N", 4, 3), ("N", 4, 3, 2)])
def test_expand(shape: Any) -> None:
    b = Builder("case")
    b.input("x", activation(("N", 7)))
    v, n = b.param("v", TensorType("f32", (4,))), b.add("constant", [], {"value": 2.5})
    agree(b.finish([("y", b.add("expand", [v], {"shape": shape})), ("z", b.add("expand", [n], {"shape": shape}))]))


def test_outputs_that_are_leaves_constants_or_leave_twice() -> None:
    b = Builder("case")
    x, v = b.input("x", activation(("N", 4))), b.param("v", TensorType("f32", (4,)))
    y = b.add("relu", [x], {}, "y")
    one = b.add("constant", [], {"value": 1.0}, "one")
    agree(b.finish([("a", y), ("b", y), ("x", x), ("v", v), ("c", one)]))
    z = b.add("tanh", [y], {}, "z")
    agree(b.finish([("z", y), ("y", z)]))  # each goes by the other's name


def test_dropout_of_training_is_refused() -> None:
    b = Builder("case")
    x, seed = b.input("x", activation(("N", 4))), b.input("seed", TensorType("i64", (2,)))
    with pytest.raises(CnncError, match="E0651"):
        ours.model(b.finish([("y", b.add("dropout", [x, seed]))]), {})


def test_op_without_a_form_is_refused() -> None:
    graph = one_op("count", [("N", 4, 3)], {})
    with pytest.raises(CnncError, match="'count' cannot be exported") as caught:
        ours.model(graph, {})
    assert caught.value.diagnostics[0].code == "E0651"


def test_weights_beyond_a_file_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "LARGEST", 64)
    with pytest.raises(CnncError, match="E0652"):
        ours.model(one_op("linear", [("N", 7), (3, 7)], {}, {1: ""}), {"w1": np.zeros((3, 7), np.float32)})


def test_mixed_network() -> None:
    agree(cnnc.parse(MIXED).graph)


def test_fixed_batch() -> None:
    graph = cnnc.parse(MIXED).graph
    agree(graph, 2, fixed=2)
    net = cnnc.parse(MIXED)
    assert ours.model(graph, net.weights).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    assert ours.model(graph, net.weights, 5).graph.input[0].type.tensor_type.shape.dim[0].dim_value == 5


@pytest.mark.parametrize("seed", range(30))
def test_random_networks(seed: int) -> None:
    agree(random_network(seed), 2)


@pytest.mark.slow
@pytest.mark.parametrize(("file", "parameters"), ALL_EXAMPLES)
def test_examples(file: str, parameters: dict[str, Any]) -> None:
    """Against what we compile: the reference takes minutes for the large ones."""
    runtime = pytest.importorskip("onnxruntime")
    net = cnnc.load(EXAMPLES / file, **parameters)
    content = ours.model(net.graph, net.weights).SerializeToString()
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal(net.graph.inputs[0].type.concrete(2)).astype(np.float32)
    (found,) = session.run(None, {net.graph.inputs[0].name: x})
    expected = cnnc.compile(net)(x)
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_class_names_go_along() -> None:
    graph = cnnc.parse("model m { input x: f32[N, 4] return x -> relu }").graph
    made = ours.model(graph, {}, classes=("cat", "naïve"))
    assert {p.key: json.loads(p.value) for p in made.metadata_props} == {"cnnc.classes": ["cat", "naïve"]}
    assert not ours.model(graph, {}).metadata_props
