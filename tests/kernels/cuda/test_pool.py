"""Windows, and their gradients, against the references of the ops."""

from __future__ import annotations

import numpy as np
import pytest

import cnnc.ops  # noqa: F401  (registers the ops)
from cnnc.ir.graph import Attributes
from cnnc.ir.op import OPS
from cnnc.ir.types import TensorType
from cnnc.kernels.cpu.problem import Pool
from cnnc.kernels.cuda.pool import windows_plan as wp
from cnnc.ops.pool import window_of
from tests.kernels.cuda.running import Array, block, blocked_like, integers, run, unblock

CASES = {
    "2 by 2": ((2, 8, 4, 6), {"kernel": (2, 2)}),
    "3 by 3, stride 2": ((1, 5, 7, 8), {"kernel": (3, 3), "stride": (2, 2), "padding": ((1, 1), (1, 1))}),
    "ceil": ((1, 9, 6, 5), {"kernel": (2, 3), "stride": (2, 2), "padding": ((0, 0), (1, 1)), "ceil_mode": True}),
    "overlapping": ((1, 3, 5, 4), {"kernel": (3, 2), "stride": (1, 1)}),
    "one axis": ((2, 6, 9), {"kernel": (3,), "stride": (2,)}),
    "three axes": ((1, 3, 4, 3, 4), {"kernel": (2, 2, 2), "stride": (2, 1, 2)}),
}


def reference(op: str, operands: list[Array], attributes: dict[str, object], shape: tuple[int, ...]) -> Array:
    (found,) = OPS[op].reference(operands, Attributes(attributes), [TensorType("f32", shape)])
    return np.asarray(found)


def attributes_of(op: str, given: dict[str, object]) -> dict[str, object]:
    known = {name: default for name, default in OPS[op].attributes.items()}
    return {**known, **{name: value for name, value in given.items() if name in known}}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("blocked", [True, False], ids=["blocked", "plain"])
def test_pools(name: str, blocked: bool) -> None:
    shape, given = CASES[name]
    x = integers(*shape)
    window = window_of({"stride": None, "padding": None, "dilation": None, "ceil_mode": False, **given}, len(shape) - 2)
    out = (*shape[:2], *window.output(shape[2:]))
    pool = Pool(shape, out, blocked, window.kernel, window.stride, window.padding, window.dilation)
    dy = integers(*out)
    size = {"size": shape[2:]}
    put = block if blocked else np.ascontiguousarray

    def compare(
        launch: object, operands: dict[str, Array], shape: tuple[int, ...], expected: Array, exact: bool
    ) -> None:
        like = blocked_like(shape) if blocked else np.empty(shape, np.float32)
        y = run(launch, {k: put(v) for k, v in operands.items()}, {"y": like})["y"]  # type: ignore[arg-type]
        found = unblock(y, shape[1]) if blocked else y
        assert np.array_equal(found, expected) if exact else np.allclose(found, expected, rtol=1e-6, atol=1e-6)

    most = attributes_of("maxpool", given)
    compare(wp.plan_maxpool(pool), {"x": x}, out, reference("maxpool", [x], most, out), True)
    expected = reference("maxpool_gradient", [x, dy], {**most, **size}, shape)
    compare(wp.plan_maxpool_gradient(pool), {"x": x, "dy": dy}, shape, expected, True)
    for more in ({"count_include_pad": True}, {"count_include_pad": False}, {"divisor_override": 4}):
        mean = attributes_of("avgpool", {**given, **more})
        include, divisor = bool(mean["count_include_pad"]), mean["divisor_override"]
        compare(wp.plan_avgpool(pool, include, divisor), {"x": x}, out, reference("avgpool", [x], mean, out), False)
        expected = reference("avgpool_gradient", [dy], {**mean, **size}, shape)
        compare(wp.plan_avgpool_gradient(pool, include, divisor), {"dy": dy}, shape, expected, False)


def test_numbers_that_are_none() -> None:
    """NaN wins, the first of several; what is really -inf comes before padding."""
    x = np.full((1, 1, 4, 4), -np.inf, np.float32)
    x[0, 0, 0, 1], x[0, 0, 1, 0], x[0, 0, 2, 2] = np.nan, np.nan, 3
    attributes = attributes_of("maxpool", {"kernel": (2, 2), "padding": ((1, 1), (1, 1))})
    window = window_of(attributes, 2)
    out = (1, 1, *window.output((4, 4)))
    pool = Pool((1, 1, 4, 4), out, False, window.kernel, window.stride, window.padding, window.dilation)
    y = run(wp.plan_maxpool(pool), {"x": x}, {"y": np.empty(out, np.float32)})["y"]
    assert np.array_equal(y, reference("maxpool", [x], attributes, out), equal_nan=True)
    dy = integers(*out) + 20
    dx = run(wp.plan_maxpool_gradient(pool), {"x": x, "dy": dy}, {"y": x})["y"]
    assert np.array_equal(dx, reference("maxpool_gradient", [x, dy], {**attributes, "size": (4, 4)}, x.shape))


def test_dilation() -> None:
    x, given = (
        integers(1, 8, 9, 7),
        {"kernel": (3, 2), "stride": (1, 2), "dilation": (2, 3), "padding": ((1, 1), (0, 0))},
    )
    attributes = attributes_of("maxpool", given)
    window = window_of(attributes, 2)
    out = (1, 8, *window.output((9, 7)))
    pool = Pool(x.shape, out, True, window.kernel, window.stride, window.padding, window.dilation)
    y = run(wp.plan_maxpool(pool), {"x": block(x)}, {"y": blocked_like(out)})["y"]
    assert np.array_equal(unblock(y, 8), reference("maxpool", [x], attributes, out))
    dy = integers(*out)
    dx = run(wp.plan_maxpool_gradient(pool), {"x": block(x), "dy": block(dy)}, {"y": block(x)})["y"]
    assert np.array_equal(
        unblock(dx, 8), reference("maxpool_gradient", [x, dy], {**attributes, "size": (9, 7)}, x.shape)
    )
