"""Every function of one operand, and its derivative, against float64 over all magnitudes of its argument."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc import driver
from cnnc.ir import expression as ex
from cnnc.ir.builder import Builder
from cnnc.ir.graph import Attributes, Node
from cnnc.ir.types import TensorType
from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.elementwise.map_plan import Operand, plan_map
from cnnc.ops.pointwise import DEFINITIONS, SELU_ALPHA, SELU_SCALE, expressions, slope

from .launching import TARGETS, guarded, launch, place

ULP = 2.0**-24
SMALLEST = 2.0**-126  # below it numbers are flushed to zero in calls
OPS = sorted(name for name, d in DEFINITIONS.items() if d[0] == 1)
# beta is a power of two: the rounding of beta * x alone moves exp(beta * x) by |beta * x| units of its last place
SETTINGS = {"elu": {"alpha": 0.7}, "silu": {"beta": 2.0}, "leaky_relu": {"negative_slope": 0.3}}


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


def truth(op, x, attributes):
    """The function and its derivative in float64, written apart from their definitions."""
    k = next(iter(attributes.values()), 1.0)
    s = sigmoid(k * x)
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
    }[op]


def computed(name, tree, x, y):
    """The expression over a0 (and the result y) by the target's code."""
    names = ex.variables(tree)
    operands = {"a0": x, "y": y}
    renamed = ex.rename(tree, {v: f"a{i}" for i, v in enumerate(names)})
    plan = plan_map(target.named(name), x.shape, False, [Operand(x.shape)] * len(names), [renamed])
    result = guarded(x.shape)
    launch(plan, name, {f"a{i}": place(operands[v]) for i, v in enumerate(names)} | {"y0": result})
    return np.array(result)


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
        # where the terms of silu' cancel (beta x = -1.28) the error is that of the terms
        scale = np.where(np.abs(2 * x + 1.28) < 1, 0.3, 0) if op == "silu" else np.zeros_like(x)
    # what is below the smallest number is 0: the slope of tanh has four times it, silu by up to 92
    lost = SMALLEST * (92 if op == "silu" else 4)
    assert worst(y, want, 0, lost) <= 8
    apart = x != 0 if op in ("abs", "relu", "relu6") else slice(None)  # but for the kinks
    assert worst(slopes[apart], want_slope[apart], scale[apart], lost) <= 16


def node_of(op):
    return Node(op, ("a0",), Attributes(SETTINGS.get(op, {})), ("y",), ())


def arguments_of(op):
    x = arguments()
    return x[x > 0] if op in ("log", "sqrt") else x


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("op", OPS)
def test_a_function_and_its_derivative_are_exact_at_every_size_of_the_argument(op, name):
    node, x = node_of(op), arguments_of(op)
    (value,) = expressions(node)
    y = computed(name, value, x, x)
    check(op, node.attributes, x, y, np.broadcast_to(computed(name, slope(node, value, 0), x, y), x.shape))


def test_they_are_where_calls_flush_the_smallest_numbers_to_zero():
    b, x = Builder("all"), {op: arguments_of(op) for op in OPS}
    for op in OPS:
        a0 = b.input(f"x_{op}", TensorType("f32", ("N", x[op].size)))
        y = b.add(op, [a0], SETTINGS.get(op, {}), op)
        (value,) = expressions(node_of(op))
        tree = slope(node_of(op), value, 0)
        b.add("pointwise", [a0, y], {"expressions": [ex.text(ex.rename(tree, {"y": "a1"}))]}, f"{op}_slope")
    graph = b.finish([(n.name, n.name) for n in b.nodes if n.op != "input"])
    got = driver.build(graph, {})(**{f"x_{op}": x[op][None] for op in OPS})
    for op in OPS:
        check(op, SETTINGS.get(op, {}), x[op], got[op][0], got[f"{op}_slope"][0])


def test_the_interpreter_keeps_every_digit_of_the_definitions():
    x = np.concatenate([-np.exp2(np.arange(-1000.0, 9)), np.exp2(np.arange(-1000.0, 9))])
    x = x[np.abs(x) > 0]
    for op in ("elu", "selu", "sigmoid", "silu", "tanh", "exp"):
        (value,) = expressions(node_of(op))
        with np.errstate(all="ignore"):
            want, want_slope = truth(op, x, SETTINGS.get(op, {}))
        np.testing.assert_allclose(ex.evaluate(value, {"a0": x}), want, rtol=1e-14)
        got = ex.evaluate(slope(node_of(op), value, 0), {"a0": x, "y": want})
        np.testing.assert_allclose(np.broadcast_to(got, x.shape), want_slope, rtol=1e-13)
