"""The network of an ONNX file: of fixed sizes, or an open one where the file leaves sizes open and none are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnnc.diagnostics import CnncError
from cnnc.ir.types import BATCH, Dim
from cnnc.network import Network
from cnnc.open_sizes import OpenNetwork

if TYPE_CHECKING:
    from cnnc.frontend.elaborate import Program

Shapes = Mapping[str, Sequence[int | None]]
Make = Callable[["Program"], Network]


def load(path: Path, shapes: Shapes | None, external_data: bool, make: Make) -> Network:
    """The network. Raises `CnncError` (E0601, E0650, E0653 to E0656)."""
    from cnnc.interop.onnx_import import model as onnx
    from cnnc.interop.onnx_import.reading import read

    model = read(path)
    found = Models(model, path, external_data, make)
    if shapes:
        return found.at(shapes)
    opened = onnx.open_shapes(model.graph)
    network = OpenNetwork(opened, lambda sizes: found.at(_with(opened, sizes)), onnx.name_of(model))
    if not network.open_sizes:
        try:
            return found.at({})
        except CnncError as refused:
            return _of_each_batch(found, model, opened, refused)
    try:
        _ = network.representative  # whether the batch can stay open
    except CnncError as refused:
        return _of_each_batch(found, model, opened, refused)
    return network


class Models:
    """The networks of a model of ONNX, by the shapes of its inputs."""

    def __init__(self, model: Any, path: Path, external_data: bool, make: Make) -> None:
        self.model, self.path, self.external_data, self.make = model, path, external_data, make

    def at(self, shapes: Shapes) -> Network:
        from cnnc.interop.onnx_import.model import of_model, program_of

        found = of_model(self.model, self.path, shapes, self.external_data)
        network = self.make(program_of(found))
        for name, value in found.weights.items():
            network.weights[name] = value
        return network


def _with(shapes: Mapping[str, Sequence[Dim]], sizes: Mapping[str, int]) -> dict[str, list[int | None]]:
    return {k: [d if isinstance(d, int) else sizes.get(d) for d in shape] for k, shape in shapes.items()}


def _of_each_batch(found: Models, model: Any, opened: Mapping[str, tuple[Dim, ...]], refused: CnncError) -> Network:
    """A network for each batch: of a model that moves the axis of images among others, or calculates with it. A batch of 1
    that the file fixes stays so. Raises what was refused where that is no help.
    """
    from cnnc.interop.onnx_import.model import first_size, name_of

    fixed = {v.name: first_size(v) for v in model.graph.input}
    shapes = {k: ((fixed[k] or "batch") if s and s[0] == BATCH else s[0], *s[1:]) for k, s in opened.items() if s}
    if shapes == opened:
        raise refused
    network = OpenNetwork(shapes, lambda sizes: found.at(_with(shapes, sizes)), name_of(model))
    try:
        return network if network.open_sizes and network.representative else found.at(_with(shapes, {}))
    except CnncError:
        raise refused from None
