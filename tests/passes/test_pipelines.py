"""The order of passes: a wrong one is refused in words, and what passes say of graphs is so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cnnc.backends.cpu.pipeline import layouts
from cnnc.ir.graph import Graph
from cnnc.passes import inference_pipeline, training_graph, training_pipeline
from cnnc.passes.eliminate_dead import EliminateDead
from cnnc.passes.manager import PASSES, Form, Pass, parse_passes, run_passes
from cnnc.passes.optimizer import SGD
from cnnc.passes.pipelines import LOWERED, WRITTEN, in_order
from cnnc.passes.select_layout import SelectLayout
from tests.passes.networks import small

INFERENCE = ",".join(map(str, inference_pipeline(layouts(16))))
TRAINING = ",".join(map(str, training_pipeline(layouts(16))))
HOLDS: dict[Form, Callable[[Graph], bool]] = {
    Form.PLAIN: lambda graph: all(t.block == 1 for n in graph.nodes for t in n.types),
    Form.LAID_OUT: lambda graph: SelectLayout().apply(graph) is graph,
    Form.SEPARATE: lambda graph: not any("epilogue" in n.attributes for n in graph.nodes),
    Form.READ: lambda graph: EliminateDead().apply(graph) is graph,
}


@pytest.mark.parametrize(
    ("pipeline", "old", "new", "words"),
    [
        (
            INFERENCE,
            "merge-groups,select-layout",
            "select-layout,merge-groups",
            "merge-groups needs that activations are in plain layouts, which select-layout ends: fold-constants, ",
        ),
        (
            INFERENCE,
            "fold-batchnorm,fuse-epilogues",
            "fuse-epilogues,fold-batchnorm",
            "fold-batchnorm needs that nothing is fused, which fuse-epilogues ends: ",
        ),
        (
            INFERENCE,
            "eliminate-dead,fold-batchnorm",
            "fold-batchnorm",
            "fold-batchnorm needs that every node is read, which no pass before sees to: ",
        ),
        (
            INFERENCE,
            "select-layout,eliminate-dead",
            "select-layout",
            "what comes behind the passes needs that every node is read, which select-layout ends: ",
        ),
        (
            INFERENCE,
            ",select-layout",
            "",
            "what comes behind the passes needs that the layouts of activations are chosen, which no pass before sees to: ",
        ),
        (
            TRAINING,
            "order-updates,recompute",
            "recompute,order-updates",
            "recompute needs that parameters are updated as soon as they can be, which select-layout ends: ",
        ),
        (
            TRAINING,
            "mask-pooled,mask-normalized,fuse-epilogues",
            "fuse-epilogues,mask-pooled,mask-normalized",
            "mask-pooled needs that nothing is fused, which fuse-epilogues ends: ",
        ),
        (
            TRAINING,
            "recompute",
            "recompute,eliminate-common",
            "eliminate-common needs that nothing is computed again on purpose, which recompute ends: ",
        ),
    ],
)
def test_a_wrong_order_is_refused_in_words(pipeline: str, old: str, new: str, words: str) -> None:
    in_order(parse_passes(pipeline))
    assert old in pipeline
    wrong = parse_passes(pipeline.replace(old, new, 1))
    with pytest.raises(ValueError, match=words):
        in_order(wrong)
    graph = small()
    assert run_passes(graph, wrong).outputs == graph.outputs  # by themselves they are applied in any order


@pytest.mark.parametrize(
    ("graph", "pipeline"),
    [
        (small(), inference_pipeline(layouts(16))),
        (training_graph(small(), optimizer=SGD(momentum=0.9)), training_pipeline(layouts(16))),
    ],
    ids=["inference", "training"],
)
def test_what_passes_say_of_graphs_is_so(graph: Graph, pipeline: list[Pass]) -> None:
    true = set(WRITTEN)
    for p in pipeline:
        assert p.needs <= true
        graph, true = p.apply(graph), true - p.ends | p.gives
        assert all(HOLDS[form](graph) for form in true & set(HOLDS)), p
    assert true >= LOWERED


def test_what_is_needed_is_seen_to() -> None:
    """Each need is of the source, or what some pass gives, and each pass says something of graphs but what just folds."""
    given = WRITTEN.union(*(p.gives for p in PASSES.values()))
    assert all(p.needs <= given for p in PASSES.values())
    assert [name for name, p in PASSES.items() if not p.needs | p.ends | p.gives] == ["fold-constants"]
