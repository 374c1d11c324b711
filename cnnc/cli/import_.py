"""`cnnc import net.onnx -o net`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cnnc.cli.common import say, write_text
from cnnc.cli.options import Chosen, define, load, model_options, path_option
from cnnc.diagnostics import CnncError, error
from cnnc.ir.graph import LEAVES

if TYPE_CHECKING:
    from cnnc.ir.graph import Graph
    from cnnc.network import Network

TRIED = (224, 256, 320, 96)  # sizes at which a network with open sizes is looked at


@define("import", "cnnc import resnet18.onnx -o resnet18", "cnnc import detector.onnx --input-shape image=N,3,480,640")
@model_options
@path_option("-o", "--output", metavar="NET", help="Names the files; as the model's unless given.")
def command(chosen: Chosen, output: str | None) -> None:
    """Write an ONNX model as a readable NET.cnn with its weights, NET.safetensors.

    Where the language has no words for it, the network is IR text, NET.ir. Needs `pip install 'cnnc[onnx]'`.
    """
    path, network = chosen.path, load(chosen)
    target = Path(output if output is not None else Path(path).with_suffix(""))
    if target.suffix in (".cnn", ".ir", ".safetensors"):
        target = target.with_suffix("")
    if target.with_suffix(".cnn").resolve() == Path(path).resolve():
        raise error("E0603", f"{path} would be written over", help="name another file with -o", exit_code=2)
    text, why = written(network)
    fixed = network.representative
    ending = ".cnn" if why is None else ".ir"
    if why is not None:
        say(f"the language has no words for all of it: {why}; the network is written as IR text")
    fixed.save_weights(f"{target}.safetensors")
    write_text(f"{target}{ending}", text)
    say(f"wrote {target}{ending} and {target}.safetensors, {fixed.parameter_count():,} parameters")


def written(network: Network) -> tuple[str, str | None]:
    """The text of a network, and why it is IR text where it is. Raises `CnncError` (E0655) for IR text of open sizes."""
    from cnnc.interop.sayings import Unsayable
    from cnnc.interop.source import source

    try:
        if network.open_sizes:
            return of_open_sizes(network), None
        return checked(source(network.graph), network), None
    except Unsayable as e:
        return str(network.graph), str(e)


def checked(text: str, network: Network) -> str:
    """The text, where it is the same network. Raises `Unsayable`."""
    from cnnc import driver
    from cnnc.interop.sayings import Unsayable
    from cnnc.interop.source import word

    try:
        again = driver.parse(text).graph
    except CnncError as e:
        raise Unsayable(f"what was written is refused: {e.diagnostics[0].message}") from None
    if meaning(network.graph, word) != meaning(again):
        raise Unsayable("what was written is another network")
    return text


def meaning(graph: Graph, called: Callable[[str], str] = str) -> object:
    """What a graph computes: outputs by label, from ops, parameters by name and inputs, in whatever order they stand.

    called: what an input of a name is called.
    """
    known: dict[str, int] = {}
    for node in graph.nodes:
        own = called(node.name) if node.op == "input" else node.name if node.op in LEAVES else ""
        for place, (result, type) in enumerate(zip(node.results, node.types, strict=True)):
            operands = tuple(None if o is None else known[o] for o in node.operands)
            known[result] = hash((node.op, own, place, node.attributes, str(type), operands))
    return [(label, known[v]) for label, v in graph.outputs], {called(n.name) for n in graph.inputs}


def of_open_sizes(network: Network) -> str:
    """The text of a network for every size: that which it has at some sizes, where only the inputs' types differ."""
    from cnnc.interop.source import source, word
    from cnnc.open_sizes import OpenNetwork

    assert isinstance(network, OpenNetwork)
    texts: list[tuple[str, str]] = []  # with the parameters
    letters = dict(zip(network.open_sizes, ("H", "W", "D", "L", "K", "M"), strict=False))
    for size in TRIED:
        sizes = {name: size + 32 * k for k, name in enumerate(network.open_sizes)}
        try:
            fixed = network.at(**sizes)
            text = checked(source(fixed.graph), fixed)
        except CnncError:
            continue
        for node in fixed.graph.inputs:
            shape = network.shapes[node.name]
            opened = [letters.get(str(d), str(d)) for d in ("N", *shape[1:])]
            text = text.replace(
                f"input {word(node.name)}: f32[{', '.join(map(str, node.type.shape))}]",
                f"input {word(node.name)}: f32[{', '.join(opened)}]",
            )
        texts.append((text, repr(fixed.weights)))
        if len(texts) == 2:
            break
    if len(texts) < 2 or texts[0] != texts[1]:
        raise network.sizes_are_wanted()
    return texts[0][0]
