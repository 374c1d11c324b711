"""merge-groups: grouped convolutions whose groups are no whole blocks of channels become ones whose groups are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from cnnc.ir.graph import Graph, Node
from cnnc.ir.rewrite import Rewriter
from cnnc.ir.types import product
from cnnc.ops.conv import TRANSPOSED
from cnnc.ops.window import Window
from cnnc.passes.manager import Form, Forms, Pass, register_pass

# What a product takes where panels read the channels of their own groups alone, in products of a convolution of whole
# blocks; and how many products of that one take the time of what Winograd's algorithm does in their place, with many
# channels: half as many with so few.
BANDED, WINOGRAD, FEW = 1.15, 2.6, 16
# Of the kernels whose lanes meet the channels of their own group: what copying the pixels of an output takes, in products of a
# tap; and the blocks of channels that a block of filters may meet.
COPY, WIDEST = 8.4, 4
CONVOLUTIONS = ("conv", "conv_weight_gradient", *TRANSPOSED)


def whole(filters: int, channels: int, lanes: int) -> int:
    """How many groups together have whole blocks of `lanes` channels on both sides."""
    return max(lanes // math.gcd(filters, lanes), lanes // math.gcd(channels, lanes))


def banded(groups: int, filters: int, channels: int, lanes: int) -> int:
    """Multiply-adds for one pixel where each block of filters, or as many groups as a block holds, meets the channels of its
    groups alone.
    """
    total = 0
    if filters <= lanes:
        return lanes * groups * channels
    for first in range(0, groups * filters, lanes):
        last = min(first + lanes, groups * filters) - 1
        total += lanes * channels * (last // filters - first // filters + 1)
    return total


def spread(groups: int, filters: int, channels: int, lanes: int, taps: float, stride: int) -> float:
    """The same, where every lane meets the channels of its own group: `COPY` products of a tap for each pixel that is copied.
    Infinite for a tap alone, and where a block of filters meets more than `WIDEST` blocks of channels: there are no such kernels.
    """
    ends = range(0, groups * filters, lanes)
    low = [first // filters * channels // lanes for first in ends]
    high = [
        ((min(first + lanes, groups * filters) - 1) // filters * channels + channels - 1) // lanes for first in ends
    ]
    if taps < 2 or any(b - a >= WIDEST for a, b in zip(low, high, strict=True)):
        return math.inf
    return len(ends) * lanes * channels * (1 + COPY * stride / taps)


@register_pass
@dataclass(frozen=True)
class MergeGroups(Pass):
    """y = conv(x, w) {groups=32}  -->  m = merge_groups(w) {groups=32, by=4}, y = conv(x, m) {groups=8}

    and the same for both gradients, where groups of both sides' channels then are whole blocks of lanes, or one group is
    left. Products with 0 are so computed, `by` times as many as needed. Where that takes longer than panels of filters
    that read the channels of their groups alone, or than lanes that do, a convolution and its data gradient stay as they
    are; so does what has groups left over. Weights between groups are told from others by their bits, and kernels leave
    products with them out where a sum is not finite: such values stay in their own group.
    """

    name: ClassVar[str] = "merge-groups"
    needs: ClassVar[Forms] = frozenset((Form.PLAIN,))
    ends: ClassVar[Forms] = frozenset((Form.ORDERED,))
    lanes: int = 16

    def apply(self, graph: Graph) -> Graph:
        if self.lanes == 1:
            return graph
        rewriter = Rewriter(graph)
        merged: dict[tuple[str, int], str] = {}
        for node in graph.nodes:
            by = self._by(graph, node)
            if by == 1:
                rewriter.keep(node)
                continue
            groups = int(node.attributes["groups"])
            how = {"groups": groups, "by": by}
            fewer = node.attributes.with_(groups=groups // by if by < groups else None)
            operands = [None if o is None else rewriter.new(o) for o in node.operands]
            if node.op == "conv_weight_gradient":
                dense = rewriter.add(node.op, operands, fewer, f"{node.name}.merged", node.origin)
                rewriter.add("split_groups", [dense], how, None, node.origin, node.results)
                continue
            weight = rewriter.new(node.operand("weight"))
            if (weight, by) not in merged:
                merged[weight, by] = rewriter.add("merge_groups", [weight], how, f"{weight}.merged", node.origin)
            operands[1] = merged[weight, by]
            rewriter.add(node.op, operands, fewer, None, node.origin, node.results)
        return rewriter.finish() if rewriter.changed else graph

    def _by(self, graph: Graph, node: Node) -> int:
        """How many groups of a node are made one."""
        groups = int(node.attribute("groups")) if node.op in CONVOLUTIONS else 1
        if groups == 1:
            return 1
        weights = node.type if node.op == "conv_weight_gradient" else graph.type(node.inputs[1])
        filters, channels = int(weights.shape[0]) // groups, int(weights.shape[1])
        if filters == channels == 1:
            return 1
        by = min(whole(filters, channels, self.lanes), groups)
        if weights.rank == 5:  # over three axes of space there are no such panels
            by = next(n for n in range(by, groups + 1) if groups % n == 0 and (n % by == 0 or n == groups))
            return by if by <= 2 * self.lanes else 1
        if groups % by or node.op == "conv_weight_gradient":
            return by if groups % by == 0 else 1
        if node.op in TRANSPOSED:
            filters, channels = channels, filters
        lanes = -(-by * filters // self.lanes) * self.lanes
        merged = (
            groups // by * lanes * by * channels / self._fewer(weights.shape[2:], node, by * min(filters, channels))
        )
        window = Window.of(tuple(int(k) for k in weights.shape[2:]), node.attributes, weights.rank - 2)
        taps: float = product(window.kernel)
        stride = product(window.stride)
        if node.op in TRANSPOSED:  # for each residue of a pixel modulo the stride, a convolution of some of the taps
            taps, stride = taps / stride, 1
        apart = min(
            BANDED * banded(groups, filters, channels, self.lanes),
            spread(groups, filters, channels, self.lanes, taps, stride),
        )
        return by if merged <= apart else 1

    def _fewer(self, kernel: Sequence[Any], node: Node, channels: int) -> float:
        """How many times less than its products a convolution of groups of so many channels takes."""
        window = Window.of(tuple(int(k) for k in kernel), node.attributes, len(kernel))
        regular = all(s == d == 1 for s, d in zip(window.stride, window.dilation, strict=True))
        if window.kernel not in ((3, 3), (5, 5)) or not regular:
            return 1
        return max(1, WINOGRAD * channels / (channels + FEW))
