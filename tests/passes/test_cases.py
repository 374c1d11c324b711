"""Golden cases, text in, text out. Each file: `# passes: ...`, what it is about, a graph, `# after`, the graph that the
passes make of it.

Five checks each: it parses, both sides verify, both round-trip, the text is the golden text, and the reference finds
the same results before and after on random tensors. `UPDATE_GOLDEN=1 pytest tests/passes/test_cases.py` writes the
golden side anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import cnnc.backends.cpu.pipeline  # registers the passes of the processor alone
import cnnc.ops  # noqa: F401
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import random_values, run
from cnnc.ir.text import parse_graph, print_graph
from cnnc.ir.verify import verify
from cnnc.passes.check_results import compare
from cnnc.passes.manager import PassManager, parse_passes
from cnnc.passes.optimizer import SGD, Adam
from cnnc.passes.training import training_graph

CASES = sorted((Path(__file__).parent / "cases").glob("*.ir"))
OPTIMIZERS = {
    "sgd": SGD(momentum=0.9, weight_decay=0.0001, rates=(("fc.*", 0.1),)),
    "adam": Adam(weight_decay=0.01),
    "plain": SGD(),
}


def read(path: Path) -> tuple[str, str, str, str]:
    """The kind ("passes" or "train"), its argument, the text before, and the golden text after."""
    text = path.read_text(encoding="utf-8")
    head = re.match(r"# (passes|train): (.*)\n", text)
    assert head, f"{path.name} begins with no '# passes: ...'"
    before, _, after = text.partition("# after\n")
    return head[1], head[2], before, after


def transform(kind: str, argument: str, graph: Graph) -> Graph:
    if kind == "train":
        return training_graph(graph, optimizer=OPTIMIZERS[argument], gradients=argument == "plain")
    return PassManager(parse_passes(argument)).run(graph)


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_case(path: Path) -> None:
    kind, argument, source, golden = read(path)
    before = parse_graph(source, path.name)
    after = transform(kind, argument, before)
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(f"{source}# after\n{print_graph(after)}", encoding="utf-8")
        golden = print_graph(after)
    for graph in (before, after):
        verify(graph)
        assert parse_graph(print_graph(graph)) == graph
    assert print_graph(after) == golden
    if kind == "passes":
        for batch, seed, integers in ((2, 0, False), (1, 1, False), (3, 2, True)):
            inputs, values = random_values(before, batch, seed, integers)
            differences = compare(run(before, inputs, values), run(after, inputs, values))
            assert max(differences.values()) <= 1e-9, differences


def test_cases_are_there() -> None:
    assert len(CASES) > 80
