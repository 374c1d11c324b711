"""Convolutions as products of matrices: to the bit on whole numbers, over sizes, tails, strides, padding, dilation and groups."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

from cnnc.ir import expression as ex
from cnnc.kernels.cpu.problem import BARE, Conv, Epilogue
from cnnc.kernels.cuda.code.compile import assemble
from cnnc.kernels.cuda.conv import implicit_plan as ip
from cnnc.kernels.cuda.conv import weight_gradient_plan as wg
from cnnc.kernels.cuda.conv.tile import ENTRIES, TILES, Tile
from cnnc.kernels.cuda.elementwise.map_plan import Space, plan_map
from cnnc.kernels.cuda.target import CHIPS, LANES, LEAST
from tests.kernels.cuda.running import Array, block, blocked_like, compiled, integers, normal, run, unblock

SMALL = Tile(32, 32, 1, 2)


def convolved(conv: Conv, x: Array, w: Array) -> Array:
    """The definition, in float64."""
    axes, groups = len(conv.size), conv.groups
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *[(max(a, 0), max(b, 0)) for a, b in conv.padding]])
    y = np.zeros((conv.images, groups, conv.filters // groups, *conv.out))
    parts = padded.reshape(conv.images, groups, -1, *padded.shape[2:])
    weights = w.astype(np.float64).reshape(groups, conv.filters // groups, -1, *conv.kernel)
    for tap in itertools.product(*(range(k) for k in conv.kernel)):
        window = tuple(
            slice(t * d + max(0, -before), t * d + max(0, -before) + s * (o - 1) + 1, s)
            for t, d, s, o, (before, _) in zip(tap, conv.dilation, conv.stride, conv.out, conv.padding, strict=True)
        )
        y += np.einsum("ngc...,gfc->ngf...", parts[(..., *window)], weights[(..., *tap)])
    assert len(conv.kernel) == axes
    return y.reshape(conv.images, conv.filters, *conv.out)


def turned(conv: Conv, dy: Array, w: Array) -> Array:
    """The gradient of x, from the convolution's own linearity: each number of dy spreads the weights."""
    dx = np.zeros(
        (
            conv.images,
            conv.groups,
            conv.channels // conv.groups,
            *[n + sum(p) + 64 for n, p in zip(conv.size, conv.padding, strict=True)],
        )
    )
    parts = dy.astype(np.float64).reshape(conv.images, conv.groups, -1, *conv.out)
    weights = w.astype(np.float64).reshape(conv.groups, conv.filters // conv.groups, -1, *conv.kernel)
    for tap in itertools.product(*(range(k) for k in conv.kernel)):
        window = tuple(
            slice(t * d, t * d + s * (o - 1) + 1, s)
            for t, d, s, o in zip(tap, conv.dilation, conv.stride, conv.out, strict=True)
        )
        dx[(..., *window)] += np.einsum("ngf...,gfc->ngc...", parts, weights[(..., *tap)])
    own = tuple(slice(before, before + n) for n, (before, _) in zip(conv.size, conv.padding, strict=True))
    return dx[(..., *own)].reshape(conv.images, conv.channels, *conv.size)


def weights_of(conv: Conv, make: object = integers) -> Array:
    return make(conv.filters, conv.channels // conv.groups, *conv.kernel)  # type: ignore[operator]


def compute(
    problem: ip.Problem, taps: list[ip.Taps], x: Array, w: Array, shape: tuple[int, ...], chosen: tuple[Tile, int] | None,
    epilogue: Epilogue = BARE, operands: dict[str, Array] | None = None,
) -> Array:  # fmt: skip
    """All launches of a convolution: packing, the products, and the sum of their parts."""
    y = blocked_like(shape)
    y[:] = np.nan
    for one in taps:
        product = ip.plan(LEAST, problem, one, epilogue, chosen)
        packed = run(
            ip.plan_pack(product.weights), {"source": w}, {"packed": np.zeros(product.weights.floats, np.float32)}
        )
        given = {"x": block(x), "weights": packed["packed"]}
        if product.parts == 1:
            given |= operands or {}
            found = run(product.launch, {**given, "y": y}, {"y": y}, {"y": "y"})
            y = found["y"]
            assert found.figures.shared_cycles == found.figures.shared_least, "conflicts of banks"
            continue
        sums = run(product.launch, given, {"y": np.zeros((product.parts, *y.shape), np.float32)})["y"]
        space = Space(shape, True)
        views = [space.view(shape, True, start=i * y.size) for i in range(product.parts)]
        total = ex.parse(" + ".join(f"a{i}" for i in range(product.parts)))
        y = run(
            plan_map(space, [space.view(shape, True)], views, [total]),
            {f"a{i}": sums for i in range(product.parts)},
            {"y0": y},
        )["y0"]
    return unblock(y, shape[1])


CASES = {
    "one pixel": Conv(1, 8, (1, 1), 8, (1, 1)),
    "1x1": Conv(2, 12, (5, 3), 20, (1, 1)),
    "3x3": Conv(1, 8, (6, 6), 8, (3, 3), padding=((1, 1), (1, 1))),
    "tails": Conv(3, 5, (5, 4), 37, (3, 3), padding=((1, 1), (1, 1))),
    "stride": Conv(2, 9, (9, 7), 13, (3, 3), (2, 2), ((1, 1), (1, 1))),
    "stride 3, kernel 2": Conv(1, 8, (8, 9), 8, (2, 2), (3, 3)),
    "uneven": Conv(1, 3, (7, 8), 6, (2, 3), (2, 1), ((0, 1), (2, 0)), (1, 2)),
    "dilation": Conv(1, 9, (9, 9), 17, (3, 3), padding=((2, 2), (2, 2)), dilation=(2, 2)),
    "groups": Conv(2, 32, (4, 4), 48, (3, 3), padding=((1, 1), (1, 1)), groups=2),
    "one axis": Conv(2, 7, (11,), 9, (5,), (2,), ((2, 2),), (1,)),
    "three axes": Conv(1, 5, (3, 4, 5), 9, (2, 3, 3), (1, 2, 1), ((1, 0), (1, 1), (1, 1)), (1, 1, 1)),
    "many channels": Conv(1, 70, (2, 2), 8, (3, 3), padding=((1, 1), (1, 1))),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_forward_and_back(name: str) -> None:
    """One part, then the sums in three; and the gradient of x."""
    conv = CASES[name]
    x, w = integers(conv.images, conv.channels, *conv.size), weights_of(conv)
    dy = integers(conv.images, conv.filters, *conv.out)
    for parts in (1, 3):
        y = compute(ip.of_forward(conv), [ip.forward(conv)], x, w, dy.shape, (SMALL, parts))
        assert np.array_equal(y, convolved(conv, x, w))
    for parts in (1, 2) if name == "tails" else (1,):
        dx = compute(ip.of_backward(conv), ip.backward(conv), dy, w, x.shape, (SMALL, parts))
        assert np.array_equal(dx, turned(conv, dy, w))


def weight_gradient(conv: Conv, x: Array, dy: Array, chosen: tuple[wg.Tile, int] | None) -> Array:
    """The launch, and the map that adds up its parts."""
    made = wg.plan(LEAST, conv, chosen)
    groups, taps, rows, row = made.shape
    sums = np.full((made.parts, *made.shape), np.nan, np.float32)
    found = run(made.launch, {"x": block(x), "dy": block(dy)}, {"dw": sums})
    assert found.figures.shared_cycles == found.figures.shared_least, "conflicts of banks"
    one = conv.of_group
    space = Space((groups, one.filters, one.channels, taps))
    steps = (taps * rows * row, row, 1, rows * row)
    views = [space.view(space.shape, steps=steps, start=i * groups * taps * rows * row) for i in range(made.parts)]
    total = ex.parse(" + ".join(f"a{i}" for i in range(made.parts)))
    like = np.empty(space.shape, np.float32)
    given = {f"a{i}": found["dw"] for i in range(made.parts)}
    return run(plan_map(space, [space.view(space.shape)], views, [total]), given, {"y0": like})["y0"]


@pytest.mark.parametrize("name", CASES)
def test_weight_gradient(name: str) -> None:
    """Against each number of dy on its own: the convolution is linear in its weights."""
    conv = CASES[name]
    x, dy = integers(conv.images, conv.channels, *conv.size), integers(conv.images, conv.filters, *conv.out)
    padded = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *[(max(a, 0), max(b, 0)) for a, b in conv.padding]])
    parts = padded.reshape(conv.images, conv.groups, -1, *padded.shape[2:])
    given = dy.reshape(conv.images, conv.groups, -1, *conv.out)
    expected = np.zeros((conv.groups, conv.filters // conv.groups, conv.channels // conv.groups, *conv.kernel))
    for tap in itertools.product(*(range(k) for k in conv.kernel)):
        window = tuple(
            slice(t * d, t * d + s * (o - 1) + 1, s)
            for t, d, s, o in zip(tap, conv.dilation, conv.stride, conv.out, strict=True)
        )
        flat = [a.reshape(*a.shape[:3], -1) for a in (given, parts[(..., *window)])]
        expected[(..., *tap)] = np.einsum("ngfp,ngcp->gfc", *flat)
    for number, cut in enumerate((1, 3)):
        dw = weight_gradient(conv, x, dy, (wg.TILES[2 - number], cut))
        assert np.array_equal(dw.reshape(expected.shape), expected)


@pytest.mark.parametrize("tile", TILES, ids=lambda t: f"{t.pixels}x{t.filters}")
def test_tiles(tile: Tile) -> None:
    conv = Conv(1, 11, (9, 15), 133, (1, 3), padding=((0, 0), (1, 1)))
    x, w = integers(1, 11, 9, 15), weights_of(conv)
    y = compute(ip.of_forward(conv), [ip.forward(conv)], x, w, (1, 133, 9, 15), (tile, 1))
    assert np.array_equal(y, convolved(conv, x, w))


def test_epilogue() -> None:
    conv = Conv(2, 9, (3, 4), 13, (3, 3), padding=((1, 1), (1, 1)))
    x, w = integers(2, 9, 3, 4), weights_of(conv)
    bias, full, number = integers(13), integers(2, 13, 3, 4), integers(1)
    epilogue = Epilogue(ex.parse("max(y + a0, 0) * a2 + a1 + 1"), ("channel", "full", "scalar"))
    operands = {"a0": bias, "a1": block(full), "a2": number}
    y = compute(ip.of_forward(conv), [ip.forward(conv)], x, w, (2, 13, 3, 4), (SMALL, 1), epilogue, operands)
    expected = np.maximum(convolved(conv, x, w) + bias[:, None, None], 0) * number + full + 1
    assert np.array_equal(y, expected)


def test_floats() -> None:
    conv = Conv(1, 40, (5, 5), 16, (3, 3), padding=((1, 1), (1, 1)))
    x, w = normal(1, 40, 5, 5), weights_of(conv, normal)
    y = compute(ip.of_forward(conv), [ip.forward(conv)], x, w, (1, 16, 5, 5), None)
    expected = convolved(conv, x, w)
    assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()


def test_choice() -> None:
    """Few outputs of long sums are cut into parts; many fill the chip with the largest tiles."""
    chip = CHIPS["sm_90"]
    tile, parts = ip.choose(chip, 49, 512, 1, 9 * 64)
    assert parts == ip.MOST_PARTS
    assert tile.pixels <= 64
    assert ip.choose(chip, 32 * 56 * 56, 256, 1, 9 * 32) == (TILES[0], 1)
    for conv in CASES.values():
        product = ip.plan(chip, ip.of_forward(conv), ip.forward(conv))
        assert product.launch.chunks >= product.parts >= 1


def test_machine_code() -> None:
    """All products of a step, no float64; registers that leave room for as many blocks as are wanted, and none spilled."""
    conv = Conv(1, 11, (9, 15), 133, (1, 3), padding=((0, 0), (1, 1)))
    for tile in TILES:
        product = ip.plan(LEAST, ip.of_forward(conv), ip.forward(conv), chosen=(tile, 1))
        image, _ = compiled(product.launch.kernel)
        assert ".f64" not in image.text
        assert image.text.count("fma.rn.f32") == ENTRIES * LANES * tile.tall * tile.wide
        for chip in ("sm_80", "sm_90"):
            made = assemble(image.text, CHIPS[chip])
            if made is None:
                pytest.skip("registers are told by ptxas, which is not on the path")
            assert "0 bytes spill stores, 0 bytes spill loads" in made[1]
            used = int(re.search(r"Used (\d+) registers", made[1])[1])  # type: ignore[index]
            assert used * tile.threads * tile.resident <= 65536
