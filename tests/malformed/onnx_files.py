"""ONNX models: good ones of several networks, a way to forge their fields, and how they are read."""

from __future__ import annotations

import functools
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[import-untyped]
from google.protobuf.internal.encoder import _VarintBytes  # type: ignore[import-untyped]

import cnnc
from cnnc.interop.onnx import model as exported
from tests.malformed.arrays import Format
from tests.malformed.fields import EDGES, damage
from tests.malformed.onnx_by_hand import BOMBS, FLOAT, PLACES, SECRET, H, constant, model_of, node_of, outside
from tests.random_networks.reference import Mismatch

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


@functools.cache
def originals() -> tuple[bytes, ...]:
    """Good models: networks of ours, shape arithmetic as exporters write it, and those that come with onnx."""
    found = []
    for text in NETWORKS:
        net = cnnc.parse(text)
        net = net.at(**dict.fromkeys(net.open_sizes, 12)) if isinstance(net, cnnc.open_sizes.OpenNetwork) else net
        found.append(exported(net.graph, net.weights).SerializeToString())
    shape = [
        node_of("Shape", "x", "s"),
        node_of("Slice", "s from to", "space"),
        node_of("Mul", "space two", "twice"),
        node_of("ConstantOfShape", "one", "zero", value=constant("v", [0])),
        node_of("Concat", "zero zero twice", "padded", axis=0),
        node_of("Slice", "s zero from", "front"),
        node_of("Concat", "front twice", "sizes", axis=0),
        node_of("Resize", "x  sizes", "r", mode="linear"),
        node_of("Range", "z n z1", "places"),
        node_of("Gather", "r places", "g", axis=2),
        node_of("Expand", "g e", "wide"),
        node_of("Tile", "wide reps", "y"),
    ]
    shape[7] = H.make_node("Resize", ["x", "", "", "sizes"], ["r"], mode="linear")
    tensors = [
        *(
            constant(n, v)
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
    found.append(model_of(shape, tensors).SerializeToString())
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
