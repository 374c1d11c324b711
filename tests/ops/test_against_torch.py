"""Every op's reference against PyTorch in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnnc.ir import expression as ex
from cnnc.ir.graph import Attributes, Node
from cnnc.ops.definitions import DEFINITIONS
from cnnc.ops.pointwise import expressions, slope
from tests.ops.checking import POSITIVE, SETTINGS, Array, reference

torch = pytest.importorskip("torch")
F = torch.nn.functional
RNG = np.random.default_rng(3)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def t(a: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(a))


def same(ours: Any, theirs: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------------------ convolution

CASES = [
    ((2, 3, 8, 7), (4, 3, 3, 3), 1, 0, 1, 1),
    ((2, 3, 8, 7), (4, 3, 3, 3), 2, 1, 1, 1),
    ((2, 3, 9, 8), (4, 3, 5, 2), (3, 1), (2, 1), 1, 1),
    ((2, 3, 9, 9), (4, 3, 3, 2), 1, 1, (2, 3), 1),
    ((2, 6, 5, 5), (4, 3, 3, 3), 1, 1, 1, 2),
    ((2, 6, 5, 5), (12, 1, 3, 3), 2, 1, 1, 6),
    ((0, 3, 5, 5), (4, 3, 3, 3), 1, 1, 1, 1),
    ((1, 1, 1, 1), (1, 1, 1, 1), 1, 0, 1, 1),
    ((1, 17, 1, 13), (5, 17, 1, 3), 1, (0, 1), 1, 1),
    ((2, 3, 11), (4, 3, 4), 2, 1, 1, 1),
    ((1, 2, 5, 4, 6), (3, 2, 2, 3, 1), (1, 2, 1), (1, 0, 0), 1, 1),
    ((1, 2, 7, 7), (2, 2, 3, 3), 5, 0, 1, 1),
]


def as_list(value: Any, rank: int) -> list[int]:
    return list(value) if isinstance(value, tuple) else [value] * rank


@pytest.mark.parametrize(("x", "w", "stride", "padding", "dilation", "groups"), CASES)
def test_convolution_and_its_gradients(x: Any, w: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> None:
    rank = len(x) - 2
    a, b, c = normal(*x), normal(*w), normal(w[0])
    given = {
        "stride": as_list(stride, rank),
        "padding": as_list(padding, rank),
        "dilation": as_list(dilation, rank),
        "groups": groups,
    }
    tx, tw, tb = (t(v).requires_grad_() for v in (a, b, c))
    theirs = (F.conv1d, F.conv2d, F.conv3d)[rank - 1](tx, tw, tb, stride, padding, dilation, groups)
    same(reference("conv", a, b, c, **given), theirs)
    dy = normal(*theirs.shape)
    theirs.backward(t(dy))
    same(reference("conv_data_gradient", dy, b, size=list(x[2:]), **given), tx.grad)
    same(reference("conv_weight_gradient", a, dy, kernel=list(w[2:]), **given), tw.grad)
    same(reference("reduce_channels", dy, expressions=["a0"]), tb.grad)


@pytest.mark.filterwarnings("ignore:Using padding")
@pytest.mark.parametrize(("kernel", "dilation"), [(3, 1), (2, 1), (4, 1), (2, 3), (5, 2)])
def test_convolution_with_same_padding(kernel: int, dilation: int) -> None:
    a, b = normal(2, 3, 9, 8), normal(4, 3, kernel, kernel)
    same(
        reference("conv", a, b, padding="same", dilation=[dilation] * 2),
        F.conv2d(t(a), t(b), None, padding="same", dilation=dilation),
    )


def test_convolution_with_asymmetric_padding() -> None:
    a, b = normal(2, 3, 6, 5), normal(4, 3, 3, 4)
    same(reference("conv", a, b, padding=[[0, 2], [3, 1]]), F.conv2d(F.pad(t(a), (3, 1, 0, 2)), t(b)))


def test_linear_and_its_gradients() -> None:
    a, b, c, dy = normal(4, 6), normal(5, 6), normal(5), normal(4, 5)
    tx, tw = t(a).requires_grad_(), t(b).requires_grad_()
    theirs = F.linear(tx, tw, t(c))
    theirs.backward(t(dy))
    same(reference("linear", a, b, c), theirs)
    same(reference("linear_data_gradient", dy, b), tx.grad)
    same(reference("linear_weight_gradient", a, dy), tw.grad)


# ------------------------------------------------------------------------------------------------ pooling


def same_pool(op: str, call: Any, size: Any, window: tuple[Any, Any, Any], more: dict[str, Any]) -> None:
    """A pool and its gradient. window: kernel, stride and padding; more: our other attributes."""
    a = normal(2, 3, *size)
    given = {k: as_list(v, 2) for k, v in zip(("kernel", "stride", "padding"), window, strict=True)} | more
    tx = t(a).requires_grad_()
    theirs = call(tx, *window)
    dy = normal(*theirs.shape)
    theirs.backward(t(dy))
    same(reference(op, a, **given), theirs)
    read = [a, dy] if op == "maxpool" else [dy]
    same(reference(f"{op}_gradient", *read, size=list(size), **given), tx.grad)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation", "ceil"),
    [
        ((7, 8), 2, 2, 0, 1, False),
        ((7, 8), 2, 2, 0, 1, True),
        ((7, 8), 3, 2, 1, 1, False),
        ((6, 6), 3, 1, 1, 1, True),
        ((9, 7), (3, 2), (2, 3), (1, 1), 1, True),
        ((9, 9), 2, 3, 1, 3, False),
        ((5, 5), 2, 4, 0, 1, False),
        ((1, 13), (1, 3), 1, (0, 1), 1, False),
    ],
)
def test_maxpool_and_its_gradient(size: Any, kernel: Any, stride: Any, padding: Any, dilation: int, ceil: bool) -> None:
    more = {"dilation": [dilation] * 2, "ceil_mode": ceil}
    call = lambda *given: F.max_pool2d(*given, dilation, ceil)  # noqa: E731
    same_pool("maxpool", call, size, (kernel, stride, padding), more)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "ceil", "include"),
    [
        ((7, 8), 2, 2, 0, False, True),
        ((7, 8), 2, 2, 0, True, True),
        ((7, 8), 3, 2, 1, False, True),
        ((7, 8), 3, 2, 1, True, True),
        ((7, 8), 3, 2, 1, True, False),
        ((6, 6), 3, 1, 1, False, False),
        ((9, 7), (3, 2), (2, 3), (1, 1), True, True),
        ((9, 7), (3, 2), (2, 3), (1, 1), True, False),
        ((5, 5), 2, 4, 0, False, True),
    ],
)
def test_avgpool_and_its_gradient(size: Any, kernel: Any, stride: Any, padding: Any, ceil: bool, include: bool) -> None:
    more = {"ceil_mode": ceil, "count_include_pad": include}
    call = lambda *given: F.avg_pool2d(*given, ceil, include)  # noqa: E731
    same_pool("avgpool", call, size, (kernel, stride, padding), more)


def test_global_avgpool() -> None:
    a = normal(2, 3, 5, 4)
    same(reference("global_avgpool", a), F.adaptive_avg_pool2d(t(a), 1))


# ------------------------------------------------------------------------------------------------ normalization


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (4, 3), (4, 3, 6), (2, 3, 2, 3, 2)])
def test_batchnorm(shape: Any) -> None:
    x, g, b, m, v = normal(*shape), normal(3), normal(3), normal(3), np.abs(normal(3))
    same(reference("batchnorm", x, g, b, m, v, eps=1e-3), F.batch_norm(t(x), t(m), t(v), t(g), t(b), eps=1e-3))
    mean, variance = reference("moments", x)
    same(
        reference("batchnorm", x, g, b, mean, variance),
        F.batch_norm(t(x), None, None, t(g), t(b), training=True),
        1e-10,
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 11])
def test_lrn_and_its_gradient(size: int) -> None:
    a = normal(2, 7, 4, 3)
    tx = t(a).requires_grad_()
    theirs = F.local_response_norm(tx, size, alpha=0.2, beta=0.6, k=1.5)
    dy = normal(*a.shape)
    theirs.backward(t(dy))
    same(reference("lrn", a, size=size, alpha=0.2, beta=0.6, k=1.5), theirs)
    same(reference("lrn_gradient", a, dy, size=size, alpha=0.2, beta=0.6, k=1.5), tx.grad)


# ------------------------------------------------------------------------------------------------ pointwise and loss

THEIRS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "selu": F.selu,
    "silu": F.silu,
    "exp": torch.exp,
    "abs": torch.abs,
    "neg": torch.neg,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "celu": F.celu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "mish": F.mish,
    "softplus": F.softplus,
    "log_sigmoid": F.logsigmoid,
    "softsign": F.softsign,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "hardtanh": F.hardtanh,
    "clamp": torch.clamp,
    "threshold": F.threshold,
    "expm1": torch.expm1,
    "log1p": torch.log1p,
    "pow": torch.pow,
    "sign": torch.sign,
    "floor": torch.floor,
    "erf": torch.erf,
}
OTHER_KINKS = ("leaky_relu", "elu", "selu")  # their slope at 0 is that of the right side, PyTorch's that of the left
KINKS = [0.0, 30.0, -30.0, 6.0, -3.0, 3.0, -1.0, 1.0, -0.75, 2.0, 1.5, 0.25, 9.0]


@pytest.mark.parametrize("op", list(THEIRS))
def test_activation_and_its_derivative(op: str) -> None:
    a = np.concatenate([normal(50) * 4, KINKS])
    a = np.abs(a) + 0.125 if op in POSITIVE or op == "log1p" else a
    chosen = SETTINGS.get(op, {}) if op != "silu" else {}  # PyTorch's has no beta
    for given in ({}, chosen) if op not in ("clamp", "threshold", "pow") else (chosen,):
        tx = t(a).requires_grad_()
        theirs = THEIRS[op](tx, **given)
        theirs.sum().backward()
        y = reference(op, a, **given)
        same(y, theirs)
        node = Node(op, ("a0",), Attributes(given), ("y",), ())
        (value,) = expressions(node)
        ours = np.broadcast_to(ex.evaluate(slope(node, value, 0), {"a0": a, "y": y}), a.shape)
        apart = a != 0 if op in OTHER_KINKS else slice(None)
        same(ours[apart], tx.grad[apart], 1e-7 if op == "hardsigmoid" else 1e-12)  # a float32 of 1/6 there


def test_choices_and_prelu() -> None:
    a, b, c = normal(2, 3, 4), normal(2, 3, 4), normal(3)
    a[0, 0, 0] = b[0, 0, 0]
    for op in ("maximum", "minimum"):
        ta, tb = t(a).requires_grad_(), t(b).requires_grad_()
        theirs = getattr(torch, op)(ta, tb)
        theirs.sum().backward()
        same(reference(op, a, b), theirs)
        (value,) = expressions(node := Node(op, ("a", "b"), Attributes({}), ("y",), ()))
        for i, grad in enumerate((ta.grad, tb.grad)):
            same(np.broadcast_to(ex.evaluate(slope(node, value, i), {"a0": a, "a1": b}), a.shape), grad)
    for op in ("gt", "ge", "eq", "ne"):
        same(reference(op, a, b), getattr(torch, op)(t(a), t(b)).double())
    same(reference("where", a > 0, a, b), torch.where(t(a) > 0, t(a), t(b)))
    for weight in (c, c[:1]):
        same(reference("prelu", a, weight), F.prelu(t(a), t(weight)))


def test_all_activations_are_compared() -> None:
    assert {n for n, d in DEFINITIONS.items() if d.operands == 1} == set(THEIRS)


def test_arithmetic() -> None:
    a, b = normal(2, 3, 4, 4), normal(2, 3, 1, 4)
    for op, theirs in (("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("div", torch.div)):
        same(reference(op, a, b), theirs(t(a), t(b)))


def test_softmax() -> None:
    a, dy = normal(3, 5, 2) * 5, normal(3, 5, 2)
    for axis in (1, 2):
        tx = t(a).requires_grad_()
        theirs = F.softmax(tx, axis)
        theirs.backward(t(dy))
        same(reference("softmax", a, axis=axis), theirs)
        same(reference("softmax_gradient", theirs.detach().numpy(), dy, axis=axis), tx.grad)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_cross_entropy(scale: float) -> None:
    a, labels = normal(6, 4) * scale, np.array([0, 1, 2, 3, 3, 0])
    tx = t(a).requires_grad_()
    theirs = F.cross_entropy(tx, torch.from_numpy(labels))
    theirs.backward()
    same(reference("cross_entropy", a, labels), theirs)
    same(reference("cross_entropy_gradient", a, labels, np.float64(1)), tx.grad)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(
    ("size", "padding"),
    [
        ((7,), ((3, 2),)),
        ((4, 5), ((2, 0), (1, 3))),
        ((3, 4, 5), ((1, 2), (0, 1), (2, 2))),
        ((4, 5), ((-1, 1), (2, -2))),
    ],
)
def test_pad_and_its_gradient(mode: str, size: Any, padding: Any) -> None:
    a = normal(2, 3, *size)
    tx = t(a).requires_grad_()
    pads = [n for pair in reversed(padding) for n in pair]
    if mode == "circular" and min(pads) < 0:
        pytest.skip("PyTorch copies past what it cuts")
    theirs = F.pad(tx, pads, mode, **({"value": 1.5} if mode == "constant" else {}))
    dy = normal(*theirs.shape)
    theirs.backward(t(dy))
    same(reference("pad", a, padding=padding, mode=mode, value=1.5 if mode == "constant" else 0.0), theirs)
    if mode != "constant":
        same(reference("pad_gradient", dy, padding=padding, mode=mode, size=a.shape), tx.grad)


def test_what_moves() -> None:
    a = normal(2, 12, 4, 6)
    same(reference("channel_shuffle", a, groups=3), F.channel_shuffle(t(a), 3))
    same(reference("pixel_shuffle", a, factor=2), F.pixel_shuffle(t(a), 2))
    same(reference("pixel_unshuffle", a, factor=2), F.pixel_unshuffle(t(a), 2))
    same(reference("flip", a, axis=[1, 3]), t(a).flip(1, 3))
    same(reference("transpose", a, axes=[0, 2, 3, 1]), t(a).permute(0, 2, 3, 1))
    same(reference("repeat", a, repeats=[1, 2, 1, 3]), t(a).repeat(1, 2, 1, 3))
    same(reference("gather", a, axis=1, indices=[3, 0, -1, 3]), t(a)[:, [3, 0, -1, 3]])
    same(reference("slice", a, axis=[1, 3], start=[2, 1], size=[3, 2], step=[4, 3]), t(a)[:, 2::4, :, 1:6:3])
    dy, tx = normal(2, 4, 4, 6), t(a).requires_grad_()
    tx[:, [3, 0, -1, 3]].backward(t(dy))
    same(reference("gather_gradient", dy, axis=1, indices=[3, 0, -1, 3], size=a.shape), tx.grad)


def test_reductions_and_shapes() -> None:
    a = normal(2, 3, 4, 5)
    same(reference("sum", a, axis=[2, 3]), t(a).sum((2, 3)))
    same(reference("mean", a, axis=[0, -1], keepdim=True), t(a).mean((0, 3), keepdim=True))
    same(reference("flatten", a), t(a).flatten(1))
    same(reference("concat", a, a * 2, axis=2), torch.cat([t(a), t(a) * 2], 2))
    same(reference("slice", a, axis=3, start=1, size=3), t(a)[..., 1:4])
    same(
        reference("expand", normal(2, 3, 1, 1) * 0 + 1, shape=[2, 3, 4, 5]), torch.ones(2, 3, 4, 5, dtype=torch.float64)
    )
