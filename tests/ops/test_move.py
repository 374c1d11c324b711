"""Ops and layers that move values: by hand, against central differences, and on the CPU against the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.ir.text import parse_graph, print_graph
from tests.ops.checking import check_gradient, reference

RNG = np.random.default_rng(7)
X = np.arange(6.0).reshape(1, 2, 3)


@pytest.mark.parametrize(
    ("op", "attributes", "want"),
    [
        ("slice", {"axis": (1, 2), "start": (1, 0), "size": (1, 2), "step": (1, 2)}, [[[3, 5]]]),
        ("gather", {"axis": 2, "indices": (-1, 0, 0)}, [[[2, 0, 0], [5, 3, 3]]]),
        ("flip", {"axis": (1, 2)}, [[[5, 4, 3], [2, 1, 0]]]),
        ("repeat", {"repeats": (1, 1, 2)}, [[[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5]]]),
        ("transpose", {"axes": (0, 2, 1)}, [[[0, 3], [1, 4], [2, 5]]]),
        ("pad", {"padding": ((1, 2),), "value": 7.0}, [[[7, 0, 1, 2, 7, 7], [7, 3, 4, 5, 7, 7]]]),
        ("pad", {"padding": ((2, 1),), "mode": "reflect"}, [[[2, 1, 0, 1, 2, 1], [5, 4, 3, 4, 5, 4]]]),
        ("pad", {"padding": ((2, 1),), "mode": "replicate"}, [[[0, 0, 0, 1, 2, 2], [3, 3, 3, 4, 5, 5]]]),
        ("pad", {"padding": ((2, 1),), "mode": "circular"}, [[[1, 2, 0, 1, 2, 0], [4, 5, 3, 4, 5, 3]]]),
        ("pad", {"padding": ((-1, 0), (1, -1))}, [[[0, 3, 4]]]),
        ("pad", {"padding": ((1, 0),), "interior": (1,)}, [[[0, 0, 0, 1, 0, 2], [0, 3, 0, 4, 0, 5]]]),
        ("pixel_shuffle", {"factor": 2}, [[[0, 3, 1, 4, 2, 5]]]),
    ],
)  # fmt: skip
def test_values(op: str, attributes: dict[str, Any], want: Any) -> None:
    assert reference(op, X, **attributes).tolist() == want


def test_channels_take_turns() -> None:
    x = np.arange(6.0).reshape(1, 6, 1, 1)
    assert reference("channel_shuffle", x, groups=2).ravel().tolist() == [0, 3, 1, 4, 2, 5]
    assert reference("channel_shuffle", x, groups=3).ravel().tolist() == [0, 2, 4, 1, 3, 5]


def test_pixels_become_channels_and_pixels_again() -> None:
    for shape in ((2, 3, 6), (2, 3, 4, 6), (1, 2, 4, 2, 6)):
        x = RNG.standard_normal(shape)
        assert np.array_equal(reference("pixel_shuffle", reference("pixel_unshuffle", x, factor=2), factor=2), x)


MODES = ("constant", "reflect", "replicate", "circular")
GRADIENTS: list[tuple[str, tuple[int, ...], dict[str, Any]]] = [
    ("slice", (2, 5, 7), {"axis": (1, 2), "start": (1, 1), "size": (2, 3), "step": (1, 2)}),
    ("slice", (2, 3, 5, 3), {"axis": 2, "start": 1, "size": 2, "step": 3}),
    ("gather", (2, 4, 3), {"axis": 1, "indices": (3, 1, 1, -3, 0)}),
    ("flip", (2, 3, 3, 2), {"axis": (1, 3)}),
    ("repeat", (1, 2, 3, 2), {"repeats": (1, 2, 1, 3)}),
    ("transpose", (1, 2, 3, 4), {"axes": (0, 2, 3, 1)}),
    ("channel_shuffle", (2, 6, 3), {"groups": 3}),
    ("pixel_shuffle", (1, 8, 3, 2), {"factor": 2}),
    ("pixel_shuffle", (1, 8, 1, 2, 1), {"factor": 2}),
    ("pixel_unshuffle", (2, 1, 6), {"factor": 3}),
    ("pad", (1, 2, 3), {"padding": ((2, -1),), "interior": (2,)}),
    *(("pad", (2, 2, 4), {"padding": ((3, 2),), "mode": mode}) for mode in MODES),
    *(("pad", (1, 2, 4, 3), {"padding": ((1, 2), (-1, 2)), "mode": mode}) for mode in MODES),
    *(("pad", (1, 1, 2, 3, 3), {"padding": ((1, 1), (0, 1), (2, 0)), "mode": mode}) for mode in MODES),
]  # fmt: skip


@pytest.mark.parametrize(("op", "shape", "attributes"), GRADIENTS)
def test_gradient(op: str, shape: tuple[int, ...], attributes: dict[str, Any]) -> None:
    check_gradient(lambda b, names: b.add(op, names, attributes), {"x": RNG.standard_normal(shape)})


# ------------------------------------------------------------------------------------------------ the language


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ("reshape([N, 8, -1])", (8, 24)),
        ("reshape([-1, 192])", (192,)),
        ("unsqueeze(-1)", (8, 4, 6, 1)),
        ("global_avgpool -> squeeze([2, 3])", (8,)),
        ("global_avgpool -> squeeze", (8,)),
        ("global_avgpool -> expand([N, -1, 2, 3])", (8, 2, 3)),
        ("transpose([0, 2, 3, 1])", (4, 6, 8)),
        ("pad(1)", (8, 6, 8)),
        ("pad([[1, -1], [2, 0]])", (8, 4, 8)),
        ("gather([0, -1, 2], axis=3)", (8, 4, 3)),
        ("repeat([1, 2, 1, 3])", (16, 4, 18)),
        ("pixel_shuffle(2)", (2, 8, 12)),
        ("pixel_unshuffle(2)", (32, 2, 3)),
        ('conv(5, 3, padding=[[1, 0], [2, 2]], padding_mode="reflect")', (5, 3, 8)),
        ('conv(5, 3, padding="same", padding_mode="circular")', (5, 4, 6)),
    ],
)
def test_shapes(layers: str, shape: tuple[int, ...]) -> None:
    graph = cnnc.parse(f"model m {{ input x: f32[N, 8, 4, 6] return x -> {layers} }}").graph
    assert graph.type(graph.outputs[0][1]).shape == ("N", *shape)
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize(
    ("index", "want"),
    [
        (":, 1", lambda x: x[:, 1]),
        (":, -1, 1:3", lambda x: x[:, -1, 1:3]),
        (":, 0:8, ::2", lambda x: x[:, 0:8, ::2]),
        (":, :, -3:-1, 1::3", lambda x: x[:, :, -3:-1, 1::3]),
        (":, :, 2, 3", lambda x: x[:, :, 2, 3]),
        (":", lambda x: x),
        (":, x.channels // 2:", lambda x: x[:, 4:]),
    ],
)
def test_slices(index: str, want: Any) -> None:
    net = cnnc.parse(f"model m {{ input x: f32[N, 8, 5, 7] return x[{index}] }}")
    x = RNG.standard_normal((2, 8, 5, 7)).astype(np.float32)
    assert np.array_equal(cnnc.compile(net)(x), want(x))


def test_lists_are_cut_too() -> None:
    net = cnnc.parse("model m { input x: f32[N, 8] sizes = [1, 2, 3, 4][1:3] return x -> linear(sizes[1]) }")
    assert net.graph.type(net.graph.outputs[0][1]).shape == ("N", 3)


def test_parts_have_names_of_their_own() -> None:
    text = "model m { input x: f32[N, 8, 2] a, b = x -> split([3, 5]) as s c, d = a -> stack([a, a]) -> split(2) return b, c }"
    with pytest.raises(cnnc.CnncError):
        cnnc.parse(text)
    graph = cnnc.parse(
        text.replace("a -> stack([a, a])", "stack([a, a], axis=2)").replace("split(2)", "split(2, axis=2)")
    ).graph
    assert [graph.type(v).shape for _, v in graph.outputs] == [("N", 5, 2), ("N", 3, 1, 2)]
    assert {"s.0", "s.1", "stack1", "split1.0"} <= {n.name for n in graph.nodes}


# ------------------------------------------------------------------------------------------------ the CPU

NETWORKS = {
    "channels": """model m { input x: f32[N, 5, 6, 7]
        y = x -> conv(36, 3, padding=1) -> channel_shuffle(2) -> channel_shuffle(9) -> conv(36, 1)
        a, b = y -> split(2)
        z = concat([a -> gather([3, 1, 1, 17, 0]), b[:, 5:17] -> flip(1), y[:, 1:33:3]])
        return z -> conv(16, 1) -> repeat([1, 2, 1, 1]) -> conv(7, 1) -> flatten -> linear(3) }""",
    "space": """model m { input x: f32[N, 3, 9, 8]
        y = x -> conv(20, 3, padding=1, padding_mode="circular") -> pad([[1, 2], [-1, 1]], value=2) -> conv(33, 3)
        z = y -> pad([[2, 0], [1, 3]], mode="reflect") -> pad([[0, 1], [-2, 2]], mode="replicate") -> conv(20, 3)
        z = z[:, :, ::2, 1:] -> flip([2, 3]) -> transpose([0, 1, 3, 2]) -> repeat([1, 1, 2, 1]) -> conv(6, 2)
        return z -> pad(1) -> conv(4, 3) -> flatten -> linear(3) }""",
    "pixels": """model m { input x: f32[N, 3, 6, 12]
        y = x -> conv(36, 1) -> pixel_shuffle(2) -> conv(5, 3) -> transpose([0, 2, 3, 1]) -> gather([4, 0], axis=3)
        z = x -> pixel_unshuffle(3) -> conv(20, 1) -> unsqueeze(2) -> expand([N, 20, 2, 2, 4]) -> reshape([N, -1, 8])
        return concat([y -> flatten, z -> flip(2) -> flatten]) -> linear(3) }""",
    "lines": """model m { input x: f32[N, 2, 37]
        y = x -> conv(18, 5, padding="same", padding_mode="reflect") -> pad([[3, 20]], mode="circular") -> conv(20, 3)
        return y[:, :, 1::3] -> flip(2) -> pixel_shuffle(2) -> conv(3, 3) -> flatten -> linear(3) }""",
    "volumes": """model m { input x: f32[N, 2, 3, 4, 5]
        y = x -> conv(16, 2) -> pad([[1, 1], [2, 0], [0, 1]], mode="replicate") -> conv(17, 1)
        y = y[:, :, 1, ::2] -> transpose([0, 1, 3, 2])
        z = x -> pad([[1, 0], [1, 1], [-1, 2]], mode="reflect") -> conv(3, 1)
        return concat([y -> flatten, z -> flatten]) -> linear(3) }""",
}


@pytest.mark.parametrize("name", list(NETWORKS))
def test_the_cpu_is_the_reference(name: str) -> None:
    net, labels = cnnc.parse(NETWORKS[name]), np.array([1, 0, 2])
    (node,) = net.graph.inputs
    x = RNG.standard_normal(node.type.concrete(3)).astype(np.float32)
    exe, exact = cnnc.compile(net), cnnc.compile(net, target="reference")
    for batch in (1, 3):
        expected = exact(x[:batch])
        assert np.abs(exe(x[:batch]) - expected).max() <= 1e-5 * np.abs(expected).max()
        (loss, found), (wanted, gradients) = (
            cnnc.value_and_grad(net, target=target)(x[:batch], labels[:batch]) for target in ("cpu", "reference")
        )
        assert abs(loss - wanted) <= 1e-5 * wanted
        for key, gradient in gradients.items():
            assert np.abs(found[key] - gradient).max() <= 1e-4 * max(1e-3, np.abs(gradient).max()), key
