"""What is said of layers of the language and of ops of the IR, from their records: `cnnc explain conv`, and the table of
layers in the language reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import cnnc.ops  # noqa: F401  (registers the ops and the layers)
from cnnc.frontend import parse
from cnnc.frontend.values import show, shown_type
from cnnc.ir.layer import LAYERS, Argument, Layer
from cnnc.ir.op import OPS, REQUIRED, Kind, Op
from cnnc.table import wrapped

MODEL = "model m() {{\n    input x: f32[N, 3, 32, 32]\n    return {}\n}}"


def number(value: Any) -> str:
    """A default as one writes it: `1e-4` and `1`, where Python has 0.0001 and 1.0."""
    if not isinstance(value, float):
        return show(value)
    if not 0 < abs(value) < 1e-3:
        return f"{value:g}"
    digits, _, power = f"{value:e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def default(value: Any) -> str:
    return "" if value is REQUIRED else f"={number(value)}"


def signature(layer: Layer) -> str:
    """`conv(out_channels, kernel_size, stride=1)`; without parentheses where there is nothing to put into them."""
    given = [*(["list"] if layer.operands is None else []), *(a.name + default(a.default) for a in layer.arguments)]
    return layer.name + (f"({', '.join(given)})" if given else "")


def layers_table() -> str:
    """The table of the language reference, in Markdown: a row for each layer, by kind."""
    kinds = ("convolution", "linear", "pooling", "norm", "regularization", "shape", "pointwise")
    assert set(kinds) == set(get_args(Kind))
    rows = sorted(LAYERS.values(), key=lambda layer: kinds.index(op_of(layer).kind))
    return "\n".join(["| layer | |", "| --- | --- |", *(f"| `{signature(r)}` | {r.doc} |" for r in rows)])


@dataclass(frozen=True)
class Example:
    """A layer applied: the op and the type of what it gives, and the parameters that it has there by short name."""

    text: str
    op: str
    type: str
    parameters: Mapping[str, tuple[int, ...]]


def example(layer: Layer) -> Example:
    program = parse(MODEL.format(layer.example))
    graph = program.graph
    node = graph.node(graph.outputs[0][1])
    parameters = {o: program.parameters[o].shape for o in node.inputs if o in program.parameters}
    return Example(
        layer.example,
        node.op,
        shown_type(node.type),
        {name.rpartition(".")[2]: shape for name, shape in parameters.items()},
    )


def op_of(layer: Layer) -> Op:
    """The op that gives the layer's result: of its own name, or where there is none, that of its example."""
    return OPS[layer.name if layer.name in OPS else example(layer).op]


def layer_page(layer: Layer) -> str:
    """What `cnnc explain` says of a layer."""
    made, op = example(layer), op_of(layer)
    had = ", ".join(f"{name} {list(shape)}" for name, shape in made.parameters.items())
    parts = [
        wrapped(signature(layer), indent="    "),
        wrapped(f"A layer of the language: {layer.doc}."),
        ["Shapes:"],
        _indented(layer.shapes),
        *([["Arguments:"], _arguments(layer.arguments)] if layer.arguments else []),
        ["For example, of x: f32[N, 3, 32, 32],"],
        _indented(made.text),
        wrapped(f"is {made.type}" + (f", with the parameters {had}." if had else ".")),
        ["In the IR:"],
        _indented(op_signature(op)),
        *_paragraphs(op.doc),
    ]
    return "\n\n".join("\n".join(part) for part in parts)


def op_page(op: Op) -> str:
    """What `cnnc explain` says of an op that is no layer of the language."""
    parts = [wrapped(op_signature(op), indent="    "), ["An op of the IR."], *_paragraphs(op.doc)]
    return "\n\n".join("\n".join(part) for part in parts)


def op_signature(op: Op) -> str:
    """`conv(x, weight, bias?, epilogue*) {stride?, groups=1}`: `?` is after what may be left out, `*` after any number."""
    attributes = ", ".join(name + ("?" if value is None else default(value)) for name, value in op.attributes.items())
    return f"{op.name}({', '.join(op.operands)})" + (f" {{{attributes}}}" if attributes else "")


def layer_json(layer: Layer) -> dict[str, Any]:
    """The same as a record."""
    made = example(layer)
    arguments = [
        {"name": a.name, **({} if a.default is REQUIRED else {"default": a.default}), "text": a.doc}
        for a in layer.arguments
    ]
    return {
        "layer": layer.name,
        "signature": signature(layer),
        "text": layer.doc,
        "shapes": layer.shapes,
        "arguments": arguments,
        "example": made.text,
        "gives": made.type,
        "parameters": {name: list(shape) for name, shape in made.parameters.items()},
    }


def op_json(op: Op) -> dict[str, Any]:
    return {"op": op.name, "signature": op_signature(op), "text": op.doc.strip()}


def _paragraphs(text: str) -> list[list[str]]:
    return [wrapped(paragraph) for paragraph in text.strip().split("\n\n")]


def _indented(text: str) -> list[str]:
    return wrapped("    " + text, indent="        ")


def _arguments(arguments: tuple[Argument, ...]) -> list[str]:
    heads = [a.name + default(a.default) for a in arguments]
    wide = max(map(len, heads)) + 6
    return [
        line
        for head, a in zip(heads, arguments, strict=True)
        for line in wrapped(f"    {head}".ljust(wide) + a.doc, indent=" " * wide)
    ]
