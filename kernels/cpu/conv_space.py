"""Convolutions over three axes of space, by the kernels for two.

An output slice is the sum over planes of the weights of what two-dimensional convolutions make of as many input slices.
So it is a two-dimensional convolution whose input blocks are those of several slices, one slice after the other. Slices
that meet the same planes make a *run*: the images of one plan. Near the ends of the depth axis, where some planes meet
padding, runs are short. Weights are packed with all their planes once; a run of fewer reads a part of them.

Tensors are ncdhw16c, or ncdhw of few channels: a slice of a block of channels has the layout of an image's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from .conv_arguments import ConvPlan, KernelPlan, Pair, divide, form_of, output_size
from .conv_shapes import _direct
from .conv_shapes_gradient import weight_gradient_plan
from .target import Target
from .winograd_shapes import WinogradPlan, winograd_plan
from .winograd_shapes_gradient import GradientPlan, gradient_plan

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Volume:
    """A convolution over three axes. Channels and filters are all there are; padding is a pair an axis."""

    images: int
    channels: int
    size: Triple
    filters: int
    kernel: Triple
    stride: Triple
    padding: tuple[Pair, Pair, Pair]
    dilation: Triple
    groups: int = 1

    @property
    def out(self) -> Triple:
        d, h, w = (
            output_size(*g) for g in zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        )
        return d, h, w

    @property
    def taps(self) -> int:
        """Of a plane."""
        return self.kernel[1] * self.kernel[2]


@dataclass(frozen=True)
class Run:
    """`count` output slices from `first`, each `step` behind the one before. The first of them meets input slices from
    `source` on, a plane each, `apart` from one another; the next lie `source_step` further. Planes of the weights from
    `begin` to `end` are met, of those that were packed.
    """

    first: int
    count: int
    step: int
    source: int
    source_step: int
    apart: int
    begin: int
    end: int


@dataclass(frozen=True)
class Piece:
    """A plan for one run, and the offsets in floats that are added to the addresses of x, and of y and operands like it."""

    plan: Any
    x: int
    y: int


def _runs(outputs: int, step: int, offset: int, source_step: int, planes: Sequence[int], size: int) -> list[Run]:
    """The runs of output slices offset + step * i, of which the i-th meets input slices source_step * i + planes."""
    apart = planes[1] - planes[0] if len(planes) > 1 else 0
    runs: list[Run] = []
    for i in range(outputs):
        met = [p for p, plane in enumerate(planes) if 0 <= source_step * i + plane < size]
        begin, end = (met[0], met[-1] + 1) if met else (0, 0)
        if runs and (runs[-1].begin, runs[-1].end) == (begin, end):
            runs[-1] = replace(runs[-1], count=runs[-1].count + 1)
        else:
            source = source_step * i + planes[begin] if met else 0
            runs.append(Run(offset + step * i, 1, step, source, source_step, apart, begin, end))
    return runs


def forward_runs(v: Volume) -> tuple[list[Run], Triple]:
    """The runs of the convolution, and the planes of its packed weights: how many, the first tap, taps to the next."""
    planes = [i * v.dilation[0] - v.padding[0][0] for i in range(v.kernel[0])]
    return _runs(v.out[0], 1, 0, v.stride[0], planes, v.size[0]), (v.kernel[0], 0, v.taps)


def backward_runs(v: Volume) -> list[tuple[list[Run], Triple]]:
    """The same of the gradient of the input, for each residue of the depth modulo the stride."""
    found = []
    for residue in range(min(v.stride[0], v.size[0])):
        met = [i for i in range(v.kernel[0]) if (residue + v.padding[0][0] - i * v.dilation[0]) % v.stride[0] == 0]
        planes = [(residue + v.padding[0][0] - i * v.dilation[0]) // v.stride[0] for i in met]
        step = met[1] - met[0] if len(met) > 1 else 0
        count = divide(v.size[0] - residue, v.stride[0])
        packed = (len(met), met[0] * v.taps if met else 0, step * v.taps)
        found.append((_runs(count, v.stride[0], residue, 1, planes, v.out[0]), packed))
    return found


def _strides(
    run: Run, arguments: dict[str, int], x_depth: int, y_depth: int, y_slice: int, groups: int, channel_blocks: int,
    out_blocks: int, packed: int,
) -> dict[str, int]:  # fmt: skip
    """The arguments of a plan for images of two axes, made those of slices. Depths are in slices, y_slice in floats."""
    x_slice = arguments["x_block"]
    return {
        **arguments,
        "x_image": groups * channel_blocks * x_depth * x_slice, "x_block": x_depth * x_slice,
        "y_image": groups * out_blocks * y_depth * y_slice, "y_block": y_depth * y_slice,
        "slices": run.count, "x_slice": run.source_step * x_slice, "y_slice": run.step * y_slice,
        "channel_blocks": channel_blocks, "x_plane": run.apart * x_slice,
        "w_blocks": packed * channel_blocks, "w_first": run.begin * channel_blocks,
    }  # fmt: skip


def _moved(plan: KernelPlan, arguments: dict[str, int]) -> dict[str, Any]:
    """The tables of a direct plan whose input blocks have moved to where `arguments` says."""
    old, taps, blocks = plan.arguments, plan.tables["taps"], plan.arguments["in_blocks"]
    if old["pack_rows"] > 0 or not taps.size:
        return plan.tables
    form = dict(plan.kernel.parameters)["form"]
    entries = taps.reshape(blocks, old["tap_count"], 3 if form in ("matrix", "scattered") else 1).copy()
    for block in range(blocks):
        plane, own = divmod(block, arguments["channel_blocks"])
        entries[block, :, 0] += plane * arguments["x_plane"] + own * arguments["x_block"] - block * old["x_block"]
    return {**plan.tables, "taps": entries.reshape(-1)}


def _piece(
    target: Target, v: Volume, run: Run, packed: Triple, sizes: tuple[Pair, Pair], depths: Pair, channels: Pair,
    offsets: tuple[Sequence[int], Sequence[int]], source_taps: Sequence[int], stride: Pair, rows: int, columns: int,
    y_steps: tuple[int, int], form: str, transposed: bool, expression: Any, operands: tuple[str, ...],
) -> ConvPlan:  # fmt: skip
    """The direct plan of a run. sizes: (height, width) of a slice of x and of y; depths: slices of them; channels: of a
    group of them; y_steps: pixels between the outputs' rows, and between their columns.
    """
    lanes = target.lanes
    (height, width), (y_height, y_width) = sizes
    depth = 1 if form == "plain" else lanes
    blocks, out_blocks, planes = divide(channels[0], depth), divide(channels[1], lanes), run.end - run.begin
    y_slice = y_height * y_width * lanes
    taps = source_taps if planes else []
    plan = _direct(
        target, v.images * run.count, v.groups, max(planes, 1) * blocks * depth, height, width, channels[1],
        offsets[0] if planes else [], offsets[1] if planes else [], taps, v.taps, stride, rows, columns,
        (0, y_slice, y_steps[0] * lanes, y_steps[1] * lanes), form, transposed, expression, operands,
    )  # fmt: skip
    step = plan.step
    arguments = _strides(
        run, step.arguments, *depths, y_slice, v.groups, blocks, out_blocks, packed[0] if planes else 1
    )
    links = v.images if step.links else 0
    step = replace(step, arguments=arguments, tables=_moved(step, arguments), links=links)
    weights = replace(
        plan.weights, in_channels=channels[0], all_taps=v.kernel[0] * v.taps, planes=packed if planes else (1, 0, 0)
    )
    return ConvPlan(step, weights)


def direct_pieces(
    target: Target, v: Volume, plain: bool = False, expression: Any = None, operands: tuple[str, ...] = ()
) -> list[Piece]:
    """The forward convolution, x blocked or with `plain` plain, y blocked. ValueError for groups that are not whole
    blocks.
    """
    form = form_of(target, v.channels, v.filters, v.groups, plain)
    runs, packed = forward_runs(v)
    depth, rows, columns = v.out
    taps = [(i, j) for i in range(v.kernel[1]) for j in range(v.kernel[2])]
    offsets = (
        [i * v.dilation[1] - v.padding[1][0] for i, _ in taps],
        [j * v.dilation[2] - v.padding[2][0] for _, j in taps],
    )
    pieces = []
    for run in runs:
        plan = _piece(
            target, v, run, packed, (v.size[1:], (rows, columns)), (v.size[0], depth),
            (v.channels // v.groups, v.filters // v.groups), offsets, range(v.taps), v.stride[1:], rows, columns,
            (columns, 1), form, False, expression, operands,
        )  # fmt: skip
        x_slice = v.size[1] * v.size[2] * (1 if form == "plain" else target.lanes)
        pieces.append(Piece(plan, run.source * x_slice, run.first * rows * columns * target.lanes))
    return pieces


def direct_gradient_pieces(
    target: Target, v: Volume, expression: Any = None, operands: tuple[str, ...] = ()
) -> list[Piece]:
    """The gradient of the input, by residues of the three strides: dy as `x`, dx as `y`, both blocked."""
    form = form_of(target, v.channels, v.filters, v.groups, False)
    depth, rows, columns = v.out
    _, height, width = v.size
    lanes, pieces = target.lanes, []

    def residues(axis: int) -> list[tuple[int, list[Pair]]]:
        found = []
        for residue in range(min(v.stride[axis], v.size[axis])):
            met = [(i, residue + v.padding[axis][0] - i * v.dilation[axis]) for i in range(v.kernel[axis])]
            found.append((residue, [(i, o // v.stride[axis]) for i, o in met if o % v.stride[axis] == 0]))
        return found

    for runs, packed in backward_runs(v):
        for run in runs:
            for top, tall in residues(1):
                for left, wide in residues(2):
                    taps = [(i * v.kernel[2] + j, r, c) for i, r in tall for j, c in wide]
                    plan = _piece(
                        target, v, run if taps else replace(run, begin=0, end=0), packed,
                        ((rows, columns), (height, width)), (depth, v.size[0]),
                        (v.filters // v.groups, v.channels // v.groups), ([r for _, r, _ in taps], [c for _, _, c in taps]),
                        [t for t, _, _ in taps], (1, 1), divide(height - top, v.stride[1]), divide(width - left, v.stride[2]),
                        (v.stride[1] * width, v.stride[2]), form, True, expression, operands,
                    )  # fmt: skip
                    place = (run.first * height + top) * width + left
                    pieces.append(Piece(plan, run.source * rows * columns * lanes, place * lanes))
    return pieces


def winograd_pieces(
    target: Target, v: Volume, scheme: Any, expression: Any = None, operands: tuple[str, ...] = (), transposed: bool = False
) -> list[Piece]:  # fmt: skip
    """The convolution, or with `transposed` the gradient of its input, of one group's channels, by Winograd's algorithm."""
    lanes, pieces = target.lanes, []
    x_depth, y_depth = (v.out[0], v.size[0]) if transposed else (v.size[0], v.out[0])
    ins, outs = (v.filters, v.channels) if transposed else (v.channels, v.filters)
    x_size, y_size = (v.out[1:], v.size[1:]) if transposed else (v.size[1:], v.out[1:])
    blocks, out_blocks = divide(ins, lanes), divide(outs, lanes)
    x_slice, y_slice = x_size[0] * x_size[1] * lanes, y_size[0] * y_size[1] * lanes
    for runs, packed in backward_runs(v) if transposed else [forward_runs(v)]:
        for run in runs:
            seen = max(run.end - run.begin, 1) * blocks * lanes
            channels, filters = (v.channels, seen) if transposed else (seen, v.filters)
            plan = winograd_plan(
                target, v.images * run.count, channels, v.size[1], v.size[2], filters, v.padding[1:], expression, operands,
                transposed, scheme,
            )  # fmt: skip
            strides = _strides(run, plan.step.arguments, x_depth, y_depth, y_slice, 1, blocks, out_blocks, packed[0])
            weights = replace(plan.weights, in_channels=ins, planes=packed, all_taps=v.kernel[0] * v.taps)
            plan = WinogradPlan(replace(plan.step, arguments=strides), weights)
            pieces.append(Piece(plan, run.source * x_slice, run.first * y_slice))
    return pieces


def winograds(target: Target, v: Volume, op: str) -> tuple[Any, ...] | None:
    """What Winograd's cost models are told of a volume: images, channels, height, width, filters, taps, padding; None where
    the algorithm does not apply, or slices or planes meet nothing.
    """
    regular = v.kernel[1:] in ((3, 3), (5, 5)) and v.stride[1:] == v.dilation[1:] == (1, 1)
    channels, filters, images = v.channels // v.groups, v.filters // v.groups, v.images * v.out[0]
    if op == "conv_weight_gradient":
        met = all(count for _, count, _ in planes_met(v))
    else:
        back = op == "conv_data_gradient"
        ways = backward_runs(v) if back else [forward_runs(v)]
        met = all(run.end > run.begin for runs, _ in ways for run in runs)
        planes, lanes = divide(v.kernel[0], v.stride[0]) if back else v.kernel[0], target.lanes
        if back:
            filters, images = divide(filters, lanes) * lanes * planes, v.images * v.size[0]
        else:
            channels = divide(channels, lanes) * lanes * planes
    return (images, channels, *v.size[1:], filters, v.kernel[1], v.padding[1:]) if regular and met else None


@dataclass(frozen=True)
class Plane:
    """The plan of the gradient of one plane of the weights; of none, where it meets padding alone. Offsets in floats."""

    plan: Any
    x: int
    dy: int
    dw: int


def planes_met(v: Volume) -> list[tuple[int, int, int]]:
    """Of each plane of the weights: the first of the outputs that it meets, how many, and the input slice of the first."""
    found = []
    for i in range(v.kernel[0]):
        at = [o * v.stride[0] + i * v.dilation[0] - v.padding[0][0] for o in range(v.out[0])]
        met = [o for o, z in enumerate(at) if 0 <= z < v.size[0]]
        found.append((met[0], len(met), at[met[0]]) if met else (0, 0, 0))
    return found


def _spread(target: Target, v: Volume, count: int, arguments: dict[str, int], plain: bool) -> dict[str, int]:
    """The arguments of a weight gradient's plan for images of two axes, made those of slices."""
    x_slice, dy_slice = arguments["x_block"], arguments["dy_block"]
    blocks = divide(v.channels // v.groups, 1 if plain else target.lanes) * v.groups
    return {
        **arguments,
        "x_image": blocks * v.size[0] * x_slice, "x_block": v.size[0] * x_slice,
        "dy_image": divide(v.filters // v.groups, target.lanes) * v.groups * v.out[0] * dy_slice, "dy_block": v.out[0] * dy_slice,
        "slices": count, "x_slice": v.stride[0] * x_slice, "y_slice": dy_slice, "dw_channel": v.kernel[0] * v.taps,
    }  # fmt: skip


def weight_gradient_planes(target: Target, v: Volume, plain: bool = False) -> list[Plane]:
    """The gradient of the weights, plane by plane: x blocked, or with `plain` plain, dy blocked."""
    planes = []
    for i, (first, count, source) in enumerate(planes_met(v)):
        plan = weight_gradient_plan(
            target, v.images * count, v.channels, *v.size[1:], v.filters, v.kernel[1:], v.stride[1:], v.padding[1:],
            v.dilation[1:], v.groups, plain, False,
        )  # fmt: skip
        x_slice, dy_slice = plan.arguments["x_block"], plan.arguments["dy_block"]
        plan = replace(plan, arguments=_spread(target, v, max(count, 1), plan.arguments, plain))
        planes.append(Plane(plan, source * x_slice, first * dy_slice, i * v.taps))
    return planes


def winograd_gradient_planes(target: Target, v: Volume, scheme: Any) -> list[Plane]:
    """The same of one group's channels by Winograd's algorithm: all planes in as many parts."""
    met = planes_met(v)
    sizes = (v.channels, v.size[1], v.size[2], v.filters, v.padding[1:], scheme)
    most = gradient_plan(target, v.images * max(count for _, count, _ in met), *sizes)
    cut = most.cut
    while True:
        plans = [gradient_plan(target, v.images * count, *sizes, cut) for _, count, _ in met]
        if len({plan.parts for plan in plans}) == 1:
            break
        cut = replace(cut, splits=cut.splits - 1)
    planes = []
    for i, (plan, (first, count, source)) in enumerate(zip(plans, met, strict=True)):
        arguments = plan.step.arguments
        x_slice, dy_slice = arguments["x_block"], arguments["dy_block"]
        changed = _spread(target, v, max(count, 1), arguments, False)
        changed["dw_split"] *= v.kernel[0]
        step = replace(plan.step, arguments=changed)
        planes.append(Plane(GradientPlan(step, plan.parts, cut), source * x_slice, first * dy_slice, i * v.taps))
    return planes
