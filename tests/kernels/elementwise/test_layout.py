"""Layout conversion, copies and dropout: all exact."""

import numpy as np
import pytest

from cnnc.kernels.cpu import target
from cnnc.kernels.cpu.elementwise.layout_plan import (
    plan_block,
    plan_concat,
    plan_copy,
    plan_dropout,
    plan_fill,
    plan_move_channels,
    plan_slice,
    plan_unblock,
)
from tests.kernels.launching import SIZES, TARGETS, block, check_guards, guarded, launch, place, unblock


def philox(counter, key):
    """Philox4x32-10: counter of four and key of two arrays of 32-bit words."""
    c, k = [np.asarray(word, np.uint64) for word in counter], [np.asarray(word, np.uint64) for word in key]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & low, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return c


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("channels", SIZES)
def test_there_and_back(name, channels):
    lanes = target.named(name).lanes
    rng = np.random.default_rng(channels)
    for space in ((1, 1), (1, 7), (5, 7), (16, 16), (33, 67)):
        x = rng.standard_normal((2, channels, *space)).astype(np.float32)
        blocked = guarded(block(x, lanes).shape)
        launch(plan_block(target.named(name), x.shape), name, {"x": place(x), "y": blocked})
        np.testing.assert_array_equal(blocked, block(x, lanes))
        check_guards(blocked)
        # Garbage in the padded lanes must not come back.
        plain = guarded(x.shape)
        launch(plan_unblock(target.named(name), x.shape), name, {"x": blocked, "y": plain})
        np.testing.assert_array_equal(plain, x)
        check_guards(plain)


@pytest.mark.parametrize("name", TARGETS)
def test_copies(name):
    this = target.named(name)
    rng = np.random.default_rng(0)
    for axis, shapes in (
        (1, [(2, 3, 5, 7), (2, 1, 5, 7), (2, 17, 5, 7)]),
        (0, [(2, 3), (5, 3)]),
        (3, [(2, 3, 5, 1), (2, 3, 5, 9)]),
    ):
        parts = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
        want = np.concatenate(parts, axis)
        y = guarded(want.shape)
        for plan, part in zip(plan_concat(this, shapes, axis, False), parts, strict=True):
            launch(plan, name, {"y0": y, "a0": place(part)})
        np.testing.assert_array_equal(y, want)
        check_guards(y)
    parts = [rng.standard_normal((2, c, 3, 5)).astype(np.float32) for c in (32, 16, 7)]
    want = np.concatenate(parts, 1)
    y = guarded(block(want, this.lanes).shape)
    for plan, part in zip(plan_concat(this, [p.shape for p in parts], 1, True), parts, strict=True):
        launch(plan, name, {"y0": y, "a0": place(block(part, this.lanes))})
    np.testing.assert_array_equal(unblock(y, 55), want)
    x = rng.standard_normal((3, 5, 7, 9)).astype(np.float32)
    y = guarded((2, 3, 4, 5))
    launch(plan_slice(this, x.shape, (1, 2, 0, 3), y.shape), name, {"y0": y, "a0": place(x)})
    np.testing.assert_array_equal(y, x[1:, 2:, :4, 3:8])
    check_guards(y)
    large = rng.standard_normal((3, 70001)).astype(np.float32)
    y = guarded(large.shape)
    launch(plan_copy(this, large.shape, (70001, 1), (70001, 1)), name, {"y0": y, "a0": place(large)})
    np.testing.assert_array_equal(y, large)
    y = guarded(1001)
    launch(plan_fill(this, 1001, 2.5), name, {"y": y})
    assert (y == 2.5).all()
    check_guards(y)


@pytest.mark.parametrize("name", TARGETS)
def test_blocks_that_are_not_whole(name):
    this, rng = target.named(name), np.random.default_rng(2)
    for counts in ((3, 8), (1, 1), (17, 16, 5), (7, 33, 1, 15), (5,), (24, 58)):
        parts = [rng.standard_normal((2, c, 3, 5)).astype(np.float32) for c in counts]
        want = np.concatenate(parts, 1)
        y = guarded(block(want, this.lanes).shape)
        for plan, part in zip(plan_concat(this, [p.shape for p in parts], 1, True), parts, strict=True):
            launch(plan, name, {plan.buffers[0]: y, plan.buffers[1]: place(block(part, this.lanes))})
        np.testing.assert_array_equal(unblock(y, want.shape[1]), want)
        check_guards(y)
        start = 0
        for part in parts:
            back = guarded(block(part, this.lanes).shape)
            plan = plan_move_channels(this, want.shape, start, part.shape, 0, part.shape[1])
            launch(plan, name, {"x": y, "y": back}, order=range(plan.chunks)[::-1])
            np.testing.assert_array_equal(unblock(back, part.shape[1]), part)
            check_guards(back)
            start += part.shape[1]


def test_philox_known_answer():
    words = philox([0, 0, 0, 0], [0, 0])
    assert [int(word) for word in words] == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("name", TARGETS)
def test_dropout_is_the_same_in_every_layout(name):
    this, rng = target.named(name), np.random.default_rng(1)
    state = np.array([0x123456789ABCDEF, 41], np.int64)
    for shape in ((1, 1, 1, 1), (2, 5, 3, 7), (3, 17, 33, 5), (7, 1001)):
        x = rng.standard_normal(shape).astype(np.float32)
        p, salt = 0.3, 9
        index = np.arange(x.size, dtype=np.uint64)
        words = philox(
            [index, index * 0, index * 0 + np.uint64(salt), index * 0 + np.uint64(41)], [0x89ABCDEF, 0x1234567]
        )
        want = np.where(words[0].reshape(shape) >= round(p * 2**32), x * np.float32(1 / (1 - p)), 0)
        y = guarded(shape)
        launch(plan_dropout(this, shape, False, p, salt), name, {"state": state, "x": place(x), "y": y})
        np.testing.assert_array_equal(y, want)
        check_guards(y)
        y = guarded(block(x, this.lanes).shape)
        launch(
            plan_dropout(this, shape, True, p, salt), name, {"state": state, "x": place(block(x, this.lanes)), "y": y}
        )
        np.testing.assert_array_equal(unblock(y, shape[1]), want)
    assert abs((want == 0).mean() - p) < 0.02


def test_the_reference_counts_beyond_32_bits():
    """Elements 2^32 apart draw numbers of their own, as in the kernel: the second counter is index / 2^32."""
    from cnnc.ops.dropout import philox as reference

    index = np.array([0, 5, 2**32 - 1, 2**32, 2**32 + 5, 7 * 2**32 + 5], np.uint64)
    low, high = index & np.uint64(0xFFFFFFFF), index >> np.uint64(32)
    words = philox([low, high, index * 0 + np.uint64(9), index * 0 + np.uint64(41)], [0x89ABCDEF, 0x1234567])
    found = reference(0x123456789ABCDEF, index, 9, 41)
    np.testing.assert_array_equal(found, words[0].astype(np.uint32))
    assert len(set(found.tolist())) == len(index)
