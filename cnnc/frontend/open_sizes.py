"""Sizes of inputs that stay open besides the batch: names in capitals that nothing defines, as in f32[N, 3, H, W]."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from cnnc.frontend.declarations import dimension
from cnnc.frontend.elaboration import Frame
from cnnc.frontend.expressions import names_in
from cnnc.frontend.sizes import OpenSizes
from cnnc.frontend.text import syntax as s
from cnnc.ir.types import BATCH, Dim


def inputs_of(item: s.Definition) -> Iterator[s.Input]:
    return (statement for statement in item.body if isinstance(statement, s.Input))


def open_names(item: s.Definition, defined: set[str]) -> list[str]:
    """The sizes that a model's inputs leave open; `defined`: what has a value already."""
    dims = (d for node in inputs_of(item) for d in node.type.dims)
    names = (d.name for d in dims if isinstance(d, s.Name) and d.name != BATCH and d.name.isupper())
    return [n for n in dict.fromkeys(names) if n not in defined]


def bind(item: s.Model, sizes: Mapping[str, int], frame: Frame) -> None:
    """Set the open sizes. Raises `OpenSizes` where one is not given, `Failure` for one that the model has not."""
    names = open_names(item, set(names_in(frame)))
    for name in sizes:
        if name not in names:
            frame.unknown(item.name, "E0305", f"model {item.name.name} leaves no size open that is called", name, names)
    if all(name in sizes for name in names):
        frame.names.update(sizes)
        return
    shapes = {}
    for node in inputs_of(item):
        shapes[node.name.name] = tuple(_dim(d, names, frame) for d in node.type.dims)
    raise OpenSizes(shapes, item.name.name)


def _dim(node: s.Expression, names: Collection[str], frame: Frame) -> Dim:
    if isinstance(node, s.Name) and (node.name == BATCH or node.name in names):
        return node.name
    return dimension(node, frame)
