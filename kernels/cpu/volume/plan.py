"""Convolutions over three axes of space, by the kernels for two.

An output slice is the sum over planes of the weights of what two-dimensional convolutions make of as many input slices.
So it is a two-dimensional convolution whose input blocks are those of several slices, one slice after the other. Slices
that meet the same planes make a *run*: the images of one plan. Near the ends of the depth axis, where some planes meet
padding, runs are short. Weights are packed with all their planes once; a run of fewer reads a part of them.

Tensors are ncdhw16c, or ncdhw of few channels: a slice of a block of channels has the layout of an image's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..conv.arguments import ConvPlan, form_of
from ..conv.gradient_plan import weight_gradient_plan
from ..conv.plan import met_by, plan_of
from ..conv.sums import Place, Sums, Taps
from ..launches import Launch, divide
from ..problem import BARE, Conv, Epilogue
from ..target import Target
from ..winograd.gradient_plan import GradientPlan, GradientProblem, gradient_plan
from ..winograd.plan import Problem, WinogradPlan, winograd_plan
from ..winograd.scheme import Scheme

Triple = tuple[int, int, int]


def plane_taps(v: Conv) -> int:
    """The taps of a plane of the weights."""
    return math.prod(v.kernel[1:])


def of_slices(v: Conv, images: int, kernel: tuple[int, ...] | None = None) -> Conv:
    """The convolution of slices by a plane of the weights."""
    return replace(
        v, images=images, size=v.size[1:], kernel=kernel or v.kernel[1:], stride=v.stride[1:], padding=v.padding[1:],
        dilation=v.dilation[1:],
    )  # fmt: skip


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


def forward_runs(v: Conv) -> tuple[list[Run], Triple]:
    """The runs of the convolution, and the planes of its packed weights: how many, the first tap, taps to the next."""
    planes = [i * v.dilation[0] - v.padding[0][0] for i in range(v.kernel[0])]
    return _runs(v.out[0], 1, 0, v.stride[0], planes, v.size[0]), (v.kernel[0], 0, plane_taps(v))


def backward_runs(v: Conv) -> list[tuple[list[Run], Triple]]:
    """The same of the gradient of the input, for each residue of the depth modulo the stride."""
    found = []
    for residue, met in met_by(v, 0):
        step = met[1][0] - met[0][0] if len(met) > 1 else 0
        count = divide(v.size[0] - residue, v.stride[0])
        packed = (len(met), met[0][0] * plane_taps(v) if met else 0, step * plane_taps(v))
        runs = _runs(count, v.stride[0], residue, 1, [plane for _, plane in met], v.out[0])
        found.append((runs, packed))
    return found


@dataclass(frozen=True)
class Slices:
    """How the slices of a run lie: those of x and of y in an image, floats of one of y, blocks of them; planes of the packed
    weights.
    """

    run: Run
    x_depth: int
    y_depth: int
    y_slice: int
    x_blocks: int  # of a group
    y_blocks: int  # of a group
    packed: int

    def arguments(self, launch: Launch, groups: int = 1) -> dict[str, int]:
        """Those of a plan for images of two axes, made those of slices."""
        run, x_slice = self.run, launch.arguments["x_block"]
        return {
            **launch.arguments,
            "x_image": groups * self.x_blocks * self.x_depth * x_slice, "x_block": self.x_depth * x_slice,
            "y_image": groups * self.y_blocks * self.y_depth * self.y_slice, "y_block": self.y_depth * self.y_slice,
            "slices": run.count, "x_slice": run.source_step * x_slice, "y_slice": run.step * self.y_slice,
            "channel_blocks": self.x_blocks, "x_plane": run.apart * x_slice,
            "w_blocks": self.packed * self.x_blocks, "w_first": run.begin * self.x_blocks,
        }  # fmt: skip


def _moved(plan: Launch, arguments: dict[str, int]) -> dict[str, Any]:
    """The tables of a direct plan whose input blocks have moved to where `arguments` says."""
    old, taps, blocks = plan.arguments, plan.tables["taps"], plan.arguments["in_blocks"]
    if old["pack_rows"] > 0 or not taps.size:
        return dict(plan.tables)
    form = dict(plan.kernel.parameters)["form"]
    entries = taps.reshape(blocks, old["tap_count"], 3 if form in ("matrix", "scattered") else 1).copy()
    for block in range(blocks):
        plane, own = divmod(block, arguments["channel_blocks"])
        entries[block, :, 0] += plane * arguments["x_plane"] + own * arguments["x_block"] - block * old["x_block"]
    return {**plan.tables, "taps": entries.reshape(-1)}


@dataclass(frozen=True)
class _Direct:
    """What the direct plans of all runs share: the convolution, (slices, height, width) and channels of a group of what is read and
    of what is written; the planes of the packed weights.
    """

    target: Target
    conv: Conv
    x: tuple[int, ...]
    y: tuple[int, ...]
    channels: tuple[int, int]
    packed: Triple
    form: str
    transposed: bool
    epilogue: Epilogue

    def plan(self, run: Run, taps: Taps, steps: tuple[int, int], rows: int, columns: int) -> ConvPlan:
        """Of rows x columns outputs of each slice of a run, which lie `steps` rows and columns apart."""
        lanes, v, (ins, outs) = self.target.lanes, self.conv, self.channels
        depth, planes = 1 if self.form == "plain" else lanes, run.end - run.begin
        blocks, y_slice = divide(ins, depth), math.prod(self.y[1:]) * lanes
        place = Place(0, y_slice, steps[0] * self.y[2] * lanes, steps[1] * lanes)
        sums = Sums(
            v.images * run.count, v.groups, max(planes, 1) * blocks * depth, self.x[1], self.x[2], outs,
            taps if planes else Taps.of([], taps.all), (1, 1) if self.transposed else (v.stride[1], v.stride[2]),
            rows, columns, place, self.form, self.transposed, self.epilogue,
        )  # fmt: skip
        plan = plan_of(self.target, sums)
        slices = Slices(
            run, self.x[0], self.y[0], y_slice, blocks, divide(outs, lanes), self.packed[0] if planes else 1
        )
        arguments = slices.arguments(plan.step, v.groups)
        links = v.images if plan.step.links else 0
        step = replace(plan.step, arguments=arguments, tables=_moved(plan.step, arguments), links=links)
        weights = replace(
            plan.weights, in_channels=ins, all_taps=math.prod(v.kernel), planes=self.packed if planes else (1, 0, 0)
        )
        return ConvPlan(step, weights)


def direct_pieces(target: Target, v: Conv, plain: bool = False, epilogue: Epilogue = BARE) -> list[Piece]:
    """The forward convolution, x blocked or with `plain` plain, y blocked. ValueError for groups that are not whole
    blocks.
    """
    form, own, (runs, packed) = form_of(target, v, plain), v.of_group, forward_runs(v)
    channels, (_, rows, columns) = (own.channels, own.filters), v.out
    direct = _Direct(target, v, v.size, v.out, channels, packed, form, False, epilogue)
    taps = Taps.forward(v)
    x_slice = math.prod(v.size[1:]) * (1 if form == "plain" else target.lanes)
    y_slice = rows * columns * target.lanes
    return [
        Piece(direct.plan(run, taps, (1, 1), rows, columns), run.source * x_slice, run.first * y_slice) for run in runs
    ]


def direct_gradient_pieces(target: Target, v: Conv, epilogue: Epilogue = BARE) -> list[Piece]:
    """The gradient of the input, by residues of the three strides: dy as `x`, dx as `y`, both blocked."""
    form, own, (_, height, width) = form_of(target, v), v.of_group, v.size
    lanes, pieces = target.lanes, []
    x_slice = math.prod(v.out[1:]) * lanes
    for runs, packed in backward_runs(v):
        direct = _Direct(target, v, v.out, v.size, (own.filters, own.channels), packed, form, True, epilogue)
        for run in runs:
            for top, tall in met_by(v, 1):
                for left, wide in met_by(v, 2):
                    taps = Taps.of([(i * v.kernel[2] + j, r, c) for i, r in tall for j, c in wide], plane_taps(v))
                    plan = direct.plan(
                        run if len(taps) else replace(run, begin=0, end=0), taps, (v.stride[1], v.stride[2]),
                        divide(height - top, v.stride[1]), divide(width - left, v.stride[2]),
                    )  # fmt: skip
                    place = (run.first * height + top) * width + left
                    pieces.append(Piece(plan, run.source * x_slice, place * lanes))
    return pieces


def winograd_pieces(
    target: Target, v: Conv, scheme: Scheme, epilogue: Epilogue = BARE, transposed: bool = False
) -> list[Piece]:  # fmt: skip
    """The convolution, or with `transposed` the gradient of its input, of one group's channels, by Winograd's algorithm."""
    lanes, pieces = target.lanes, []
    (x, ins), (y, outs) = (v.size, v.channels), (v.out, v.filters)
    if transposed:
        (x, ins), (y, outs) = (y, outs), (x, ins)
    blocks, out_blocks = divide(ins, lanes), divide(outs, lanes)
    x_slice, y_slice = math.prod(x[1:]) * lanes, math.prod(y[1:]) * lanes
    for runs, packed in backward_runs(v) if transposed else [forward_runs(v)]:
        for run in runs:
            seen, flat = max(run.end - run.begin, 1) * blocks * lanes, of_slices(v, v.images * run.count)
            flat = replace(flat, filters=seen) if transposed else replace(flat, channels=seen)
            plan = winograd_plan(Problem(target, scheme, flat, transposed), epilogue)
            slices = Slices(run, x[0], y[0], y_slice, blocks, out_blocks, packed[0])
            weights = replace(plan.weights, in_channels=ins, planes=packed, all_taps=math.prod(v.kernel))
            plan = WinogradPlan(replace(plan.step, arguments=slices.arguments(plan.step)), weights)
            pieces.append(Piece(plan, run.source * x_slice, run.first * y_slice))
    return pieces


def like_winograds(target: Target, v: Conv, op: str) -> Conv | None:
    """The convolution of two axes that costs what Winograd's of a volume does; None where the algorithm does not apply, or slices
    or planes meet nothing.
    """
    if v.kernel[1:] not in ((3, 3), (5, 5)) or not v.stride[1:] == v.dilation[1:] == (1, 1):
        return None
    own, lanes, planes = v.of_group, target.lanes, v.kernel[0]
    if op == "conv_weight_gradient":
        met = all(count for _, count, _ in planes_met(v))
        like = of_slices(own, v.images * v.out[0])
    elif op == "conv_data_gradient":
        met = all(run.end > run.begin for runs, _ in backward_runs(v) for run in runs)
        planes = divide(planes, v.stride[0])
        like = replace(of_slices(own, v.images * v.size[0]), filters=divide(own.filters, lanes) * lanes * planes)
    else:
        met = all(run.end > run.begin for run in forward_runs(v)[0])
        like = replace(of_slices(own, v.images * v.out[0]), channels=divide(own.channels, lanes) * lanes * planes)
    return like if met else None


@dataclass(frozen=True)
class Plane:
    """The plan of the gradient of one plane of the weights; of none, where it meets padding alone. Offsets in floats."""

    plan: Any
    x: int
    dy: int
    dw: int


def planes_met(v: Conv) -> list[tuple[int, int, int]]:
    """Of each plane of the weights: the first of the outputs that it meets, how many, and the input slice of the first."""
    found = []
    for i in range(v.kernel[0]):
        at = [o * v.stride[0] + i * v.dilation[0] - v.padding[0][0] for o in range(v.out[0])]
        met = [o for o, z in enumerate(at) if 0 <= z < v.size[0]]
        found.append((met[0], len(met), at[met[0]]) if met else (0, 0, 0))
    return found


def _spread(target: Target, v: Conv, count: int, launch: Launch, plain: bool) -> dict[str, int]:
    """The arguments of a weight gradient's plan for images of two axes, made those of slices."""
    arguments, own = launch.arguments, v.of_group
    x_slice, dy_slice = arguments["x_block"], arguments["dy_block"]
    blocks = divide(own.channels, 1 if plain else target.lanes) * v.groups
    return {
        **arguments,
        "x_image": blocks * v.size[0] * x_slice, "x_block": v.size[0] * x_slice,
        "dy_image": divide(own.filters, target.lanes) * v.groups * v.out[0] * dy_slice, "dy_block": v.out[0] * dy_slice,
        "slices": count, "x_slice": v.stride[0] * x_slice, "y_slice": dy_slice, "dw_channel": math.prod(v.kernel),
    }  # fmt: skip


def weight_gradient_planes(target: Target, v: Conv, plain: bool = False) -> list[Plane]:
    """The gradient of the weights, plane by plane: x blocked, or with `plain` plain, dy blocked."""
    planes = []
    for i, (first, count, source) in enumerate(planes_met(v)):
        plan = weight_gradient_plan(target, of_slices(v, v.images * count), plain, False)
        x_slice, dy_slice = plan.arguments["x_block"], plan.arguments["dy_block"]
        plan = replace(plan, arguments=_spread(target, v, max(count, 1), plan, plain))
        planes.append(Plane(plan, source * x_slice, first * dy_slice, i * plane_taps(v)))
    return planes


def winograd_gradient_planes(target: Target, v: Conv, scheme: Scheme) -> list[Plane]:
    """The same of one group's channels by Winograd's algorithm: all planes in as many parts."""
    met = planes_met(v)
    problems = [GradientProblem(target, scheme, of_slices(v, v.images * count)) for _, count, _ in met]
    cut = gradient_plan(max(problems, key=lambda problem: problem.images)).cut
    while True:
        plans = [gradient_plan(problem, cut) for problem in problems]
        if len({plan.parts for plan in plans}) == 1:
            break
        cut = replace(cut, splits=cut.splits - 1)
    planes = []
    for i, (plan, (first, count, source)) in enumerate(zip(plans, met, strict=True)):
        x_slice, dy_slice = plan.step.arguments["x_block"], plan.step.arguments["dy_block"]
        changed = _spread(target, v, max(count, 1), plan.step, False)
        changed["dw_split"] *= v.kernel[0]
        step = replace(plan.step, arguments=changed)
        planes.append(Plane(GradientPlan(step, plan.parts, cut), source * x_slice, first * dy_slice, i * plane_taps(v)))
    return planes
