"""merge-groups: grouped convolutions whose groups are no whole blocks of channels become ones whose groups are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from cnnc.ir.graph import Graph, Node
from cnnc.ir.rewrite import Rewriter
from cnnc.passes.manager import Pass, register_pass

CONVOLUTIONS = ("conv", "conv_data_gradient", "conv_weight_gradient")


@register_pass
@dataclass(frozen=True)
class MergeGroups(Pass):
    """y = conv(x, w) {groups=32}  -->  m = merge_groups(w) {groups=32, by=4}, y = conv(x, m) {groups=8}

    and the same for both gradients, where groups of both sides' channels then are whole blocks of lanes, or one group is
    left. Products with 0 are so computed, `by` times as many as needed, on kernels that are many times faster than the
    one for any groups: that one handles a channel at a time, so merging pays up to about twice as many groups as there
    are lanes. A value that is not finite reaches the groups merged with its own.
    """

    name: ClassVar[str] = "merge-groups"
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
            weight = operands[1]
            assert weight is not None
            if (weight, by) not in merged:
                merged[weight, by] = rewriter.add("merge_groups", [weight], how, f"{weight}.merged", node.origin)
            operands[1] = merged[weight, by]
            rewriter.add(node.op, operands, fewer, None, node.origin, node.results)
        return rewriter.finish() if rewriter.changed else graph

    def _by(self, graph: Graph, node: Node) -> int:
        """How many groups of a node are made one."""
        groups = int(node.attributes.get("groups", 1)) if node.op in CONVOLUTIONS else 1
        if groups == 1:
            return 1
        weights = node.type if node.op == "conv_weight_gradient" else graph.type(node.inputs[1])
        filters, channels = int(weights.shape[0]) // groups, int(weights.shape[1])
        if filters == channels == 1:
            return 1

        def fits(by: int) -> bool:
            whole = not (by * filters % self.lanes or by * channels % self.lanes)
            return groups % by == 0 and (whole or by == groups)

        by = next(by for by in range(1, groups + 1) if fits(by))
        return by if by <= 2 * self.lanes else 1
