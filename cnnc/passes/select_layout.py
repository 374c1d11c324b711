"""select-layout: where activations are stored plain, and where in blocks of channels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from cnnc.ir.graph import LEAVES, Graph, Node
from cnnc.ir.op import OPS
from cnnc.ir.rewrite import Rewriter, rename_pairs
from cnnc.ir.types import PLAIN, TensorType, blocked
from cnnc.ops.conv import TRANSPOSED
from cnnc.ops.selection import cuts, in_blocks
from cnnc.ops.transpose import axes_of
from cnnc.passes.manager import Form, Forms, Pass, register_pass

SPREADING = (
    "expand",
    "avgpool_gradient",
    "upsample",
)  # one small operand, a large result: better converted before than behind


@register_pass
@dataclass(frozen=True)
class SelectLayout(Pass):
    """y = conv(x, w)  -->  x' = to_layout(x) {layout="nchw16c"}, y = conv(x', w), and everything that follows stays
    blocked

    Convolutions and their gradients are blocked, except over three axes of space those whose groups are neither a multiple of
    the lanes nor one channel to one filter (depthwise). A convolution without groups reads a plain input of at most lanes / 2
    channels as it is. Ops that do not care are blocked as soon as one operand is. Ops that cannot be, inputs and
    outputs are plain. Each value is converted at most once to each layout.
    """

    name: ClassVar[str] = "select-layout"
    ends: ClassVar[Forms] = frozenset((Form.PLAIN, Form.READ, Form.ORDERED))
    gives: ClassVar[Forms] = frozenset((Form.LAID_OUT,))
    lanes: int = 16

    def __post_init__(self) -> None:
        if self.lanes not in (1, 4, 8, 16, 32):
            raise ValueError(f"lanes is {self.lanes}; it must be 4, 8, 16 or 32, or 1 for plain layouts")

    def apply(self, graph: Graph) -> Graph:
        if self.lanes == 1:
            return graph
        walk = _Walk(graph, self.lanes)
        for node in graph.nodes:
            walk.place(node)
        return walk.finish()


def _full(t: TensorType | None, rank: int) -> bool:
    """Whether a type is an activation of this rank, so that its layout matters."""
    return t is not None and t.rank == rank and t.rank in PLAIN and (t.layout == PLAIN[t.rank] or t.block > 1)


class _Walk:
    def __init__(self, graph: Graph, lanes: int) -> None:
        self.graph, self.lanes = graph, lanes
        self.rewriter = Rewriter(graph)
        self.converted: dict[tuple[str, str], str] = {}

    def now(self, value: str) -> TensorType:
        """The type of what a value has become."""
        return self.rewriter.type(self.rewriter.new(value))

    def type(self, value: str | None) -> TensorType | None:
        return None if value is None else self.now(value)

    def want(self, value: str, layout: str | None) -> str:
        """The new value in a layout, converted once."""
        value = self.rewriter.new(value)
        t = self.rewriter.type(value)
        if layout is None or t.layout == layout:
            return value
        source = self.rewriter.node(value)
        if source.op == "to_layout" and self.rewriter.type(source.inputs[0]).layout == layout:
            return source.inputs[0]
        if (value, layout) not in self.converted:
            self.converted[value, layout] = self.rewriter.add(
                "to_layout", [value], {"layout": layout}, f"{value}.{layout}", source.origin
            )
        return self.converted[value, layout]

    def place(self, node: Node) -> None:
        if node.op in LEAVES or not any(
            _full(t, t.rank) for t in (*node.types, *(self.graph.type(o) for o in node.inputs))
        ):
            self.rewriter.keep(node)
            return
        match OPS[node.op].layout:
            case "convert":
                self.convert(node)
            case "window":
                self.window(node)
            case "weight_gradient":
                self.weight_gradient(node)
            case "any":
                self.any(node)
            case "planes":
                self.planes(node)
            case "sink":
                self.sink(node)
            case "channels":
                self.channels(node)
            case "moving":
                self.moving(node)
            case _:
                self.plain(node)

    def write(self, node: Node, layouts: dict[str, str | None], result: str | None) -> None:
        """Add the node with each operand in its layout (or as it is) and its results in theirs."""
        operands = tuple(None if o is None else self.want(o, layouts.get(o)) for o in node.operands)
        types = tuple(t.with_layout(result) if _full(t, t.rank) else t for t in node.types)
        self.put(node, replace(node, operands=operands, types=types))

    def put(self, old: Node, new: Node) -> None:
        self.rewriter.changed |= new != self.graph.node(old.name)
        self.rewriter.put(new)

    def convert(self, node: Node) -> None:
        """A conversion that is there already stays, if it is the first of its kind."""
        source, layout = self.rewriter.new(node.inputs[0]), str(node.type.layout)
        if self.rewriter.type(source).layout == layout or (source, layout) in self.converted:
            self.rewriter.replace(node.results, (self.want(source, layout),))
        else:
            self.converted[source, layout] = node.name
            self.put(node, replace(node, operands=(source,)))

    def plain(self, node: Node) -> None:
        layouts: dict[str, str | None] = {
            o: PLAIN[t.rank] for o in node.inputs if (t := self.type(o)) is not None and t.block > 1
        }
        self.write(node, layouts, PLAIN.get(node.type.rank))

    # ------------------------------------------------------------------------------------------------ convolutions

    def eligible(self, node: Node) -> bool:
        """Whether a convolution, or a gradient of one, works on blocks of channels."""
        weights = node.type if node.op == "conv_weight_gradient" else self.graph.type(node.inputs[1])
        groups = node.attribute("groups")
        filters, channels = int(weights.shape[0]) // groups, int(weights.shape[1])  # of one group
        whole = filters % self.lanes == 0 and channels % self.lanes == 0
        return weights.rank in (3, 4) or (weights.rank == 5 and (groups == 1 or whole or filters == channels == 1))

    def read(self, node: Node, block: str) -> str | None:
        """The layout in which a convolution reads x."""
        t = self.now(node.inputs[0])
        few = (
            node.op not in TRANSPOSED
            and t.block == 1
            and int(t.shape[1]) <= self.lanes // 2
            and node.attribute("groups") == 1
        )
        return t.layout if few else block

    def window(self, node: Node) -> None:
        if not self.eligible(node):
            attributes = node.attributes.with_(layout=None)
            self.plain(replace(node, attributes=attributes))
            return
        block = blocked(node.type, self.lanes)
        layout = self.read(node, block)
        x = self.want(node.inputs[0], layout)
        # an epilogue's operand of the result's shape has its layout; weights and vectors have none of an activation
        rest = [
            o if o is None else self.want(o, block if _full(self.type(o), node.type.rank) else None)
            for o in node.operands[1:]
        ]
        attributes = node.attributes.with_(layout=block if layout != block else None)
        self.put(node, replace(node, operands=(x, *rest), attributes=attributes, types=(node.type.with_layout(block),)))

    def weight_gradient(self, node: Node) -> None:
        if not self.eligible(node):
            self.plain(node)
            return
        x, dy = node.inputs
        block = blocked(self.graph.type(x), self.lanes)
        self.put(node, replace(node, operands=(self.want(x, self.read(node, block)), self.want(dy, block))))

    # ------------------------------------------------------------------------------------------------ the rest

    def shared(self, node: Node, rank: int) -> str | None:
        """The one layout of all operands of a rank: blocked if one of them is."""
        types = [self.type(o) for o in node.inputs]
        if any(t is not None and t.rank > 1 and t.rank != rank for t in types):
            return PLAIN.get(rank)
        return next((t.layout for t in types if t is not None and t.rank == rank and t.block > 1), PLAIN.get(rank))

    def across(self, node: Node, rank: int) -> bool:
        """Whether an operand has one value for all channels of a pixel or an image: that has no place in a block of
        channels.
        """
        shapes = [t.shape for t in (*node.types, *map(self.type, node.operands)) if t is not None and _full(t, rank)]
        return any(s[1] == 1 and set(s) != {1} for s in shapes) and any(s[1] != 1 for s in shapes)

    def any(self, node: Node) -> None:
        rank = node.type.rank
        layout = self.shared(node, rank)
        if self.across(node, rank) or not _full(node.type, rank):
            self.plain(node)
            return
        if layout == PLAIN[rank] and node.op in SPREADING and self.wanted_blocked(node):
            layout = blocked(node.type, self.lanes)
        if node.op == "expand":
            attributes = node.attributes.with_(layout=layout if layout != PLAIN[rank] else None)
            node = replace(node, attributes=attributes)
        self.write(node, {o: layout for o in node.inputs if _full(self.type(o), rank)}, layout)

    def wanted_blocked(self, node: Node, depth: int = 4) -> bool:
        """Whether what follows the node's result is going to be blocked anyway."""
        if node.type.rank not in PLAIN or not depth:
            return False
        for user in self.graph.users(node.name):
            kind = OPS[user.op].layout
            if kind in ("window", "weight_gradient"):
                if self.eligible(user):
                    return True
            elif kind in ("any", "sink"):
                ready = [self.type(o) for o in user.inputs if self.rewriter.new(o) in self.rewriter.builder]
                if any(t is not None and t.block > 1 for t in ready):
                    return True
                if user.type.rank == node.type.rank and self.wanted_blocked(user, depth - 1):
                    return True
        return False

    def planes(self, node: Node) -> None:
        """Of a normalization, blocked ones are over the channels of a pixel, or over channels and all of space."""
        if node.attributes["axes"] in ((1,), tuple(range(1, node.type.rank))):
            self.any(node)
        else:
            self.plain(node)

    def sink(self, node: Node) -> None:
        rank = max(self.graph.type(o).rank for o in node.inputs)
        layout = PLAIN.get(rank) if self.across(node, rank) else self.shared(node, rank)
        self.write(node, {o: layout for o in node.inputs if _full(self.type(o), rank)}, None)

    def channels(self, node: Node) -> None:
        rank = node.type.rank
        layout = self.shared(node, rank)
        if layout != PLAIN[rank]:
            if node.op == "slice":
                sizes = [n for axis, *numbers in cuts(node.attributes) if axis % rank == 1 for n in numbers[:2]]
            elif node.attribute("axis") % rank == 1:
                sizes = [int(t.shape[1]) for o in node.inputs if (t := self.type(o)) is not None]
            else:
                sizes = []
            whole = not any(s % self.lanes for s in sizes)
            if not whole and not (node.op == "slice" and self.wanted_blocked(node)):
                layout = PLAIN[rank]
        self.write(node, {o: layout for o in node.inputs}, layout)

    def moving(self, node: Node) -> None:
        """Ops that select along axes work in blocks; a transpose does that leaves the channels where they are."""
        rank = node.type.rank
        if node.op == "transpose":
            blocks = axes_of(node.attributes, rank)[:2] == (0, 1)
        else:
            blocks = in_blocks(node)
        if not blocks:
            self.plain(node)
            return
        layout = self.shared(node, rank)
        self.write(node, dict.fromkeys(node.inputs, layout), layout)

    def finish(self) -> Graph:
        """The graph, its outputs and updates plain."""
        kept = {}
        for _, value in (*self.graph.outputs, *self.graph.updates):
            t = self.now(value)
            if t.block > 1:
                kept[value] = self.want(value, PLAIN[t.rank])
        if not self.rewriter.changed:
            return self.graph
        names = {**self.rewriter.names, **kept}
        outputs, updates = (rename_pairs(pairs, names) for pairs in (self.graph.outputs, self.graph.updates))
        return self.rewriter.builder.finish(outputs, updates)
