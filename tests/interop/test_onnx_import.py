"""ONNX models as networks of ours."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")

import cnnc  # noqa: E402
from cnnc.cli.import_ import meaning  # noqa: E402
from cnnc.interop.onnx import model as exported  # noqa: E402
from cnnc.interop.onnx_import import known  # noqa: E402
from cnnc.interop.onnx_import.activations import named  # noqa: E402
from cnnc.interop.onnx_import.calls import Call  # noqa: E402
from cnnc.interop.onnx_import.importer import label_of  # noqa: E402
from cnnc.passes.eliminate_dead import EliminateDead  # noqa: E402
from cnnc.untrusted import Malformed  # noqa: E402
from tests.cli.conftest import ROOT  # noqa: E402

RNG = np.random.default_rng(0)
H = onnx.helper
FLOAT = onnx.TensorProto.FLOAT


def saved(
    path: Path, nodes: list[Any], x: tuple[Any, ...], constants: dict[str, Any] | None = None, opset: int = 17
) -> Path:
    """A model from `x` to `y`."""
    tensors = [onnx.numpy_helper.from_array(np.asarray(a), k) for k, a in (constants or {}).items()]
    ends = [H.make_tensor_value_info("x", FLOAT, x)], [H.make_tensor_value_info("y", FLOAT, None)]
    graph = H.make_graph(nodes, "net", *ends, tensors)
    path.write_bytes(H.make_model(graph, opset_imports=[H.make_opsetid("", opset)], ir_version=8).SerializeToString())
    return path


@pytest.fixture
def net(tmp_path: Path) -> Callable[..., cnnc.Network]:
    def load(nodes: list[Any], x: tuple[Any, ...], constants: Any = None, opset: int = 17, **more: Any) -> cnnc.Network:
        return cnnc.load(saved(tmp_path / "net.onnx", nodes, x, constants, opset), **more)

    return load


def run(network: cnnc.Network, x: Any) -> Any:
    return cnnc.compile(network, target="reference")(np.asarray(x, np.float32))


@pytest.mark.parametrize("example", ["lenet5", "lenet5_relu", "small", "mobilenetv2"])
def test_out_and_in_again(example: str, tmp_path: Path) -> None:
    before = cnnc.load(ROOT / "examples" / f"{example}.cnn")
    (tmp_path / "net.onnx").write_bytes(exported(before.graph, before.weights).SerializeToString())
    after = cnnc.load(tmp_path / "net.onnx")
    assert list(after.weights) == list(before.weights)
    kept = [n for n in before.graph.nodes if n.op != "dropout"]
    assert [(n.op, n.name, n.attributes) for n in after.graph.nodes] == [(n.op, n.name, n.attributes) for n in kept]
    assert all(np.array_equal(after.weights[k], v) for k, v in before.weights.items())


def test_sizes_are_calculated_and_the_batch_stays_open(net: Callable[..., cnnc.Network]) -> None:
    """What exporters write for x.view(x.size(0), -1, 2)."""
    nodes = [
        H.make_node("Shape", ["x"], ["shape"]),
        H.make_node("Gather", ["shape", "zero"], ["n"], axis=0),
        H.make_node("Unsqueeze", ["n", "axis"], ["n1"]),
        H.make_node("Concat", ["n1", "rest"], ["target"], axis=0),
        H.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = {"zero": np.int64(0), "axis": np.array([0]), "rest": np.array([-1, 2])}
    network = net(nodes, ("batch", 3, 4), constants)
    x = np.arange(24.0).reshape(2, 3, 4)
    assert network.graph.type(network.graph.outputs[0][1]).shape == ("N", 6, 2)
    assert np.array_equal(run(network, x), x.reshape(2, 6, 2))


def test_the_batch_is_opened_where_that_changes_nothing(net: Callable[..., cnnc.Network]) -> None:
    relu = [H.make_node("Relu", ["x"], ["y"])]
    assert net(relu, (1, 2)).graph.inputs[0].type.shape == ("N", 2)
    fixed = [H.make_node("Reshape", ["x", "s"], ["y"])]
    assert net(fixed, (1, 2), {"s": np.array([2])}).graph.inputs[0].type.shape == (1, 2)
    assert net(relu, (1, 2), shapes={"x": (1, 2)}).graph.inputs[0].type.shape == (1, 2)


def test_broadcasting_counts_from_the_last_axis(net: Callable[..., cnnc.Network]) -> None:
    row, channels = RNG.standard_normal(4), RNG.standard_normal((3, 1, 1))
    nodes = [H.make_node("Add", ["x", "row"], ["a"]), H.make_node("Mul", ["channels", "a"], ["y"])]
    network = net(nodes, ("n", 3, 2, 4), {"row": row.astype(np.float32), "channels": channels.astype(np.float32)})
    x = RNG.standard_normal((2, 3, 2, 4)).astype(np.float32)
    assert np.allclose(run(network, x), (x + row) * channels, atol=1e-6)
    assert network.weights["channels"].shape == (3,)


@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(net: Callable[..., cnnc.Network], transposed: int) -> None:
    w, c = RNG.standard_normal((5, 4)).astype(np.float32), RNG.standard_normal(5).astype(np.float32)
    node = H.make_node("Gemm", ["x", "fc.weight", "fc.bias"], ["y"], alpha=0.5, beta=2.0, transB=transposed)
    network = net([node], ("n", 4), {"fc.weight": w if transposed else w.T, "fc.bias": c})
    x = RNG.standard_normal((3, 4)).astype(np.float32)
    assert np.allclose(run(network, x), 0.5 * x @ w.T + 2 * c, atol=1e-5)
    assert list(network.weights) == ["fc.weight", "fc.bias"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x * sigmoid(x)", "silu"),
        ("x / (1 + exp(-x))", "silu"),
        ("x * clamp(x + 3, min=0, max=6) / 6", "hardswish"),
        ("0.5 * x * (1 + erf(x / 1.4142135623730951))", "gelu"),
        ("x * tanh(softplus(x))", "mish"),
        ("x * sigmoid(x) * 1.001", None),
        ("x * sigmoid(2 * x)", None),
    ],
)
def test_activations_that_are_spelled_out(text: str, expected: str | None) -> None:
    graph = EliminateDead().apply(named(cnnc.parse(f"model m {{ input x: f32[N, 3] return {text} }}").graph))
    ops = [n.op for n in graph.nodes if n.op not in ("input", "constant")]
    assert (ops == [expected]) == (expected is not None), ops
    both = cnnc.parse("model m { input x: f32[N, 3] y = sigmoid(x) return {a: x * y, b: y} }").graph
    assert named(both) == both  # what is read elsewhere stays


@pytest.mark.parametrize("axes", ["[1, 2, 3]", "3", "1"])
def test_layer_norms_that_are_spelled_out(axes: str, tmp_path: Path) -> None:
    before = cnnc.parse(f"model m {{ input x: f32[N, 3, 4, 5] return x -> layernorm(axes={axes}, eps=1e-6) as norm }}")
    (tmp_path / "net.onnx").write_bytes(exported(before.graph, before.weights).SerializeToString())
    after = cnnc.load(tmp_path / "net.onnx")
    assert meaning(after.graph) == meaning(before.graph)
    assert {k: v.shape for k, v in after.weights.items()} == {k: v.shape for k, v in before.weights.items()}


def test_names_are_modules() -> None:
    call = Call("Conv", ("x", "onnx::Conv_12"), ("y",), {}, "/layer1/layer1.0/conv1/Conv")
    assert label_of(call) == "layer1.0.conv1"
    assert label_of(Call("Relu", ("x",), ("relu_3",))) == "relu_3"


def test_open_sizes(net: Callable[..., cnnc.Network]) -> None:
    w = RNG.standard_normal((2, 3, 3, 3)).astype(np.float32)
    network = net([H.make_node("Conv", ["x", "c.weight"], ["y"])], (1, 3, "height", "?"), {"c.weight": w})
    exe = cnnc.compile(network, target="reference")
    assert network.open_sizes == ("height", "x_3")
    assert exe(np.zeros((1, 3, 5, 6), np.float32)).shape == (1, 2, 3, 4)
    assert exe(np.zeros((2, 3, 9, 3), np.float32)).shape == (2, 2, 7, 1)
    assert list(network.weights) == ["c.weight"]


ERRORS: dict[str, tuple[list[Any], str]] = {
    "unknown": (
        [H.make_node("Det", ["x"], ["a"]), H.make_node("Einsum", ["a"], ["b"]), H.make_node("Det", ["b"], ["y"])],
        r"E0653.*2 operators.*Det, 2 times: a, y.*Einsum, 1 times",
    ),
    "another domain": ([H.make_node("Relu", ["x"], ["y"], domain="com.other")], r"E0653.*com.other.Relu"),
    "shape": ([H.make_node("Reshape", ["x", "x"], ["y"])], r"E0653.*Reshape 'y'.*depends on the input"),
    "use before": ([H.make_node("Relu", ["b"], ["y"])], r"E0653.*'b' is used before it is made"),
    "no output": ([H.make_node("Relu", ["x"], ["b"])], r"E0654.*'y' is made by no node"),
    "training": (
        [H.make_node("Dropout", ["x", "", "t"], ["y"])],
        r"E0653.*training mode.*model.eval",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_is_not_read(net: Callable[..., cnnc.Network], case: str) -> None:
    nodes, message = ERRORS[case]
    with pytest.raises(cnnc.CnncError, match=f"(?s){message}"):
        net(nodes, ("n", 2, 4, 4), {"t": np.array(True)})


@pytest.mark.parametrize("content", [b"", b"\x08\x07", b"\x08\x07\x12\x04abcd", b"\x08\x07:\x02\x0a\x05"])
def test_damaged(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.onnx").write_bytes(content)
    with pytest.raises(cnnc.CnncError, match=r"E0654|E0604"):
        cnnc.load(tmp_path / "net.onnx")


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    path = saved(tmp_path / "net.onnx", [H.make_node("Relu", ["x"], ["y"])], ("n", 2, "h"))
    for given in ({"z": (1, 2, 3)}, {"x": (1, 2)}, {"x": (1, 3, 4)}, {"x": (1, 2, 0)}):
        with pytest.raises(cnnc.CnncError, match="E0655"):
            cnnc.load(path, shapes=given)
    with pytest.raises(cnnc.CnncError, match=r"E0655.*no parameter 'depth'"):
        cnnc.load(path, depth=18)


@pytest.mark.parametrize("place", ["inside", "above", "absolute", "link", "hard link", "beyond", "missing"])
def test_tensors_outside_of_the_file(tmp_path: Path, place: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    (folder / "w.bin").write_bytes(np.arange(4, dtype=np.float32).tobytes())
    location = {"above": "../secret.bin", "absolute": str(tmp_path / "secret.bin"), "missing": "no.bin"}.get(
        place, "w.bin"
    )
    if place in ("link", "hard link"):
        (folder / "w.bin").unlink()
        (os.symlink if place == "link" else os.link)(tmp_path / "secret.bin", folder / "w.bin")
    w = onnx.TensorProto(name="fc.weight", data_type=FLOAT, dims=[2, 2], data_location=onnx.TensorProto.EXTERNAL)
    w.external_data.add(key="location", value=location)
    w.external_data.add(key="offset", value="8" if place == "beyond" else "0")
    ends = [H.make_tensor_value_info("x", FLOAT, ("n", 2))], [H.make_tensor_value_info("y", FLOAT, None)]
    graph = H.make_graph([H.make_node("Gemm", ["x", "fc.weight"], ["y"], transB=1)], "net", *ends, [w])
    path = folder / "net.onnx"
    path.write_bytes(H.make_model(graph, opset_imports=[H.make_opsetid("", 17)]).SerializeToString())
    with pytest.raises(cnnc.CnncError, match=r"E0656.*--external-data|E0656(?s:.*)--external-data"):
        cnnc.load(path)
    if place == "inside":
        assert cnnc.load(path, external_data=True).weights["fc.weight"].tolist() == [[0, 1], [2, 3]]
        return
    with pytest.raises(cnnc.CnncError, match=r"E0656|E0654"):
        cnnc.load(path, external_data=True)


def test_the_open_batch_is_calculated_with() -> None:
    n = known.of_shape(("N", 3, 4))
    assert known.dims(known.fold("Concat", [n[:1], np.array([12])], {"axis": 0})) == ("N", 12)
    twice = known.fold("Mul", [n[:1], np.array([2])], {})
    assert known.dims(known.fold("Div", [twice, np.array([2])], {})) == ("N",)
    assert known.fold("Div", [twice, n[:1]], {}).tolist() == [2]
    assert known.fold("Equal", [n[:1], np.array([-1])], {}).tolist() == [False]
    for operator, other in (("Add", 1), ("Mul", 0.5), ("Div", 3)):
        with pytest.raises(Malformed, match="open"):
            known.fold(operator, [n[:1], np.array([other])], {})
    with pytest.raises(Malformed, match="open"):
        known.dims(twice)


def test_constants_are_bounded() -> None:
    with pytest.raises(Malformed, match="numbers are calculated"):
        known.fold("ConstantOfShape", [np.array([1 << 20, 1 << 20])], {})
    with pytest.raises(Malformed, match="numbers are calculated"):
        known.fold("Expand", [np.zeros(1), np.array([1 << 40])], {})


def test_as_a_backend_of_onnx() -> None:
    from cnnc.onnx_backend import CnncBackend

    node = H.make_node("Relu", ["x"], ["y"])
    ends = [H.make_tensor_value_info("x", FLOAT, (2, 3))], [H.make_tensor_value_info("y", FLOAT, (2, 3))]
    model = H.make_model(H.make_graph([node], "net", *ends), opset_imports=[H.make_opsetid("", 17)])
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    for device in ("CPU", "REFERENCE"):
        assert CnncBackend.supports_device(device)
        assert np.array_equal(CnncBackend.run_model(model, [x], device)[0], np.maximum(x, 0))
    assert not CnncBackend.supports_device("CUDA")
