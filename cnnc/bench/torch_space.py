"""Convolutions, pools and what else slides windows over space or changes its size, as calls of PyTorch."""

from __future__ import annotations

import numpy as np

from cnnc.diagnostics import CnncError, error
from cnnc.ir.graph import Graph, Node
from cnnc.ops.pool import window_of
from cnnc.ops.window import Window, spatial

DIMENSIONS = {1: "1d", 2: "2d", 3: "3d"}


def unknown(node: Node, why: str = "") -> CnncError:
    span = node.origin.span if node.origin is not None else None
    return error(
        "E0651", f"'{node.op}' cannot be built in PyTorch", f"at %{node.name}", *([why] * bool(why)), span=span
    )


class SpaceWriter:
    """Lines of Python over local names; `local` maps values to them."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.local: dict[str, str] = {}

    def padded(self, x: str, window: Window, value: float = 0.0, beyond: bool = False) -> tuple[str, tuple[int, ...]]:
        """The input, padded where the layer itself cannot, and the even padding that is left to the layer."""
        if all(a == b for a, b in window.padding) and not beyond:
            return x, tuple(a for a, _ in window.padding)
        pads = [p for pair in reversed(window.padding) for p in pair]
        return f"F.pad({x}, {pads}, value={float(value)!r})".replace("-inf", "float('-inf')"), (0,) * len(pads[::2])

    def conv(self, node: Node) -> str:
        if "epilogue" in node.attributes:
            raise unknown(node, "it has an epilogue; give the network as written")
        kernel = self.graph.type(node.inputs[1]).sizes[2:]
        window = Window.of(kernel, node.attributes, len(kernel))
        x, padding = self.padded(self.local[node.inputs[0]], window)
        bias = self.local[node.inputs[2]] if len(node.inputs) > 2 else "None"
        numbers = f"{window.stride}, {padding}, {window.dilation}, {node.attribute('groups')}"
        return f"F.conv{DIMENSIONS[len(kernel)]}({x}, {self.local[node.inputs[1]]}, {bias}, {numbers})"

    def conv_transpose(self, node: Node) -> str:
        """Uneven padding is cut off behind the layer."""
        if "epilogue" in node.attributes:
            raise unknown(node, "it has an epilogue; give the network as written")
        given, w = (spatial(self.graph.type(o)) for o in node.inputs[:2])
        window, size = Window.of(w, node.attributes, len(w)), spatial(node.type)
        even = tuple(min(pair) for pair in window.padding)
        more, cuts = [], []
        for i, (n, (before, _)) in enumerate(zip(given, window.padding, strict=True)):
            made, first = (n - 1) * window.stride[i] + window.reach(i) - 2 * even[i], before - even[i]
            more.append(max(0, first + size[i] - made))
            if first or made > size[i]:
                cuts.append(f".narrow({i + 2}, {first}, {size[i]})")
        operands = [self.local[o] for o in node.inputs] + ["None"] * (3 - len(node.inputs))
        numbers = f"{window.stride}, {even}, {tuple(more)}, {node.attribute('groups')}, {window.dilation}"
        return f"F.conv_transpose{DIMENSIONS[len(w)]}({', '.join(operands)}, {numbers})" + "".join(cuts)

    def pool(self, node: Node) -> str:
        rank, ceil = node.type.rank - 2, bool(node.attribute("ceil_mode"))
        window = window_of(node.attributes, rank)
        # PyTorch's pools pad evenly, by at most half a kernel (dilated or not), some of them no image smaller than the kernel.
        sizes = zip(self.graph.type(node.inputs[0]).shape[2:], window.kernel, window.padding, strict=True)
        beyond = any(a != b or a > kernel // 2 or (a and int(size) < kernel) for size, kernel, (a, b) in sizes)
        maximum = node.op == "maxpool"
        include = maximum or bool(node.attribute("count_include_pad"))
        if beyond and (ceil or not include):
            raise unknown(node, "PyTorch counts its windows and pixels over even padding of at most half a kernel only")
        x, padding = self.padded(self.local[node.inputs[0]], window, -np.inf if maximum else 0.0, beyond)
        if maximum:
            numbers = f"{window.kernel}, {window.stride}, {padding}, {window.dilation}, {ceil}"
            return f"F.max_pool{DIMENSIONS[rank]}({x}, {numbers})"
        divisor = node.attribute("divisor_override")
        if divisor is not None and rank == 1:
            raise unknown(node, "PyTorch's average pools over one axis divide by the pixels alone")
        more = "" if divisor is None else f", {divisor}"
        return (
            f"F.avg_pool{DIMENSIONS[rank]}({x}, {window.kernel}, {window.stride}, {padding}, {ceil}, {include}{more})"
        )

    def adaptive(self, node: Node) -> str:
        kind = "max" if node.op == "adaptive_maxpool" else "avg"
        return f"F.adaptive_{kind}_pool{DIMENSIONS[node.type.rank - 2]}({self.local[node.inputs[0]]}, {spatial(node.type)})"

    def unpool(self, node: Node) -> str:
        rank, (y, x) = node.type.rank - 2, (self.local[o] for o in node.inputs)
        window = window_of(node.attributes, rank)
        if any(a != b or a > k // 2 for (a, b), k in zip(window.padding, window.kernel, strict=True)):
            raise unknown(node, "PyTorch pools over even padding of at most half a kernel only")
        numbers = f"{window.kernel}, {window.stride}, {tuple(a for a, _ in window.padding)}"
        ceil, kind = bool(node.attribute("ceil_mode")), DIMENSIONS[rank]
        places = f"F.max_pool{kind}({x}, {numbers}, 1, {ceil}, return_indices=True)[1]"
        return f"F.max_unpool{kind}({y}, {places}, {numbers}, {x}.shape)"

    def lppool(self, node: Node) -> str:
        window, p = window_of(node.attributes, node.type.rank - 2), float(node.attribute("norm_type"))
        axes = [n[0] if node.type.rank == 3 else n for n in (window.kernel, window.stride)]
        numbers = f"{p!r}, {axes[0]}, {axes[1]}, {bool(node.attribute('ceil_mode'))}"
        return f"F.lp_pool{DIMENSIONS[node.type.rank - 2]}({self.local[node.inputs[0]]}, {numbers})"

    def upsample(self, node: Node) -> str:
        rank, factor = node.type.rank - 2, node.attribute("factor")
        modes = {
            ("nearest", "asymmetric", "floor"): ("nearest", None),
            ("nearest", "half_pixel", "round_prefer_ceil"): ("nearest-exact", None),
            ("bilinear", "half_pixel", "floor"): ({1: "linear", 2: "bilinear", 3: "trilinear"}[rank], False),
            ("bilinear", "align_corners", "floor"): ({1: "linear", 2: "bilinear", 3: "trilinear"}[rank], True),
        }
        if rank == 2:
            modes |= {("bicubic", "half_pixel", "floor"): ("bicubic", False)}
            modes |= {("bicubic", "align_corners", "floor"): ("bicubic", True)}
        rule = modes.get((node.attribute("mode"), node.attribute("corners"), node.attribute("rounding")))
        if rule is None:
            raise unknown(node, "PyTorch has no such rule of corners and rounding")
        size = f"scale_factor={factor}" if factor else f"size={spatial(node.type)}"
        return f"F.interpolate({self.local[node.inputs[0]]}, {size}, mode={rule[0]!r}, align_corners={rule[1]})"
