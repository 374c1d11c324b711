"""Every function of one operand, and its derivative, against float64 over all magnitudes of its argument."""

from __future__ import annotations

import math

import numpy as np
import pytest

from cnnc import driver
from cnnc.ir import expression as ex
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Attributes, Node
from cnnc.ir.types import TensorType
from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.elementwise.map_plan import Operand, plan_map
from cnnc.ops.definitions import DEFINITIONS, GELU_CUBE, SELU_ALPHA, SELU_SCALE
from cnnc.ops.pointwise import expressions, slope
from tests.kernels.launching import TARGETS, guarded, launch, place
from tests.ops.checking import POSITIVE, SETTINGS

ULP = 2.0**-24
SMALLEST = 2.0**-126  # below it numbers are flushed to zero in calls
OPS = sorted(name for name, d in DEFINITIONS.items() if d.operands == 1)


def arguments() -> np.ndarray:
    """Both signs of every power of two from 2^-126 to 2^14 with values between, and a dense sweep of +-110."""
    powers = np.exp2(np.arange(-126, 14.5, 0.125))
    dense = np.concatenate([np.linspace(0, 2, 4001), np.linspace(2, 110, 4001), [1e4, 12345.678, 3e38]])
    positive = np.concatenate([powers, dense])
    return np.concatenate([positive, -positive]).astype(np.float32)


def sigmoid(x):
    """In float64 to the last digit in both tails: of the size of x alone."""
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def normal(x):
    """The normal distribution's part below x."""
    return np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2)(x)


def softplus(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def cubic(x):
    return 2 * np.sqrt(2 / np.pi) * (x + GELU_CUBE * x**3)


def sloped(x):
    return 2 * np.sqrt(2 / np.pi) * (1 + 3 * GELU_CUBE * x**2)


def scale_of(op, x):
    """Where terms cancel or a product is rounded before its exponential is taken, the size of an error of one rounding:
    the slopes of silu, gelu and mish pass through 0, and the sigmoid of gelu_tanh moves with its rounded cubic.
    """
    if op == "gelu_tanh":
        h = np.clip(x, -12, 0)
        return (1 - h * sloped(h)) * sigmoid(cubic(h)) * np.maximum(1, -cubic(h) / 4) * (x < 0)
    zero = {"silu": -0.64, "gelu": -0.75, "mish": -1.19, "hardswish": -1.5}.get(op)
    return np.zeros_like(x) if zero is None else np.where(np.abs(x - zero) < 0.5, 0.3, 0)


def truth(op, x, attributes):
    """The function and its derivative in float64, written apart from their definitions."""
    k = next((attributes[n] for n in ("negative_slope", "alpha", "beta", "exponent") if n in attributes), 1.0)
    low, high = (attributes.get(n, attributes.get(f"{n}_val", 0)) for n in ("min", "max"))
    threshold, value = attributes.get("threshold", 20.0), attributes.get("value", 0.0)
    s, h = sigmoid(k * x), np.clip(x, -800, 40)
    t = 1 / np.cosh(np.clip(x, -350, 350))
    return {
        "neg": (-x, -1 + 0 * x),
        "exp": (np.exp(x), np.exp(x)),
        "log": (np.log(x), 1 / x),
        "sqrt": (np.sqrt(x), 0.5 / np.sqrt(x)),
        "abs": (np.abs(x), np.sign(x)),
        "relu": (np.maximum(x, 0), 1.0 * (x > 0)),
        "relu6": (np.clip(x, 0, 6), 1.0 * ((x > 0) & (x < 6))),
        "sigmoid": (s, s * sigmoid(-x)),
        "tanh": (np.tanh(x), t * t),
        "leaky_relu": (np.where(x < 0, k * x, x), np.where(x < 0, k, 1)),
        "elu": (np.where(x < 0, k * np.expm1(x), x), np.where(x < 0, k * np.exp(x), 1)),
        "selu": (
            SELU_SCALE * np.where(x < 0, SELU_ALPHA * np.expm1(x), x),
            SELU_SCALE * np.where(x < 0, SELU_ALPHA * np.exp(x), 1),
        ),
        "silu": (x * s, s * (1 + k * x * sigmoid(-k * x))),
        "celu": (np.where(x < 0, k * np.expm1(x / k), x), np.where(x < 0, np.exp(x / k), 1)),
        "gelu": (x * normal(x), normal(x) + h * np.exp(-0.5 * h * h) / np.sqrt(2 * np.pi)),
        "gelu_tanh": (x * sigmoid(cubic(x)), sigmoid(cubic(x)) * (1 + h * sloped(h) * sigmoid(-cubic(x)))),
        "mish": (x * np.tanh(softplus(x)), np.tanh(softplus(x)) + h * s / np.cosh(softplus(h)) ** 2),
        "softplus": (
            np.where(k * x > threshold, x, softplus(k * x) / k),
            np.where(k * x > threshold, 1, s),
        ),
        "log_sigmoid": (-softplus(-x), sigmoid(-x)),
        "softsign": (x / (1 + np.abs(x)), 1 / (1 + np.abs(x)) ** 2),
        "hardsigmoid": (np.clip(x + 3, 0, 6) / 6, ((x > -3) & (x < 3)) / 6),
        "hardswish": (x * (np.clip(x + 3, 0, 6) / 6), np.where(x <= -3, 0, np.where(x < 3, x / 3 + 0.5, 1))),
        "hardtanh": (np.clip(x, low, high), 1.0 * ((x > low) & (x < high))),
        "clamp": (np.clip(x, low, high), 1.0 * ((x >= low) & (x <= high))),
        "threshold": (np.where(x > threshold, x, value), 1.0 * (x > threshold)),
        "expm1": (np.expm1(x), np.exp(x)),
        "log1p": (np.log1p(x), 1 / (1 + x)),
        "pow": (x**k, k * x ** (k - 1)),
        "sign": (np.sign(x), 0 * x),
        "floor": (np.floor(x), 0 * x),
        "erf": (np.vectorize(math.erf)(x), 2 / np.sqrt(np.pi) * np.exp(-np.minimum(x * x, 1e3))),
    }[op]


def trees(op):
    """The function and its derivative over a0 alone."""
    node = node_of(op)
    (value,) = expressions(node)
    return value, ex.substitute(slope(node, value, 0), {"y": value})


def computed(name, ops, x):
    """(value, derivative) of ops that have the same arguments, by the target's code: in one kernel."""
    made = [tree for op in ops for tree in trees(op)]
    plan = plan_map(target.named(name), x.shape, False, [Operand(x.shape)], made)
    results = [guarded(x.shape) for _ in made]
    launch(plan, name, {"a0": place(x)} | {f"y{i}": result for i, result in enumerate(results)})
    return dict(zip(ops, zip(results[::2], results[1::2], strict=True), strict=True))


def worst(got, want, scale, lost):
    """The largest error in units of the last place of the truth, or of `scale` where that is more. An error of `lost` is
    as good as none."""
    with np.errstate(all="ignore"):
        error = np.abs(got - want) / (ULP * np.maximum(np.abs(want), scale))
        same = (got == want) | (np.abs(got - want) <= lost) | ((np.abs(want) > 3.4028e38) & (np.abs(got) > 3.4e38))
    return float(np.where(same, 0, error).max())


def check(op, attributes, x, y, slopes):
    with np.errstate(all="ignore"):
        want, want_slope = truth(op, x.astype(np.float64), {k: float(v) for k, v in attributes.items()})
        scale = scale_of(op, x.astype(np.float64))
    # what is below the smallest number is 0: the slope of tanh has four times it, silu and its like by up to 92
    lost = SMALLEST * {"silu": 92, "gelu": 92, "gelu_tanh": 300, "mish": 92}.get(op, 4)
    assert worst(y, want, scale * (op == "gelu_tanh"), lost) <= 8
    apart = x != 0 if op in ("abs", "relu", "relu6") else slice(None)  # but for the kinks
    assert worst(slopes[apart], want_slope[apart], scale[apart], lost) <= 16


def node_of(op):
    return Node(op, ("a0",), Attributes(SETTINGS.get(op, {})), ("y",), ())


def arguments_of(op):
    x = arguments()
    return x[x > (-1 if op == "log1p" else 0)] if op in (*POSITIVE, "log1p") else x


POSITIVES = [op for op in OPS if op in POSITIVE]
OTHERS = [op for op in OPS if op not in POSITIVE and op != "log1p"]
GROUPS = [ops[i : i + 2] for ops in (POSITIVES, OTHERS, ["log1p"]) for i in range(0, len(ops), 2)]


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("ops", GROUPS, ids="-".join)
def test_a_function_and_its_derivative_are_exact_at_every_size_of_the_argument(ops, name):
    x = arguments_of(ops[0])
    for op, (y, slopes) in computed(name, ops, x).items():
        check(op, SETTINGS.get(op, {}), x, y, slopes)


def test_they_are_where_calls_flush_the_smallest_numbers_to_zero():
    b = Builder("all")
    for ops in GROUPS:
        a0 = b.input(f"x_{ops[0]}", TensorType("f32", ("N", arguments_of(ops[0]).size)))
        b.insert("pointwise", [a0], {"expressions": [ex.text(tree) for op in ops for tree in trees(op)]}, ops[0])
    calculated = [r for n in b.nodes if n.op == "pointwise" for r in n.results]
    graph = b.finish([(f"y{i}", r) for i, r in enumerate(calculated)])
    got = driver.build(graph, {})(**{f"x_{ops[0]}": arguments_of(ops[0])[None] for ops in GROUPS})
    found = [got[f"y{i}"][0] for i in range(len(calculated))]
    for i, op in enumerate(op for ops in GROUPS for op in ops):
        check(op, SETTINGS.get(op, {}), arguments_of(op), *found[2 * i : 2 * i + 2])


def test_the_interpreter_keeps_every_digit_of_the_definitions():
    x = np.concatenate([-np.exp2(np.arange(-1000.0, 9)), np.exp2(np.arange(-1000.0, 9))])
    x = x[np.abs(x) > 0]
    for op in ("elu", "selu", "sigmoid", "silu", "tanh", "exp", "celu", "softplus", "log_sigmoid", "gelu"):
        (value,) = expressions(node_of(op))
        with np.errstate(all="ignore"):
            want, want_slope = truth(op, x, SETTINGS.get(op, {}))
        np.testing.assert_allclose(ex.evaluate(value, {"a0": x}), want, rtol=1e-14)
        got = ex.evaluate(slope(node_of(op), value, 0), {"a0": x, "y": want})
        np.testing.assert_allclose(np.broadcast_to(got, x.shape), want_slope, rtol=1e-13)
