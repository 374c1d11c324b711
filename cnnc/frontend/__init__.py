"""The `.cnn` language: text to graph.

`load(path)` and `parse(text)` give a `Program`: the graph, its parameters, how images become its inputs, and the recipe
it is trained by. Both raise `CnncError` with up to 20 diagnostics.

    text/         text -> syntax tree
    modules.py    files, and what they include
    elaborate.py  syntax tree -> Program, by way of models.py (which model, its parameters, what it returns)
    elaboration.py  the record that fills on the way, and the frames that bodies run in; limits.py bounds it
    statements.py declarations.py   bodies; inputs and types
    expressions.py operators.py application.py   a function for each kind of expression
    arithmetic.py functions.py   calculation with what is known at compile time
    binding.py layers.py blocks.py   arguments; what is applied, and the nodes and parameters it makes
    inputs.py recipes.py   how images become inputs; the train block
    names.py resolve.py tiling.py synonyms.py   what is said of code without running it, warnings and hints
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cnnc.arguments import as_path, of_kind
from cnnc.diagnostics import Source
from cnnc.frontend.sizes import OpenSizes

if TYPE_CHECKING:
    from cnnc.frontend.elaborate import Program

__all__ = ["OpenSizes", "load", "load_with", "parse", "parse_with"]


def load(path: str | os.PathLike[str], /, model: str | None = None, **parameters: Any) -> Program:
    """The program of a `.cnn` file. `model` picks one of several; other keywords set the model's parameters."""
    return load_with(path, model, parameters)


def load_with(
    path: str | os.PathLike[str],
    model: str | None,
    parameters: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
) -> Program:
    """`load`, with the parameters as a mapping, and the sizes that inputs leave open. Raises `OpenSizes` without them."""
    from cnnc.frontend.elaborate import elaborate
    from cnnc.frontend.text.scan import read

    path = as_path("path", path)
    of_kind("model", model, (str, type(None)), "the name of a model")
    return elaborate(read(path), path, model, parameters, sizes)


def parse(text: str, /, model: str | None = None, name: str = "<text>", **parameters: Any) -> Program:
    """The program of a text. It cannot include files."""
    return parse_with(text, model, parameters, name=name)


def parse_with(
    text: str,
    model: str | None,
    parameters: Mapping[str, Any],
    sizes: Mapping[str, int] | None = None,
    name: str = "<text>",
) -> Program:
    """`parse`, with the parameters as a mapping, and the sizes that inputs leave open. Raises `OpenSizes` without them."""
    from cnnc.frontend.elaborate import elaborate

    of_kind("text", text, str, "the text of a model", "cnnc.load takes a file")
    of_kind("model", model, (str, type(None)), "the name of a model")
    return elaborate(Source(name, text.removeprefix("\ufeff")), None, model, parameters, sizes)
