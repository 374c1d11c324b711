"""From the shapes of pooling to launches. Nothing here imports Numba."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .. import Kernel
from ..code.expression import Expression
from ..elementwise.map_plan import Operand, plan_map
from ..launches import Launch, Shape, blocks, divide, split
from ..problem import Pool
from ..target import Target
from .across_plan import plan_across
from .bands_plan import Band, plan_bands
from .uneven_plan import Windows, plan_uneven

Window = tuple[int, int]
AXES = ("depth", "height", "width")
POOL_GEOMETRY = (
    "rows", "per_chunk",
    *AXES, *(f"out_{a}" for a in AXES), *(f"kernel_{a}" for a in AXES), *(f"stride_{a}" for a in AXES), *(f"pad_{a}" for a in AXES),
    *(f"dilation_{a}" for a in AXES), *(f"pad_end_{a}" for a in AXES), "channels",
)  # fmt: skip
# Max pooling windows of at most so many rows and columns are unrolled.
LARGEST = 3
WIDE = 8  # columns of windows of plain pixels from which on a vector is taken across


def window_of(kernel: Sequence[int], dilated: bool) -> Window | None:
    """The rows and columns of a window that is unrolled; None for larger or dilated ones, and in three dimensions."""
    if dilated or len(kernel) > 2 or max(kernel) > LARGEST:
        return None
    rows, columns = (1, *kernel) if len(kernel) == 1 else kernel
    return rows, columns


def _pool(target: Target, family: str, parameters: dict[str, object], buffers: tuple[str, ...], pool: Pool) -> Launch:
    def three(values: Sequence[int], missing: int) -> list[int]:
        return [missing] * (3 - len(values)) + list(values)

    shape, kernel, gradient = pool.shape, pool.kernel, family.endswith("gradient")
    planes = shape[0] * (blocks(shape[1], target) if pool.blocked else shape[1])
    out = three(pool.out_shape[2:], 1)
    rows = planes * out[0] * out[1]
    work = out[2] * math.prod(kernel) * (target.lanes if pool.blocked else 4)
    per_chunk = divide(rows, split(rows * work, 8192, 128)) if rows else 1
    image = rows // max(1, shape[0])
    # as many chunks for each image, where their size stays about the same
    even = [part for part in range(1, image + 1) if image % part == 0 and per_chunk <= 2 * part <= 4 * per_chunk]
    per_chunk = min(even, key=lambda part: abs(math.log(part / per_chunk)), default=per_chunk)
    before, after = zip(*pool.padding, strict=True)
    values = [
        rows, per_chunk, *three(shape[2:], 1), *out, *three(kernel, 1), *three(pool.stride, 1), *three(before, 0),
        *three(pool.dilation, 1), *three(after, 0), shape[1],
    ]  # fmt: skip
    arguments = dict(zip(POOL_GEOMETRY, values, strict=True)) | dict.fromkeys(buffers, 0)
    chunks = planes if gradient else divide(rows, per_chunk)
    empty = math.prod(shape) == 0 or (math.prod(pool.out_shape) == 0 and not gradient)
    links = shape[0] if gradient or (image and image % per_chunk == 0) else 0
    kernel_ = Kernel(family, (("blocked", pool.blocked), *parameters.items()))
    return Launch(kernel_, arguments, buffers, 0 if empty else chunks, links=links)


def plan_maxpool(target: Target, pool: Pool, gradient: bool = False) -> Launch:
    """Max pooling of `x` to `y`, or (gradient) `x`, `dy` to `dx`, over one to three spatial axes. The buffers are the operands
    and the result.
    """
    family, buffers = ("maxpool_gradient", ("x", "dy", "dx")) if gradient else ("maxpool", ("x", "y"))
    dilated = any(d != 1 for d in pool.dilation)
    windows = [_inside(pool, axis) for axis in range(len(pool.kernel))]
    if not pool.blocked and not dilated and all((count > 0).all() for _, count in windows):
        what = "gradient" if gradient else "value"
        across = plan_across(target, pool.shape, windows, what)
        if across is not None:
            return across
        if pool.kernel[-1] >= WIDE:
            return plan_uneven(target, pool.shape, False, windows, what)
    parameters: dict[str, object] = {"dilated": dilated, "window": window_of(pool.kernel, dilated)}
    return _pool(target, family, parameters, buffers, pool)


def plan_avgpool(
    target: Target, pool: Pool, count_include_pad: bool, gradient: bool = False, divisor: int | None = None
) -> Launch:
    """Average pooling of `x` to `y`, or (gradient) `dy` to `dx`, over one to three spatial axes, without dilation.

    A window's divisor counts its elements within the tensor, with count_include_pad those within the padded tensor
    (PyTorch's rule); it is `divisor` where that is given. The buffers are the operand and the result.
    """
    if not pool.blocked:
        bands = [_averages(pool, axis, count_include_pad, divisor) for axis in range(len(pool.kernel))]
        if not gradient:
            return plan_bands(target, pool.shape, False, bands)
        spread = [_spread(pool, axis, band) for axis, band in enumerate(bands)]
        return plan_bands(target, pool.out_shape, False, spread)
    family, buffers = ("avgpool_gradient", ("dy", "dx")) if gradient else ("avgpool", ("x", "y"))
    own: dict[str, object] = {} if divisor is None else {"divisor": divisor}
    return _pool(target, family, {"include_padding": count_include_pad, **own}, buffers, pool)


def _inside(pool: Pool, axis: int) -> Windows:
    """The windows along an axis, as far as they lie within the tensor."""
    size, begin = pool.shape[2 + axis], np.arange(pool.out_shape[2 + axis]) * pool.stride[axis] - pool.padding[axis][0]
    first = np.clip(begin, 0, size)
    return first, np.maximum(np.minimum(begin + pool.kernel[axis], size) - first, 0)


def _averages(pool: Pool, axis: int, count_include_pad: bool, divisor: int | None) -> Band:
    """The averages over windows along an axis."""
    size, kernel, (before, after) = pool.shape[2 + axis], pool.kernel[axis], pool.padding[axis]
    first, count = _inside(pool, axis)
    begin = np.arange(len(first)) * pool.stride[axis] - before
    many = np.minimum(begin + kernel, size + after) - begin if count_include_pad else count
    if divisor is not None:
        many = np.full(len(begin), divisor if axis == 0 else 1)
    weight = np.where(np.arange(kernel) < count[:, None], 1 / np.maximum(many, 1)[:, None], 0.0)
    return Band(size, np.where(count > 0, first, 0), count, weight[:, : max(1, int(count.max(initial=0)))])


def _spread(pool: Pool, axis: int, band: Band) -> Band:
    """What each pixel is given by the windows that hold it: the gradient of their averages."""
    place = np.arange(band.size) + pool.padding[axis][0]
    first = np.maximum(-(-(place - pool.kernel[axis] + 1) // pool.stride[axis]), 0)
    count = np.maximum(np.minimum(place // pool.stride[axis], band.results - 1) + 1 - first, 0)
    window = first[:, None] + np.arange(max(1, int(count.max(initial=0))))
    weight = band.weight.max(1, initial=0)[np.minimum(window, max(0, band.results - 1))]
    return Band(
        band.results, np.where(count > 0, first, 0), count, np.where(window < (first + count)[:, None], weight, 0)
    )


def plan_global_average(target: Target, shape: Shape, blocked_result: bool) -> Launch:
    """The mean of each channel of a blocked `x`, into `y`: blocked [N][CB][L] or plain [N][C]. (Plain x:
    `plan_reduce_axes`.)
    """
    arguments = {"channels": shape[1], "plane": math.prod(shape[2:]), "x": 0, "y": 0}
    chunks = shape[0] * blocks(shape[1], target) if math.prod(shape) else 0
    return Launch(
        Kernel("global_average", (("plain_result", not blocked_result),)), arguments, ("x", "y"), chunks, links=shape[0]
    )


def plan_global_average_gradient(target: Target, shape: Shape, blocked: bool, blocked_gradient: bool) -> Launch:
    """dx (`y0`, of that logical shape, blocked or plain) = dy / plane for each element; dy is `a0`."""
    share: Expression = ("mul", ("var", "a0"), ("const", 1 / max(1, math.prod(shape[2:]))))
    return plan_map(target, shape, blocked, [Operand((*shape[:2], *[1] * (len(shape) - 2)), blocked_gradient)], [share])
