"""The values of a network by name, as those ask for them who look into it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from cnnc.arguments import wrong
from cnnc.diagnostics import did_you_mean, error
from cnnc.ir.graph import Graph

SHOWN = 6  # names that a message lists


def values(graph: Graph) -> list[str]:
    """Inputs and all that nodes make of them and of parameters, in order; parameters, statistics and constants are not."""
    return [r for n in graph.nodes if n.op not in ("param", "state", "constant") for r in n.results]


def differentiable(graph: Graph) -> list[str]:
    """What a gradient can be asked by: parameters and values, of real numbers."""
    known = [*(n.name for n in graph.parameters), *values(graph)]
    return [name for name in known if graph.type(name).dtype == "f32"]


def chosen(argument: str, names: Any, known: Collection[str]) -> list[str]:
    """The names that an argument lists, each once and in the order in which they are known.

    Raises `CnncError`: E0706 for no list of names, E0830 for a name that is not known, with the nearest, or those that
    begin like it.
    """
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise wrong(argument, names, "a list of names")
    found = list(names)
    if not all(isinstance(n, str) for n in found):
        raise wrong(argument, names, "a list of names")
    for name in found:
        if name not in known:
            raise unknown(argument, name, known)
    return [k for k in known if k in found]


def unknown(argument: str, name: str, known: Collection[str]) -> Exception:
    """The error of a name that the network does not have."""
    within = [k for k in known if k.startswith(f"{name}.")]
    if within:
        help = f"'{name}' has several: {_listed(within)}"
    else:
        help = did_you_mean(name, known) or f"there are {_listed(known)}"
    return error("E0830", f"{argument}: the network has no value '{name}'", help=help, exit_code=2)


def _listed(names: Collection[str]) -> str:
    return ", ".join([*names][:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
