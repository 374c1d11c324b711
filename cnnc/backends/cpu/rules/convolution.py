"""Convolutions on the CPU: the algorithms, in the order in which they are asked. Each declines what is not its own."""

from __future__ import annotations

from collections.abc import Callable

from cnnc.backends.cpu.context import Lowering
from cnnc.backends.cpu.problem import Problem, problem
from cnnc.backends.cpu.rules import depthwise, direct, groups, volume, winograd
from cnnc.ir.graph import Node

Algorithm = Callable[[Lowering, Node, Problem], bool]  # whether it made the steps
# Of a convolution, and of the gradient of its input, whose x is dy.
ALGORITHMS: tuple[Algorithm, ...] = (
    volume.convolution,
    direct.plain,
    depthwise.goes_along,
    depthwise.convolution,
    winograd.convolution,
    direct.pooled,
    direct.forward,
    direct.data_gradient,
)
WEIGHT_GRADIENTS: tuple[Algorithm, ...] = (
    volume.weight_gradient,
    groups.weight_gradient,
    direct.plain,
    winograd.weight_gradient,
    depthwise.weight_gradient,
    direct.weight_gradient,
)


def convolution(low: Lowering, node: Node) -> None:
    """The steps of a convolution or of one of its gradients, by the first algorithm that takes it."""
    p = problem(low, node)
    algorithms = WEIGHT_GRADIENTS if node.op == "conv_weight_gradient" else ALGORITHMS
    assert any(algorithm(low, node, p) for algorithm in algorithms)
