"""Convolutions as their planners are told of them: made once for each node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cnnc.ir import expression as ex
from cnnc.ir.graph import Node
from cnnc.kernels.cpu.problem import BARE, Conv, Epilogue
from cnnc.lowering.context import Lowering
from cnnc.ops.conv import TRANSPOSED
from cnnc.ops.window import Window

OPS = ("conv", "conv_weight_gradient", *TRANSPOSED)


@dataclass(frozen=True)
class Problem:
    """A convolution or one of its gradients: `op` is the node's, and that of the data gradient of a transposed convolution.

    conv: over the axes that there are. flat: the same over two, None where it really has three. x: the value that it reads, of the
    gradient of its input dy; weight: the other, of a weight gradient dy. bias: None where there is none. operands: those of the
    epilogue.
    """

    op: str
    conv: Conv
    flat: Conv | None
    epilogue: Epilogue
    operands: tuple[str, ...]
    x: str
    weight: str
    bias: str | None

    @property
    def transposed(self) -> bool:
        return self.op == "conv_data_gradient"

    @property
    def two(self) -> Conv:
        """The convolution over two axes of one that has no more."""
        assert self.flat is not None
        return self.flat


def epilogue(low: Lowering, node: Node) -> tuple[Epilogue, tuple[str, ...]]:
    """What comes behind a contraction, and its operands."""
    extras = tuple(o for o in node.operands[3:] if o is not None)
    kinds = tuple("full" if low.type(o).rank > 1 else "channel" if low.type(o).rank == 1 else "scalar" for o in extras)
    text = node.attributes.get("epilogue")
    return Epilogue(None if text is None else ex.parse(text), kinds), extras


def two(values: tuple[Any, ...], fill: Any) -> tuple[Any, Any]:
    """One axis of space as two, a height of 1 in front."""
    a, *rest = values
    return (a, rest[0]) if rest else (fill, a)


def _flat(c: Conv) -> Conv | None:
    """Over two axes. Of three, where pixels of different rows and columns never meet: a slice's pixels are one line."""
    if len(c.size) < 3:
        return Conv(
            c.images, c.channels, two(c.size, 1), c.filters, two(c.kernel, 1), two(c.stride, 1), two(c.padding, (0, 0)),
            two(c.dilation, 1), c.groups,
        )  # fmt: skip
    if c.kernel[1:] != (1, 1) or c.stride[1:] != (1, 1) or any(sum(c.padding[1:], ())):
        return None
    return Conv(
        c.images, c.channels, (c.size[0], c.size[1] * c.size[2]), c.filters, (c.kernel[0], 1), (c.stride[0], 1),
        (c.padding[0], (0, 0)), (c.dilation[0], 1), c.groups,
    )  # fmt: skip


def _made(low: Lowering, node: Node) -> Problem:
    (first, second), rest = node.inputs[:2], node.operands[2:3]
    back, weights = node.op in TRANSPOSED, node.op == "conv_weight_gradient"
    images, channels, *size = low.shape(node.name if back else first)
    filters, _, *kernel = low.shape(node.name if weights else second)
    window = Window.of(tuple(kernel), node.attributes, len(kernel))
    conv = Conv(
        images, channels, tuple(size), filters, window.kernel, window.stride, window.padding, window.dilation,
        int(node.attribute("groups")),
    )  # fmt: skip
    behind, operands = (BARE, ()) if weights else epilogue(low, node)
    op = "conv_data_gradient" if back else node.op
    return Problem(op, conv, _flat(conv), behind, operands, first, second, rest[0] if rest else None)


def problem(low: Lowering, node: Node) -> Problem:
    """The convolution of a node."""
    return low.once(("problem", node.name), lambda: _made(low, node))
