"""Normalizations, products and reductions as PyTorch's calls."""

from __future__ import annotations

from cnnc.bench.torch_space import SpaceWriter, unknown
from cnnc.ir.graph import Node
from cnnc.ops.checks import all_axes


class PartWriter(SpaceWriter):
    """What is normalized, multiplied or reduced along axes."""

    def aligned(self, value: str, rank: int) -> str:
        raise NotImplementedError

    def normalize(self, node: Node) -> str:
        if "epilogue" in node.attributes:
            raise unknown(node, "it has an epilogue; give the network as written")
        x, weight, bias = self.local[node.operand("x")], node.optional("weight"), node.optional("bias")
        axes, rank = node.attribute("axes"), node.type.rank
        groups, eps, centered = map(node.attribute, ("groups", "eps", "centered"))
        whole = axes == tuple(range(1, rank))
        if whole and centered and (weight is None or self.graph.type(weight).rank == 1):
            w, b = ("None" if v is None else self.local[v] for v in (weight, bias))
            if groups == node.type.shape[1] and any(d != 1 for d in node.type.shape[2:]):
                return f"F.instance_norm({x}, None, None, {w}, {b}, True, 0.1, {eps!r})"
            if groups > 1 or rank == 2:
                return f"F.group_norm({x}, {groups}, {w}, {b}, {eps!r})"
        if groups > 1:
            raise unknown(node, "PyTorch has no RMS normalization of groups")
        return self._layer_norm(node)

    def _layer_norm(self, node: Node) -> str:
        """PyTorch's are over the last axes: others go there and back."""
        x, axes, rank = self.local[node.operand("x")], node.attribute("axes"), node.type.rank
        weight, bias = node.optional("weight"), node.optional("bias")
        eps, centered = node.attribute("eps"), node.attribute("centered")
        order = [a for a in range(rank) if a not in axes] + list(axes)
        sizes = tuple(int(node.type.shape[a]) for a in axes)
        given = [v for v in (weight, bias) if v is not None]
        behind = [v for v in given if axes != (1,) and self.graph.type(v).rank == 1]  # numbers of channels
        vectors = [f"{self.local[v]}.reshape({sizes})" for v in given if v not in behind]
        vectors += ["None"] * ((2 if centered else 1) - len(vectors))
        moved = order != list(range(rank))
        call = f"F.{'layer' if centered else 'rms'}_norm("
        call += f"{f'{x}.permute({order})' if moved else x}, {sizes}, {', '.join(vectors)}, {eps!r})"
        call += f".permute({[order.index(a) for a in range(rank)]})" if moved else ""
        return call + "".join(f" {sign} {self.aligned(v, rank)}" for sign, v in zip("*+", behind, strict=False))

    def matmul(self, node: Node) -> str:
        turned = (node.attribute("transpose_a"), node.attribute("transpose_b"))
        return " @ ".join(f"{self.local[o]}{'.mT' * t}" for o, t in zip(node.inputs, turned, strict=True))

    def reduction(self, node: Node) -> str:
        axes = all_axes(node.attributes["axis"], self.graph.type(node.inputs[0]).rank)
        call = {"max": "amax", "min": "amin"}.get(node.op, node.op)
        return f"{self.local[node.inputs[0]]}.{call}({axes}, {bool(node.attribute('keepdim'))})"

    def products(self, node: Node) -> str:
        axes = all_axes(node.attributes["axis"], self.graph.type(node.inputs[0]).rank)
        calls = (f".prod({axis}, {bool(node.attribute('keepdim'))})" for axis in reversed(axes))
        return self.local[node.inputs[0]] + "".join(calls)

    def place(self, node: Node) -> str:
        (axis,) = all_axes(node.attribute("axis"), self.graph.type(node.inputs[0]).rank)
        x = self.local[node.inputs[0]]
        return f"{x}.{node.op}({axis}, {bool(node.attribute('keepdim'))}).to({x}.dtype)"

    def running(self, node: Node) -> str:
        axis, x = node.attribute("axis"), self.local[node.inputs[0]]
        return f"{x}.flip({axis}).cumsum({axis}).flip({axis})" if node.attribute("reverse") else f"{x}.cumsum({axis})"
