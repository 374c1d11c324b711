"""Depthwise convolutions over three axes of space, by the kernels for two: a step for each plane of the weights adds to what
those of the planes before it have left in the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from ..depthwise.plan import (
    DepthwisePlan,
    DepthwiseWeightGradientPlan,
    depthwise_data_gradient_plan,
    depthwise_plan,
    depthwise_weight_gradient_plan,
)
from ..launches import divide
from ..problem import BARE, Conv, Epilogue
from ..target import Target
from .plan import Piece, Plane, Run, Triple, backward_runs, forward_runs, of_slices, plane_taps, planes_met


def _added(tree: Any, sum_so_far: str) -> Any:
    """The expression with y and the sum so far in the place of y."""
    if not isinstance(tree, tuple):
        return tree
    if tree == ("var", "y"):
        return ("add", tree, ("var", sum_so_far))
    return tuple(_added(part, sum_so_far) for part in tree)


@dataclass(frozen=True)
class _Way:
    """What all steps share: the convolution, or with `transposed` the gradient of its input."""

    target: Target
    conv: Conv
    transposed: bool

    def step(self, run: Run, plane: int, tap: int, epilogue: Epilogue) -> Piece:
        """One plane of a run: the plane-th that it meets, whose taps begin at `tap`; none, where `tap` is negative."""
        v, lanes = self.conv, self.target.lanes
        (x_depth, *x_size), (y_depth, *y_size) = (v.out, v.size) if self.transposed else (v.size, v.out)
        planner = depthwise_data_gradient_plan if self.transposed else depthwise_plan
        plan = planner(self.target, of_slices(v, v.images * run.count), epilogue)
        x_slice, y_slice = (size[0] * size[1] * lanes for size in (x_size, y_size))
        blocks = divide(v.channels, lanes)
        arguments = {
            **plan.step.arguments,
            "x_image": blocks * x_depth * x_slice, "x_block": x_depth * x_slice,
            "y_image": blocks * y_depth * y_slice, "y_block": y_depth * y_slice,
            "slices": run.count, "x_slice": run.source_step * x_slice, "y_slice": run.step * y_slice,
            **({} if tap >= 0 else {"height": 0}),
        }  # fmt: skip
        taps = tuple(max(tap, 0) + t for t in plan.weights.source_taps)
        weights = replace(plan.weights, source_taps=taps, all_taps=math.prod(v.kernel))
        step = replace(plan.step, arguments=arguments, links=v.images if plan.step.links else 0)
        source = run.source + plane * run.apart
        return Piece(DepthwisePlan(step, weights), source * x_slice, run.first * y_slice)


def depthwise_pieces(
    target: Target, v: Conv, epilogue: Epilogue = BARE, transposed: bool = False
) -> list[tuple[Piece, bool, bool]]:  # fmt: skip
    """The steps of the convolution, or with `transposed` of the gradient of its input, in their order. With each: whether
    it is the first of its slices, which takes the bias, and the others as their last operand the result itself; and
    whether it is the last, which takes the operands given.
    """
    steps: list[tuple[Piece, bool, bool]] = []
    way = _Way(target, v, transposed)
    ways: list[tuple[list[Run], Triple]] = backward_runs(v) if transposed else [forward_runs(v)]
    for runs, (_, first, step) in ways:
        for run in runs:
            planes = range(run.begin, run.end) if run.end > run.begin else [-1]
            for i, plane in enumerate(planes):
                last = i == len(planes) - 1
                own = epilogue if last else BARE
                if i:
                    tree = ("var", "y") if own.expression is None else own.expression
                    own = Epilogue(_added(tree, f"a{len(own.operands)}"), (*own.operands, "full"))
                piece = way.step(run, i, first + plane * step if plane >= 0 else -1, own)
                steps.append((piece, i == 0, last))
    return steps


def depthwise_gradient_planes(target: Target, v: Conv) -> list[Plane]:
    """The gradient of the weights, plane by plane."""
    lanes, blocks, planes = target.lanes, divide(v.channels, target.lanes), []
    for i, (first, count, source) in enumerate(planes_met(v)):
        plan = depthwise_weight_gradient_plan(target, of_slices(v, v.images * count))
        x_slice, dy_slice = (size[1] * size[2] * lanes for size in (v.size, v.out))
        arguments = {
            **plan.parts.arguments,
            "x_image": blocks * v.size[0] * x_slice, "x_block": v.size[0] * x_slice,
            "dy_image": blocks * v.out[0] * dy_slice, "dy_block": v.out[0] * dy_slice,
            "slices": max(count, 1), "x_slice": v.stride[0] * x_slice, "y_slice": dy_slice,
        }  # fmt: skip
        links = v.images if plan.parts.links else 0
        parts = replace(plan.parts, arguments=arguments, links=links)
        total = replace(plan.total, arguments={**plan.total.arguments, "dw_channel": math.prod(v.kernel)})
        plan = DepthwiseWeightGradientPlan(parts, total, plan.floats)
        planes.append(Plane(plan, source * x_slice, first * dy_slice, i * plane_taps(v)))
    return planes
