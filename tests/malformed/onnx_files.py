"""ONNX models: good ones of several networks, a way to forge their fields, files by hand that ask for more than there is, and
tensors that lie outside of the model's folder.
"""

from __future__ import annotations

import functools
import itertools
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[import-untyped]
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[import-untyped]

import cnnc
from cnnc.interop.onnx import model as exported
from tests.malformed.arrays import Format
from tests.malformed.fields import EDGES, damage
from tests.random_networks.reference import Mismatch

H, FLOAT, INT64 = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
SECRET = 1234.5  # what lies where nobody may read
SIZES = (0, -1, 1, 2, 7, 1 << 16, 1 << 24, 1 << 28, (1 << 31) - 1, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
NETWORKS = (
    """model residual() { input image: f32[N, 3, 16, 16]
    a = image -> conv(8, 3, padding=1, bias=false) as c1 -> batchnorm as bn -> relu6
    b = a -> conv(8, 3, padding=1, groups=8) as c2 -> hardswish
    return a + b -> maxpool(2) -> global_avgpool -> flatten -> linear(5) as fc }""",
    """model decoder() { input image: f32[N, 4, 8, 8]
    x = image -> conv(8, 3, stride=2, padding=1) as down -> silu
    y = x -> conv_transpose(4, 2, stride=2) as up
    z = concat([image, y]) -> upsample(2, mode="bilinear") -> pad([[1, 1], [1, 1]], mode="reflect")
    return z -> conv(2, 3) as head -> softmax }""",
    """model mixer() { input image: f32[N, 3, 8, 8]
    x = image -> conv(8, 4, stride=4) as patch -> layernorm(axes=1) as norm -> flatten(start=2) -> transpose([0, 2, 1])
    a, b = x -> linear(16) as up -> gelu -> split(2, axis=2)
    y = a * b -> mean(axis=1) -> prelu as act
    return y -> max(axis=1, keepdim=true) }""",
    "model open() { input image: f32[N, 3, H, W] return image -> conv(4, 3) as c -> leaky_relu -> avgpool(2) }",
)


def _model(
    nodes: list[Any], tensors: list[Any] | None = None, x: Any = (1, 3, 4, 4), functions: Any = (), **more: Any
) -> Any:
    ends = [H.make_tensor_value_info("x", FLOAT, x)], [H.make_tensor_value_info("y", FLOAT, None)]
    graph = H.make_graph(nodes, "net", *ends, tensors or [], **more)
    return H.make_model(graph, opset_imports=[H.make_opsetid("", 17), H.make_opsetid("own", 1)], functions=functions)


def _constant(name: str, values: Any, kind: Any = np.int64) -> Any:
    return onnx.numpy_helper.from_array(np.asarray(values, kind), name)


def _node(op: str, inputs: str, outputs: str = "y", **attributes: Any) -> Any:
    return H.make_node(op, inputs.split(), outputs.split(), **attributes)


@functools.cache
def originals() -> tuple[bytes, ...]:
    """Good models: networks of ours, shape arithmetic as exporters write it, and those that come with onnx."""
    found = []
    for text in NETWORKS:
        net = cnnc.parse(text)
        net = net.at(**dict.fromkeys(net.open_sizes, 12)) if isinstance(net, cnnc.open_sizes.OpenNetwork) else net
        found.append(exported(net.graph, net.weights).SerializeToString())
    shape = [
        _node("Shape", "x", "s"),
        _node("Slice", "s from to", "space"),
        _node("Mul", "space two", "twice"),
        _node("ConstantOfShape", "one", "zero", value=_constant("v", [0])),
        _node("Concat", "zero zero twice", "padded", axis=0),
        _node("Slice", "s zero from", "front"),
        _node("Concat", "front twice", "sizes", axis=0),
        _node("Resize", "x  sizes", "r", mode="linear"),
        _node("Range", "z n z1", "places"),
        _node("Gather", "r places", "g", axis=2),
        _node("Expand", "g e", "wide"),
        _node("Tile", "wide reps", "y"),
    ]
    shape[7] = H.make_node("Resize", ["x", "", "", "sizes"], ["r"], mode="linear")
    tensors = [
        *(
            _constant(n, v)
            for n, v in {
                "from": [2],
                "to": [4],
                "two": [2],
                "one": [1],
                "z": 0,
                "n": 8,
                "z1": 1,
                "e": [1, 1, 1, 1],
                "reps": [1, 2, 1, 1],
            }.items()
        ),
    ]
    found.append(_model(shape, tensors).SerializeToString())
    root = Path(onnx.__file__).parent / "backend" / "test" / "data"
    for kind in ("pytorch-converted", "pytorch-operator", "simple"):
        found += [p.read_bytes() for p in sorted(root.glob(f"{kind}/*/model.onnx"))[:: 3 if kind[0] == "p" else 6]]
    return tuple(found)


# ------------------------------------------------------------------------------------------------ fields of the wire


def fields(data: bytes) -> list[tuple[int, int, int, int]]:
    """(number, wire type, begin, end) of the fields of a message; nothing where it is none."""
    found, at = [], 0
    try:
        while at < len(data):
            begin = at
            tag, at = _DecodeVarint(data, at)
            match tag & 7:
                case 0:
                    _, at = _DecodeVarint(data, at)
                case 1:
                    at += 8
                case 2:
                    length, at = _DecodeVarint(data, at)
                    at += length
                case 5:
                    at += 4
                case _:
                    return []
            if at > len(data) or tag >> 3 == 0:
                return []
            found.append((tag >> 3, tag & 7, begin, at))
    except Exception:
        return []
    return found


def forged_wire(data: bytes, draw: random.Random, deep: int = 0) -> bytes:
    """A message with one field forged, at any depth: another value, gone, twice, elsewhere, of another number or kind."""
    found = fields(data)
    if not found:
        return damage(data, draw) if data else draw.randbytes(4)
    number, wire, begin, end = draw.choice(found)
    own = data[begin:end]
    if wire == 2 and draw.random() < (0.85 if deep < 6 else 0.3):
        _, at = _DecodeVarint(own, 0)
        length, at = _DecodeVarint(own, at)
        inside = forged_wire(own[at : at + length], draw, deep + 1)
        new = own[: at - len(_VarintBytes(length))] + _VarintBytes(len(inside)) + inside
        return data[:begin] + new + data[end:]
    tag = _VarintBytes(number << 3 | wire)
    values = (
        *((tag + _VarintBytes(draw.choice((*SIZES, *EDGES)) % (1 << 64)),) if wire == 0 else ()),
        b"",
        own + own,
        own * 50,
        _VarintBytes(draw.randrange(1, 40) << 3 | wire) + own[len(tag) :],
        _VarintBytes(draw.choice((0, 1, 2, 5)) | number << 3) + own[len(tag) :],
        data[slice(*draw.choice(found)[2:])],
        tag + _VarintBytes(draw.choice((0, 1, 1 << 20, 1 << 31, 1 << 62))) if wire == 2 else draw.randbytes(len(own)),
    )
    return data[:begin] + draw.choice(values) + data[end:]


# ------------------------------------------------------------------------------------------------ meanings


def _graph(f: Callable[[Any, random.Random], None]) -> Callable[[bytes, random.Random], bytes]:
    def forge(data: bytes, draw: random.Random) -> bytes:
        model = onnx.ModelProto()
        model.ParseFromString(data)
        f(model, draw)
        content: bytes = model.SerializeToString()
        return content

    return forge


def _attribute(model: Any, draw: random.Random) -> None:
    node = draw.choice(model.graph.node)
    if not node.attribute or draw.random() < 0.2:
        names = (
            "axis",
            "axes",
            "pads",
            "strides",
            "kernel_shape",
            "group",
            "to",
            "perm",
            "size",
            "blocksize",
            "dilations",
        )
        values: tuple[Any, ...] = (draw.choice(SIZES), [draw.choice(SIZES)] * draw.randrange(1, 5), "x", 0.5)
        node.attribute.append(H.make_attribute(draw.choice(names), draw.choice(values)))
        return
    a = draw.choice(node.attribute)
    if a.ints and draw.random() < 0.7:
        a.ints[draw.randrange(len(a.ints))] = draw.choice(SIZES)
    elif a.type == onnx.AttributeProto.INT and draw.random() < 0.7:
        a.i = draw.choice(SIZES)
    elif draw.random() < 0.3:
        a.f, a.type = draw.choice((float("nan"), float("inf"), -1e38, 1e-45)), onnx.AttributeProto.FLOAT
    else:
        a.type = draw.randrange(16)


def _edges(model: Any, draw: random.Random) -> None:
    """Cycles, values that nobody makes, operands too many or too few."""
    node, other = draw.choice(model.graph.node), draw.choice(model.graph.node)
    names = [*other.output, *other.input, "", "nobody", "x" * 5000]
    if node.input and draw.random() < 0.8:
        node.input[draw.randrange(len(node.input))] = draw.choice(names)
    elif draw.random() < 0.5:
        node.input.extend(draw.choice(names) for _ in range(draw.choice((1, 3, 100))))
    elif node.output:
        node.output[0] = draw.choice(names)


def _operator(model: Any, draw: random.Random) -> None:
    node = draw.choice(model.graph.node)
    known = [n.op_type for n in model.graph.node]
    more = (
        "Loop",
        "If",
        "Conv",
        "Reshape",
        "Concat",
        "Gather",
        "Resize",
        "Range",
        "NonZero",
        "Pad",
        "MatMul",
        "Where",
        "",
    )
    node.op_type = draw.choice((*more, *known))
    node.domain = draw.choice(("", "", "", "ai.onnx", "com.other"))


def _tensor(model: Any, draw: random.Random) -> None:
    if not model.graph.initializer:
        model.opset_import[0].version = draw.choice((-1, 0, 5, 6, 9, 11, 21, 999, 1 << 40))
        return
    t = draw.choice(model.graph.initializer)
    kind = draw.randrange(6)
    if kind == 0:
        t.data_type = draw.randrange(-1, 30)
    elif kind == 1 and t.dims:
        t.dims[draw.randrange(len(t.dims))] = draw.choice(SIZES)
    elif kind == 2:
        t.dims.append(draw.choice(SIZES))
    elif kind == 3:
        t.raw_data = t.raw_data[: draw.randrange(len(t.raw_data) + 1)]
    elif kind == 4:
        t.name = draw.choice(("", "x", "a\0b", "../x", "y" * 9000, t.name + "\u202e"))
    else:
        t.string_data.append(b"text")
        t.data_type = onnx.TensorProto.STRING


def _input(model: Any, draw: random.Random) -> None:
    t = draw.choice(model.graph.input).type
    dims = t.tensor_type.shape.dim
    kind = draw.randrange(5)
    if kind == 0 or not dims:
        dims.add().dim_value = draw.choice(SIZES)
    elif kind <= 2:
        draw.choice(dims).dim_value = draw.choice(SIZES)
    elif kind == 3:
        t.tensor_type.elem_type = draw.randrange(-1, 30)
    else:
        t.sequence_type.elem_type.tensor_type.elem_type = FLOAT


MEANINGS = tuple(map(_graph, (_attribute, _attribute, _edges, _operator, _tensor, _input)))


# ------------------------------------------------------------------------------------------------ by hand


def _chain(count: int, op: str, inputs: str, begin: str, tensors: list[Any], **attributes: Any) -> bytes:
    """v1 = op(v0), v2 = op(v1), ...; `{}` in the operands is the value before."""
    nodes = [
        _node(op, inputs.format(*[begin if k == 0 else f"v{k}"] * 2), f"v{k + 1}", **attributes) for k in range(count)
    ]
    data: bytes = _model([*nodes, _node("Add", f"x v{count}")], tensors).SerializeToString()
    return data


def _folded(op: str, values: dict[str, Any], more: str = "", **attributes: Any) -> bytes:
    """An operator on constants alone, and its result added to the input."""
    tensors = [_constant(k, v, np.asarray(v).dtype) for k, v in values.items()]
    names = more or " ".join(values)
    operands = [n if n != "_" else "" for n in names.split()]
    data: bytes = _model(
        [H.make_node(op, operands, ["c"], **attributes), _node("Add", "x c")], tensors
    ).SerializeToString()
    return data


def _deep(count: int, kind: str) -> bytes:
    """Graphs in attributes of graphs in attributes, by their bytes."""
    inside = H.make_graph([_node("Relu", "x")], "g", [], []).SerializeToString()
    for _ in range(count):
        a = b"\x0a\x01b" + b"\x32" + _VarintBytes(len(inside)) + inside + b"\xa0\x01\x05"
        node = b"\x22" + _VarintBytes(len(kind)) + kind.encode() + b"\x2a" + _VarintBytes(len(a)) + a
        inside = b"\x0a" + _VarintBytes(len(node)) + node
    return b"\x08\x08\x3a" + _VarintBytes(len(inside)) + inside + b"\x42\x02\x10\x11"


def _laughs(count: int, times: int) -> bytes:
    """Functions that call the one before several times each."""
    opsets = [H.make_opsetid("", 17), H.make_opsetid("own", 1)]
    made = [H.make_function("own", "f0", ["a"], ["b"], [_node("Relu", "a", "b")], opsets)]
    for k in range(1, count):
        names = ["a", *(f"t{j}" for j in range(times - 1)), "b"]
        nodes = [H.make_node(f"f{k - 1}", [p], [q], domain="own") for p, q in itertools.pairwise(names)]
        made.append(H.make_function("own", f"f{k}", ["a"], ["b"], nodes, opsets))
    node = H.make_node(f"f{count - 1}", ["x"], ["y"], domain="own")
    data: bytes = _model([node], functions=made).SerializeToString()
    return data


def _loop_of_functions() -> bytes:
    opsets = [H.make_opsetid("", 17), H.make_opsetid("own", 1)]
    made = [
        H.make_function("own", f"f{k}", ["a"], ["b"], [H.make_node(f"f{1 - k}", ["a"], ["b"], domain="own")], opsets)
        for k in (0, 1)
    ]
    data: bytes = _model([H.make_node("f0", ["x"], ["y"], domain="own")], functions=made).SerializeToString()
    return data


def _wide(count: int, what: str) -> bytes:
    if what == "nodes":
        return bytes(_model([_node("Relu", "x", f"v{k}") for k in range(count)]).SerializeToString())
    if what == "chain":
        return _chain(count, "Relu", "{}", "x", [])
    if what == "operands":
        return bytes(_model([H.make_node("Concat", ["x"] * count, ["y"], axis=1)]).SerializeToString())
    if what == "outputs":
        return bytes(_model([H.make_node("Split", ["x"], [f"y{k}" for k in range(count)], axis=0)]).SerializeToString())
    return bytes(
        _model([_node("Relu", "x")], [_constant(f"w{k}", [1.0], np.float32) for k in range(count)]).SerializeToString()
    )


def _sized(op: str, x: Any, inputs: str = "x", tensors: list[Any] | None = None, **attributes: Any) -> bytes:
    return bytes(_model([H.make_node(op, ["" if n == "_" else n for n in inputs.split()], ["y"], **attributes)], tensors, x)
                 .SerializeToString())  # fmt: skip


def _sparse(dims: list[int]) -> bytes:
    values = H.make_tensor("w", FLOAT, [1], [1.0])
    sparse = H.make_sparse_tensor(values, _constant("i", [0]), dims)
    return bytes(_model([_node("Add", "x w")], sparse_initializer=[sparse]).SerializeToString())


G = 1 << 28
big = (1 << 31) - 1
BOMBS: dict[str, Callable[[], bytes]] = {
    "constant": lambda: _folded("ConstantOfShape", {"s": [G]}),
    "constant, twice": lambda: _folded("ConstantOfShape", {"s": [1 << 40, 0, 1 << 40]}),
    "expand": lambda: _folded("Expand", {"a": [1.0], "s": [1 << 14, 1 << 14]}),
    "expand, then used": lambda: _chain(3, "Add", "{} {}", "w", [_constant("w", np.ones((1, 1)))]),
    "tile": lambda: _folded("Tile", {"a": [1.0, 2.0], "s": [G // 2]}),
    "range": lambda: _folded("Range", {"a": 0, "b": G, "c": 1}),
    "range of floats": lambda: _folded("Range", {"a": 0.0, "b": 1e30, "c": 1e-30}),
    "gather": lambda: _folded("Gather", {"a": np.zeros((1, 1 << 16)), "i": np.zeros(1 << 13, np.int64)}),
    "outer": lambda: _folded("Mul", {"a": np.ones((1 << 15, 1)), "b": np.ones((1, 1 << 15))}),
    "outer and": lambda: _folded("Equal", {"a": np.ones((1 << 15, 1)), "b": np.ones((1, 1 << 15))}),
    "where": lambda: _folded("Where", {"c": np.ones((1 << 14, 1, 1), bool), "a": np.ones((1, 64, 1)), "b": np.ones((1, 1, 512))}),
    "product": lambda: _folded("MatMul", {"a": np.ones((1 << 14, 1)), "b": np.ones((1, 1 << 14))}),
    "doubling": lambda: _chain(60, "Concat", "{} {}", "w", [_constant("w", [1.0], np.float32)], axis=0),
    "doubling of the input": lambda: _chain(60, "Concat", "{} {}", "x", [], axis=1),
    "tripling": lambda: _chain(30, "Tile", "{} t", "w", [_constant("w", np.ones((4, 4))), _constant("t", [2, 2])]),
    "tiles of the input": lambda: _chain(20, "Tile", "{} t", "x", [_constant("t", [1, 9, 9, 9])]),
    "many constants": lambda: _chain(400, "Mul", "w w", "w", [_constant("w", np.ones((1 << 18,)))]),
    "squares": lambda: _chain(64, "Mul", "{} {}", "w", [_constant("w", [3])]),
    "names": lambda: _chain(20_000, "Identity", "{}", "x", []),
    "reference": lambda: _chain(50, "CumSum", "{} a", "w", [_constant("w", np.ones(1 << 19)), _constant("a", 0)]),
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
    "resize of the input": lambda: _sized("Resize", (1, 3, 9, 9), "x _ _ s", [_constant("s", [1, 3, big, big])]),
    "scales": lambda: _sized("Resize", (1, 3, 9, 9), "x _ s", [_constant("s", [1, 1, 1e9, 1e9], np.float32)]),
    "no scales": lambda: _sized("Resize", (1, 3, 9, 9), "x _ s", [_constant("s", [1, 1, float("nan"), 0], np.float32)]),
    "pads of the input": lambda: _sized("Pad", (1, 3, 9, 9), "x p", [_constant("p", [0, 0, 1 << 30, 0, 0, 0, 0, 1 << 30])]),
    "expanded input": lambda: _sized("Expand", (1, 1, 1, 1), "x s", [_constant("s", [1, 1 << 20, 1 << 20, 1 << 20])]),
    "strange convolution": lambda: _sized(
        "Conv", (1, 3, 9, 9), "x w", [_constant("w", np.ones((1, 3, 1, 1)), np.float32)], pads=[big] * 4, dilations=[big] * 2
    ),
    "pool": lambda: _sized("MaxPool", (1, 3, 9, 9), kernel_shape=[big, big], pads=[1 << 30] * 4),
    "average": lambda: _sized("AveragePool", (1, 3, 9, 9), kernel_shape=[3, 3], pads=[1 << 20] * 4),
    "cut": lambda: _sized("Slice", (1, 3, 1 << 30, 9), "x a b c d", [
        _constant("a", [-1]), _constant("b", [-(1 << 62)]), _constant("c", [2]), _constant("d", [-1])]),
    "gathered": lambda: _sized("Gather", (1, 3, 9, 9), "x i", [_constant("i", np.zeros((1 << 21,), np.int64) + 2)], axis=1),
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
    "long name": lambda: bytes(_model([H.make_node("Relu", ["x"], ["y"], name="n/" * 500_000)]).SerializeToString()),
    "texts": lambda: _folded("Equal", {"a": np.array(["b"] * 1000, object), "c": np.array(["d"], object)}),
    "a loop": lambda: _folded("Loop", {"n": 1 << 40, "c": np.array(True)}, body=H.make_graph(
        [_node("Identity", "c0", "c1")], "b", [H.make_tensor_value_info("i", INT64, []), H.make_tensor_value_info("c0", 9, [])],
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
    path.write_bytes(_model([_node("Add", "x w")], [w]).SerializeToString())
    return path


# ------------------------------------------------------------------------------------------------ reading


class _Opened:
    """The files that this process opens while it watches."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._saw)

    def _saw(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and self.paths is not None and isinstance(arguments[0], str | os.PathLike):
            self.paths.append(os.fspath(arguments[0]))


@functools.cache
def opened() -> _Opened:
    return _Opened()


OWN = tuple(os.path.realpath(p) for p in (*sys.path, sys.prefix, sys.base_prefix, "/proc", "/sys") if p)


def peak() -> int:
    """The most memory that this process had, in bytes, since `/proc/self/clear_refs` was told to forget."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


class Onnx(Format):
    name = "onnx"
    seconds = 2.0
    memory = 512 << 20  # more than the process had before

    def forge(self, draw: random.Random, folder: Path) -> Path:
        if draw.random() < 0.08:
            return outside(draw.choice(PLACES), folder)
        path = folder / "net.onnx"
        if draw.random() < 0.1:
            path.write_bytes(BOMBS[draw.choice(list(BOMBS))]())
            return path
        data = draw.choice(originals())
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            forge = draw.choice((damage, forged_wire, forged_wire, *MEANINGS))
            try:
                data = forge(data, draw) or data
            except Exception:  # a meaning of what is no model any more
                data = damage(data, draw) or b"\x08"
        path.write_bytes(data)
        return path

    def read(self, path: Path) -> Any:
        with watched(path.parent, self.memory):
            try:
                network = cnnc.load(path, external_data=True)
                return network, network.representative.graph
            except MemoryError as e:
                raise Mismatch(f"memory is asked for: {e}") from e

    def judge(self, path: Path, found: Any) -> None:
        network, _ = found
        for name, value in network.weights.items():
            if value.size and float(value.reshape(-1)[0]) == SECRET:
                raise Mismatch(f"'{name}' lay outside of the folder")


class watched:
    """A block that opens no file outside of a folder, and takes no more than so much memory. Raises `Mismatch`."""

    def __init__(self, folder: Path, memory: int) -> None:
        self.folder, self.memory = folder, memory

    def __enter__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")
        self.before = peak()
        opened().paths = []

    def __exit__(self, kind: Any, value: Any, trace: Any) -> None:
        paths, opened().paths = opened().paths or [], None
        taken = peak() - self.before
        if taken > self.memory:
            raise Mismatch(f"it takes {taken >> 20} MiB")
        for path in map(os.path.realpath, paths):
            if not path.startswith((os.path.realpath(self.folder), *OWN)):
                raise Mismatch(f"{path} was opened")
