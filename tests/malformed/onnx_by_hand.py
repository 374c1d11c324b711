"""ONNX models by hand: that ask for more than there is, and whose tensors lie outside of the model's folder."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[import-untyped]

H, FLOAT, INT64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
SECRET = 1234.5  # what lies where nobody may read


def model_of(
    nodes: list[Any], tensors: list[Any] | None = None, x: Any = (1, 3, 4, 4), functions: Any = (), **more: Any
) -> Any:
    ends = [H.make_tensor_value_info("x", FLOAT, x)], [H.make_tensor_value_info("y", FLOAT, None)]
    graph = H.make_graph(nodes, "net", *ends, tensors or [], **more)
    return H.make_model(graph, opset_imports=[H.make_opsetid("", 17), H.make_opsetid("own", 1)], functions=functions)


def constant(name: str, values: Any, kind: Any = np.int64) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(values, kind), name)


def node_of(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    return H.make_node(op, inputs.split(), outputs.split(), **attributes)


def _chain(count: int, op: str, inputs: str, begin: str, tensors: list[Any], **attributes: Any) -> bytes:
    """v1 = op(v0), v2 = op(v1), ...; `{}` in the operands is the value before."""
    nodes = [
        node_of(op, inputs.format(*[begin if k == 0 else f"v{k}"] * 2), f"v{k + 1}", **attributes) for k in range(count)
    ]
    data: bytes = model_of([*nodes, node_of("Add", f"x v{count}")], tensors).SerializeToString()
    return data


def _folded(op: str, values: dict[str, Any], more: str = "", **attributes: Any) -> bytes:
    """An operator on constants alone, and its result added to the input."""
    tensors = [constant(k, v, np.asarray(v).dtype) for k, v in values.items()]
    names = more or " ".join(values)
    operands = [n if n != "_" else "" for n in names.split()]
    data: bytes = model_of(
        [H.make_node(op, operands, ["c"], **attributes), node_of("Add", "x c")], tensors
    ).SerializeToString()
    return data


def _deep(count: int, kind: str) -> bytes:
    """Graphs in attributes of graphs in attributes, by their bytes."""
    inside = H.make_graph([node_of("Relu", "x")], "g", [], []).SerializeToString()
    for _ in range(count):
        a = b"\x0a\x01b" + b"\x32" + _VarintBytes(len(inside)) + inside + b"\xa0\x01\x05"
        node = b"\x22" + _VarintBytes(len(kind)) + kind.encode() + b"\x2a" + _VarintBytes(len(a)) + a
        inside = b"\x0a" + _VarintBytes(len(node)) + node
    return b"\x08\x08\x3a" + _VarintBytes(len(inside)) + inside + b"\x42\x02\x10\x11"


def _laughs(count: int, times: int) -> bytes:
    """Functions that call the one before several times each."""
    opsets = [H.make_opsetid("", 17), H.make_opsetid("own", 1)]
    made = [H.make_function("own", "f0", ["a"], ["b"], [node_of("Relu", "a", "b")], opsets)]
    for k in range(1, count):
        names = ["a", *(f"t{j}" for j in range(times - 1)), "b"]
        nodes = [H.make_node(f"f{k - 1}", [p], [q], domain="own") for p, q in itertools.pairwise(names)]
        made.append(H.make_function("own", f"f{k}", ["a"], ["b"], nodes, opsets))
    node = H.make_node(f"f{count - 1}", ["x"], ["y"], domain="own")
    data: bytes = model_of([node], functions=made).SerializeToString()
    return data


def _loop_of_functions() -> bytes:
    opsets = [H.make_opsetid("", 17), H.make_opsetid("own", 1)]
    made = [
        H.make_function("own", f"f{k}", ["a"], ["b"], [H.make_node(f"f{1 - k}", ["a"], ["b"], domain="own")], opsets)
        for k in (0, 1)
    ]
    data: bytes = model_of([H.make_node("f0", ["x"], ["y"], domain="own")], functions=made).SerializeToString()
    return data


def _wide(count: int, what: str) -> bytes:
    if what == "nodes":
        return bytes(model_of([node_of("Relu", "x", f"v{k}") for k in range(count)]).SerializeToString())
    if what == "chain":
        return _chain(count, "Relu", "{}", "x", [])
    if what == "operands":
        return bytes(model_of([H.make_node("Concat", ["x"] * count, ["y"], axis=1)]).SerializeToString())
    if what == "outputs":
        return bytes(
            model_of([H.make_node("Split", ["x"], [f"y{k}" for k in range(count)], axis=0)]).SerializeToString()
        )
    return bytes(
        model_of(
            [node_of("Relu", "x")], [constant(f"w{k}", [1.0], np.float32) for k in range(count)]
        ).SerializeToString()
    )


def _sized(op: str, x: Any, inputs: str = "x", tensors: list[Any] | None = None, **attributes: Any) -> bytes:
    return bytes(model_of([H.make_node(op, ["" if n == "_" else n for n in inputs.split()], ["y"], **attributes)], tensors, x)
                 .SerializeToString())  # fmt: skip


def _sparse(dims: list[int]) -> bytes:
    values = H.make_tensor("w", FLOAT, [1], [1.0])
    sparse = H.make_sparse_tensor(values, constant("i", [0]), dims)
    return bytes(model_of([node_of("Add", "x w")], sparse_initializer=[sparse]).SerializeToString())


G = 1 << 28
big = (1 << 31) - 1
BOMBS: dict[str, Callable[[], bytes]] = {
    "constant": lambda: _folded("ConstantOfShape", {"s": [G]}),
    "constant, twice": lambda: _folded("ConstantOfShape", {"s": [1 << 40, 0, 1 << 40]}),
    "expand": lambda: _folded("Expand", {"a": [1.0], "s": [1 << 14, 1 << 14]}),
    "expand, then used": lambda: _chain(3, "Add", "{} {}", "w", [constant("w", np.ones((1, 1)))]),
    "tile": lambda: _folded("Tile", {"a": [1.0, 2.0], "s": [G // 2]}),
    "range": lambda: _folded("Range", {"a": 0, "b": G, "c": 1}),
    "range of floats": lambda: _folded("Range", {"a": 0.0, "b": 1e30, "c": 1e-30}),
    "gather": lambda: _folded("Gather", {"a": np.zeros((1, 1 << 16)), "i": np.zeros(1 << 13, np.int64)}),
    "outer": lambda: _folded("Mul", {"a": np.ones((1 << 15, 1)), "b": np.ones((1, 1 << 15))}),
    "outer and": lambda: _folded("Equal", {"a": np.ones((1 << 15, 1)), "b": np.ones((1, 1 << 15))}),
    "where": lambda: _folded("Where", {"c": np.ones((1 << 14, 1, 1), bool), "a": np.ones((1, 64, 1)), "b": np.ones((1, 1, 512))}),
    "product": lambda: _folded("MatMul", {"a": np.ones((1 << 14, 1)), "b": np.ones((1, 1 << 14))}),
    "doubling": lambda: _chain(60, "Concat", "{} {}", "w", [constant("w", [1.0], np.float32)], axis=0),
    "doubling of the input": lambda: _chain(60, "Concat", "{} {}", "x", [], axis=1),
    "tripling": lambda: _chain(30, "Tile", "{} t", "w", [constant("w", np.ones((4, 4))), constant("t", [2, 2])]),
    "tiles of the input": lambda: _chain(20, "Tile", "{} t", "x", [constant("t", [1, 9, 9, 9])]),
    "many constants": lambda: _chain(400, "Mul", "w w", "w", [constant("w", np.ones((1 << 18,)))]),
    "squares": lambda: _chain(64, "Mul", "{} {}", "w", [constant("w", [3])]),
    "names": lambda: _chain(20_000, "Identity", "{}", "x", []),
    "reference": lambda: _chain(50, "CumSum", "{} a", "w", [constant("w", np.ones(1 << 19)), constant("a", 0)]),
    "convolution of constants": lambda: _folded(
        "Conv", {"a": np.ones((1, 8, 300, 300), np.float32), "w": np.ones((8, 8, 9, 9), np.float32)}
    ),
    "transposed": lambda: _folded(
        "ConvTranspose", {"a": np.ones((1, 1, 9, 9), np.float32), "w": np.ones((1, 1, 3, 3), np.float32)}, strides=[big, big]
    ),
    "one hot": lambda: _folded("OneHot", {"i": [0], "d": [1 << 30], "v": [0.0, 1.0]}),
    "resize": lambda: _folded("Resize", {"a": np.ones((1, 1, 2, 2)), "s": [1, 1, big, big]}, "a _ _ s"),
    "pad": lambda: _folded("Pad", {"a": np.ones((1, 1)), "p": [0, 0, big, big]}),
    "giant input": lambda: _sized("Relu", (1, 3, big, big)),
    "giant batch": lambda: _sized("Relu", (big, 3, 4, 4)),
    "many axes": lambda: _sized("Relu", (1,) * 5000),
    "resize of the input": lambda: _sized("Resize", (1, 3, 9, 9), "x _ _ s", [constant("s", [1, 3, big, big])]),
    "scales": lambda: _sized("Resize", (1, 3, 9, 9), "x _ s", [constant("s", [1, 1, 1e9, 1e9], np.float32)]),
    "no scales": lambda: _sized("Resize", (1, 3, 9, 9), "x _ s", [constant("s", [1, 1, float("nan"), 0], np.float32)]),
    "pads of the input": lambda: _sized("Pad", (1, 3, 9, 9), "x p", [constant("p", [0, 0, 1 << 30, 0, 0, 0, 0, 1 << 30])]),
    "expanded input": lambda: _sized("Expand", (1, 1, 1, 1), "x s", [constant("s", [1, 1 << 20, 1 << 20, 1 << 20])]),
    "strange convolution": lambda: _sized(
        "Conv", (1, 3, 9, 9), "x w", [constant("w", np.ones((1, 3, 1, 1)), np.float32)], pads=[big] * 4, dilations=[big] * 2
    ),
    "pool": lambda: _sized("MaxPool", (1, 3, 9, 9), kernel_shape=[big, big], pads=[1 << 30] * 4),
    "average": lambda: _sized("AveragePool", (1, 3, 9, 9), kernel_shape=[3, 3], pads=[1 << 20] * 4),
    "cut": lambda: _sized("Slice", (1, 3, 1 << 30, 9), "x a b c d", [
        constant("a", [-1]), constant("b", [-(1 << 62)]), constant("c", [2]), constant("d", [-1])]),
    "gathered": lambda: _sized("Gather", (1, 3, 9, 9), "x i", [constant("i", np.zeros((1 << 21,), np.int64) + 2)], axis=1),
    "triangle": lambda: _sized("Trilu", (1, 1, 1 << 16, 1 << 16)),
    "hardmax": lambda: _sized("Hardmax", (1, 1, 1, 1 << 30)),
    "split": lambda: _sized("Split", (1, 1 << 24), axis=1, num_outputs=1 << 24),
    "mean and variance": lambda: _sized("MeanVarianceNormalization", (1, 3, 1 << 20, 1 << 20)),
    "lrn": lambda: _sized("LRN", (1, 3, 9, 9), size=big),
    "nested graphs": lambda: _deep(90, "If"),
    "deeply nested graphs": lambda: _deep(3000, "Loop"),
    "functions": lambda: _laughs(30, 2),
    "functions, wide": lambda: _laughs(6, 20),
    "functions that call each other": _loop_of_functions,
    "many nodes": lambda: _wide(14_500, "nodes"),
    "long chain": lambda: _wide(14_500, "chain"),
    "many operands": lambda: _wide(50_000, "operands"),
    "many outputs": lambda: _wide(20_000, "outputs"),
    "many tensors": lambda: _wide(30_000, "tensors"),
    "sparse": lambda: _sparse([1 << 20, 1 << 20]),
    "attribute of many": lambda: _sized("Reshape", (1, 3, 4, 4), shape=[1] * 300_000),
    "long name": lambda: bytes(model_of([H.make_node("Relu", ["x"], ["y"], name="n/" * 500_000)]).SerializeToString()),
    "texts": lambda: _folded("Equal", {"a": np.array(["b"] * 1000, object), "c": np.array(["d"], object)}),
    "a loop": lambda: _folded("Loop", {"n": 1 << 40, "c": np.array(True)}, body=H.make_graph(
        [node_of("Identity", "c0", "c1")], "b", [H.make_tensor_value_info("i", INT64, []), H.make_tensor_value_info("c0", 9, [])],
        [H.make_tensor_value_info("c1", 9, [])])),
}  # fmt: skip


PLACES = (
    "inside",
    "above",
    "absolute",
    "link",
    "hard link",
    "folder link",
    "device",
    "pipe",
    "folder",
    "missing",
    "beyond",
)
PLACES += ("overflow", "negative", "strange", "model itself", "empty")


def outside(place: str, folder: Path) -> Path:
    """A model below a folder with a tensor in another file: in the model's own folder, or where nobody may read."""
    home = folder / "model"
    home.mkdir()
    secret = np.full(4, SECRET, np.float32).tobytes()
    (folder / "secret.bin").write_bytes(secret)
    if place in ("inside", "beyond", "overflow", "negative", "strange"):
        (home / "w.bin").write_bytes(np.ones(4, np.float32).tobytes())
    elif place == "link":
        (home / "w.bin").symlink_to(folder / "secret.bin")
    elif place == "hard link":
        os.link(folder / "secret.bin", home / "w.bin")
    elif place == "folder link":
        (home / "w").symlink_to(folder)
    elif place == "pipe":
        os.mkfifo(home / "w.bin")
    elif place == "folder":
        (home / "w.bin").mkdir()
    locations = {"above": "../secret.bin", "absolute": str(folder / "secret.bin"), "folder link": "w/secret.bin"}
    locations |= {"device": "/dev/zero", "model itself": "net.onnx", "empty": "", "strange": "./w.bin\0"}
    w = onnx.TensorProto(name="w", data_type=FLOAT, dims=[1, 1, 1, 4], data_location=onnx.TensorProto.EXTERNAL)
    w.external_data.add(key="location", value=locations.get(place, "w.bin"))
    offsets = {"beyond": "8", "overflow": str(1 << 63), "negative": "-16"}
    w.external_data.add(key="offset", value=offsets.get(place, "0"))
    path = home / "net.onnx"
    path.write_bytes(model_of([node_of("Add", "x w")], [w]).SerializeToString())
    return path
