"""Convolution plans run on NumPy arrays, and the float64 definitions that they are compared with."""

from __future__ import annotations

import numpy as np

from cnnc.kernels.cpu import FAMILIES, target
from cnnc.kernels.cpu.code.vector import NOTE
from cnnc.kernels.cpu.conv import plan as conv_plans
from cnnc.kernels.cpu.conv.arguments import pack_plan
from cnnc.kernels.cpu.conv.bands_plan import BandedWeights, band_pack_plan
from cnnc.kernels.cpu.conv.gradient_plan import weight_gradient_plan
from cnnc.kernels.cpu.conv.spread_plan import SpreadWeights, spread_pack_plan
from cnnc.kernels.cpu.problem import Conv, Epilogue, output_size
from tests.kernels.launching import block, check_guards, function, guarded, place, unblock
from tests.kernels.packing import pack_bands, pack_spread, pack_weights

SAME = ((1, 1), (1, 1))
NONE = ((0, 0), (0, 0))


def run(plan, name, buffers, offsets=None, kept=False):
    """Run every chunk, the last first, with poisoned scratch; or with what the chunk before `kept` there, the first first.
    `offsets`: floats to add to the address of a buffer.
    """
    offsets = offsets or {}
    known = {**plan.arguments, **{key: table.ctypes.data for key, table in plan.tables.items()}}
    for key, array in buffers.items():
        known[key] = 0 if array is None else array.ctypes.data + 4 * offsets.get(key, 0)
    names = FAMILIES[plan.kernel.family].arguments
    operands = sorted(set(known) - set(names))
    arguments = np.array([known[key] for key in (*names, *operands)], np.int64)
    store = np.zeros(plan.scratch + NOTE + 64, np.float32)
    first = NOTE + -store.ctypes.data % 64 // 4
    store[first + plan.scratch :] = 12345
    store[first : first + plan.scratch] = np.nan
    for chunk in range(plan.chunks) if kept else reversed(range(plan.chunks)):
        if not kept:
            store[:first] = 0
            store[first : first + plan.scratch] = np.nan
        function(plan.kernel, name)(arguments.ctypes.data, chunk, store[first:].ctypes.data)
    assert (store[first + plan.scratch :] == 12345).all(), "the kernel wrote past its scratch"


def windows(x, kernel, stride, padding, dilation, out):
    """[taps, N, C, spatial...]: the inputs that each tap meets, zero outside."""
    rank = x.ndim - 2
    grown = x.astype(np.float64)
    wide = [(abs(a) + k * d, abs(b) + k * d) for (a, b), k, d in zip(padding, kernel, dilation, strict=True)]
    grown = np.pad(grown, [(0, 0), (0, 0), *wide])
    result = []
    for tap in np.ndindex(*kernel):
        cut = [slice(None), slice(None)]
        for axis in range(rank):
            start = wide[axis][0] - padding[axis][0] + tap[axis] * dilation[axis]
            cut.append(slice(start, start + (out[axis] - 1) * stride[axis] + 1, stride[axis]))
        result.append(grown[tuple(cut)])
    return np.stack(result)


def forward(x, w, stride, padding, dilation, groups):
    """float64 convolution in any number of dimensions."""
    kernel = w.shape[2:]
    out = [output_size(*g) for g in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)]
    seen = windows(x, kernel, stride, padding, dilation, out)
    parts = []
    for g in range(groups):
        own = (
            w[g * len(w) // groups : (g + 1) * len(w) // groups]
            .astype(np.float64)
            .reshape(len(w) // groups, w.shape[1], -1)
        )
        parts.append(np.einsum("tnc...,kct->nk...", seen[:, :, g * w.shape[1] : (g + 1) * w.shape[1]], own))
    return np.concatenate(parts, axis=1)


def gradients(x, w, dy, stride, padding, dilation, groups):
    """(dx, dw) in float64, by the transposed sums."""
    kernel, out = w.shape[2:], dy.shape[2:]
    seen = windows(x, kernel, stride, padding, dilation, out)
    dw = np.zeros(w.shape)
    dx = np.zeros(x.shape)
    per_group, dy = len(w) // groups, dy.astype(np.float64)
    for g in range(groups):
        outs, ins = slice(g * per_group, (g + 1) * per_group), slice(g * w.shape[1], (g + 1) * w.shape[1])
        flat = seen[:, :, ins].reshape(*seen.shape[:2], w.shape[1], -1)
        sums = np.einsum("tncs,nks->kct", flat, dy[:, outs].reshape(len(x), per_group, -1))
        dw[outs] = sums.reshape(per_group, *w.shape[1:])
        for tap in np.ndindex(*kernel):
            part = np.einsum("nk...,kc->nc...", dy[:, outs], w[(outs, slice(None), *tap)].astype(np.float64))
            for position in np.ndindex(*out):
                at = [
                    p * s + t * d - a
                    for p, s, t, d, (a, _) in zip(position, stride, tap, dilation, padding, strict=True)
                ]
                if all(0 <= i < size for i, size in zip(at, x.shape[2:], strict=True)):
                    dx[(slice(None), ins, *at)] += part[(..., *position)]
    return dx, dw


def error_of_long_sums(left, right):
    """The root mean square error of float32 sums over the first axis, each in one accumulator from end to end, of the products of
    columns of `left` with columns of `right`: of a thousand pairs that are drawn.
    """
    rng = np.random.default_rng(0)
    few = min(right.shape[1], 32)
    left = left[:, rng.integers(0, left.shape[1], 1024 // few)].astype(np.float64)
    right = right[:, rng.integers(0, right.shape[1], 32) if few == 32 else range(few)].astype(np.float64)
    products = left[:, :, None] * right[:, None]
    sums = np.add.accumulate(products.astype(np.float32))[-1]
    return np.sqrt(np.mean(np.square(sums - products.sum(0))))


def error_of_long_convolution(x, w, stride, padding, dilation):
    """`error_of_long_sums` of a convolution of one group."""
    kernel = w.shape[2:]
    out = [output_size(*g) for g in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True)]
    seen = np.moveaxis(windows(x, kernel, stride, padding, dilation, out), 2, 0)  # [C, taps, N, ...]
    products = w.shape[1] * seen.shape[1]
    return error_of_long_sums(seen.reshape(products, -1), w.reshape(len(w), products).T)


def error_of_long_weight_gradient(x, dy, kernel, stride, padding, dilation):
    """`error_of_long_sums` of the gradient of its weights."""
    seen = np.moveaxis(
        windows(x, kernel, stride, padding, dilation, dy.shape[2:]), (0, 2), (-2, -1)
    )  # [N, ..., taps, C]
    pixels = len(dy) * dy[0, 0].size
    return error_of_long_sums(seen.reshape(pixels, -1), np.moveaxis(dy, 1, -1).reshape(pixels, -1))


def integers(shape, seed):
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def reals(shape, seed):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def conv_of(shape, filters, kernel, *rest):
    """The convolution of a tensor of that shape. rest: stride, padding, dilation, groups."""
    images, channels, *size = shape
    return Conv(images, channels, tuple(size), filters, tuple(kernel), *rest)


def direct(name, x, w, bias=None, stride=(1, 1), padding=NONE, dilation=(1, 1), groups=1, plain=False, expression=None, extra=(),
           packed_by_kernel=False):  # fmt: skip
    """The forward kernel's result in logical shape. `extra`: operands, of rank 4 (full) or 1 (channel)."""
    goal = target.named(name)
    kinds = tuple("full" if a.ndim == 4 else "channel" for a in extra)
    conv = conv_of(x.shape, len(w), w.shape[2:], stride, padding, dilation, groups)
    plan = conv_plans.direct_plan(goal, conv, Epilogue(expression, kinds), plain)
    packed = pack(name, w, plan.weights) if packed_by_kernel else place(packed_by_numpy(w, plan.weights))
    y = guarded((len(x), -(-len(w) // goal.lanes), *conv.out, goal.lanes))
    buffers = {
        "x": place(x if plain else block(x, goal.lanes)),
        "w": packed,
        "bias": None if bias is None else place(bias),
        "y": y,
    }
    for i, array in enumerate(extra):
        buffers[f"a{i}"] = place(block(array, goal.lanes) if array.ndim == 4 else array)
    run(plan.step, name, buffers)
    check_guards(y)
    return unblock(y, len(w))


PACKING = {BandedWeights: (pack_bands, band_pack_plan), SpreadWeights: (pack_spread, spread_pack_plan)}


def packed_by_numpy(w, form):
    return PACKING.get(type(form), (pack_weights, None))[0](w, form)


def pack(name, w, form):
    source, packed = place(w), guarded((form.floats,))
    plan = PACKING.get(type(form), (None, pack_plan))[1](form)
    run(plan, name, {"source": source, "packed": packed})
    check_guards(packed)
    return packed


def data_gradient(
    name, shape, w, dy, stride=(1, 1), padding=NONE, dilation=(1, 1), groups=1, expression=None, extra=()
):
    goal = target.named(name)
    kinds = tuple("full" if a.ndim == 4 else "channel" for a in extra)
    conv = conv_of(shape, len(w), w.shape[2:], stride, padding, dilation, groups)
    dx = guarded((shape[0], -(-shape[1] // goal.lanes), *shape[2:], goal.lanes))
    source = place(block(dy, goal.lanes))
    buffers = {f"a{i}": place(block(a, goal.lanes) if a.ndim == 4 else a) for i, a in enumerate(extra)}
    for parity in conv_plans.data_gradient_plans(goal, conv, Epilogue(expression, kinds)):
        packed = pack(name, w, parity.plan.weights)
        np.testing.assert_array_equal(packed, packed_by_numpy(w, parity.plan.weights))
        offsets = {"y": parity.offset, **{f"a{i}": parity.offset for i, kind in enumerate(kinds) if kind == "full"}}
        run(parity.plan.step, name, {"x": source, "w": packed, "bias": None, "y": dx, **buffers}, offsets)
    check_guards(dx)
    return unblock(dx, shape[1])


def weight_gradient(name, x, dy, shape, stride=(1, 1), padding=NONE, dilation=(1, 1), groups=1, plain=False):
    goal = target.named(name)
    conv = conv_of(x.shape, shape[0], shape[2:], stride, padding, dilation, groups)
    plan = weight_gradient_plan(goal, conv, plain)
    dw = guarded((plan.arguments.get("parts", 1), *shape))
    run(plan, name, {"x": place(x if plain else block(x, goal.lanes)), "dy": place(block(dy, goal.lanes)), "dw": dw})
    check_guards(dw)
    return dw.sum(0)
