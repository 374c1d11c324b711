"""The pass manager: options as text, verification, observers, and the check of results."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from cnnc.backends.cpu.pipeline import layouts
from cnnc.diagnostics import CnncError
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import random_values, run
from cnnc.ir.text import parse_graph, print_graph
from cnnc.ir.verify import verify
from cnnc.passes import inference_pipeline, training_graph, training_pipeline
from cnnc.passes.check_results import CheckResults, compare, difference
from cnnc.passes.compare import diff
from cnnc.passes.eliminate_dead import EliminateDead
from cnnc.passes.fuse_epilogues import FuseEpilogues
from cnnc.passes.manager import PASSES, Dump, Pass, PassManager, Stages, observers, parse_passes
from cnnc.passes.optimizer import SGD
from tests.passes.networks import Net, small
from tests.random_networks.generate import network
from tests.random_networks.training import graph_of


def test_passes_as_text() -> None:
    assert [str(p) for p in parse_passes(" fold-batchnorm , fuse-epilogues{max=2},select-layout{lanes=8}")] == [
        "fold-batchnorm",
        "fuse-epilogues{max=2}",
        "select-layout{lanes=8}",
    ]
    assert parse_passes("") == []
    assert parse_passes("fuse-epilogues{}") == [FuseEpilogues()]


@pytest.mark.parametrize("name", list(PASSES))
def test_every_pass_reads_its_own_text_and_says_what_it_does(name: str) -> None:
    default = PASSES[name]()
    assert parse_passes(str(default)) == [default]
    assert "-->" in (PASSES[name].__doc__ or "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("fuse-epilogs", "E0801 did you mean 'fuse-epilogues'"),
        ("xyz", "E0801 the passes are"),
        ("fuse-epilogues{mx=2}", "E0802 did you mean 'max'"),
        ("fuse-epilogues{max=two}", "E0802 a whole number"),
        ("fuse-epilogues{max=99}", "E0802 from 0 to 8"),
        ("fuse-epilogues{max}", "E0803 name=value"),
        ("fuse-epilogues{max=1,max=2}", "E0802 twice"),
        ("fold-batchnorm{a=1}", "E0802 it has no options"),
        ("a,,b", "E0801 unknown"),
        ("fold-constants,", "E0803 the end"),
        ("fold-constants;x", "E0803 ','"),
        ("{", "E0803 a pass was expected"),
        ("fuse-epilogues{max=1", "E0803 ','"),
        ("select-layout{lanes=3}", "E0802 it must be"),
        ("fuse-epilogues{max=" + "9" * 5000 + "}", "E0802 a whole number"),
    ],
)
def test_what_is_no_list_of_passes(text: str, said: str) -> None:
    code, _, words = said.partition(" ")
    with pytest.raises(CnncError, match=words) as e:
        parse_passes(text)
    assert e.value.diagnostics[0].code == code
    assert e.value.exit_code == 2


@dataclass(frozen=True)
class Wrong(Pass):
    """x --> 2 x"""

    name: ClassVar[str] = "wrong"

    def apply(self, graph: Graph) -> Graph:
        b = Net(graph.name, graph.nodes)
        label, value = graph.outputs[0]
        return b.finish([(label, b.add("add", [value, value]))], graph.updates)


@dataclass(frozen=True)
class Broken(Pass):
    """x --> nothing"""

    name: ClassVar[str] = "broken"

    def apply(self, graph: Graph) -> Graph:
        return replace(graph, nodes=graph.nodes[:-1])


def test_a_pass_that_breaks_the_graph_is_our_own_mistake() -> None:
    with pytest.raises(CnncError, match="broken left a broken graph") as e:
        PassManager([Broken()]).run(small())
    assert e.value.diagnostics[0].code == "E0805"
    assert e.value.exit_code == 70
    PassManager([Broken()], verify=False).run(small())


def test_a_pass_that_changes_results_is_found() -> None:
    with pytest.raises(CnncError, match="wrong changes what the graph computes") as e:
        PassManager([EliminateDead(), Wrong()], observer=CheckResults()).run(small())
    assert e.value.diagnostics[0].code == "E0804"
    assert e.value.exit_code == 4


def test_differences() -> None:
    nan, inf = float("nan"), float("inf")
    assert difference([1, nan, inf], [1, nan, inf]) == 0
    assert difference([1, nan], [1, 2]) == inf
    assert difference([inf], [-inf]) == inf
    assert difference([1], [1, 1]) == inf
    assert difference([0, 100], [1e-7, 100]) == pytest.approx(1e-9)
    assert difference([], []) == difference([0], [0]) == 0


def test_observers_see_every_step(tmp_path: Path) -> None:
    graph, seen = small(), []
    stages, check = Stages(graph), CheckResults()
    manager = PassManager(
        inference_pipeline(layouts(16)),
        observer=observers(
            stages,
            check,
            None,
            Dump(tmp_path, graph, diffs=True),
            lambda before, p, after, seconds: seen.append((p.name, seconds >= 0)),
        ),
    )
    result = manager.run(graph)
    names = [p.name for p in inference_pipeline(layouts(16))]
    assert seen == [(n, True) for n in names]
    assert [t for t, _ in stages.stages] == ["source", *names]
    assert stages.after("eliminate-dead") == result
    assert stages.after("fuse-epilogues") == parse_graph((tmp_path / "05-fuse-epilogues.ir").read_text())
    assert "-  %relu1 = relu" in (tmp_path / "05-fuse-epilogues.diff").read_text()
    assert [n for n, _ in manager.seconds] == names
    assert max(check.worst.values()) < 1e-12
    assert not list(tmp_path.glob(".*"))
    with pytest.raises(CnncError, match="did you mean 'fuse-epilogues'"):
        stages.after("fuse-epilogue")
    assert diff(graph, graph) == ""


def test_a_pass_with_nothing_to_do_gives_the_same_object() -> None:
    done = PassManager(inference_pipeline(layouts(16))).run(small())
    for p in inference_pipeline(layouts(16)):
        assert p.apply(done) is done, p


@pytest.mark.parametrize("seed", range(40))
def test_random_networks(seed: int) -> None:
    """Every pipeline, and every pass left out, gives what the source gives, in prediction and in training."""
    graph = network(seed)
    verify(graph)
    assert parse_graph(print_graph(graph)) == graph
    training = graph_of(graph, "step") or graph_of(graph, "gradients")
    pipelines = [(graph, inference_pipeline(layouts(4)))]
    if training is not None:  # outputs have gradients
        verify(training)
        pipelines.append((training, training_pipeline(layouts(4))))
    for source, pipeline in pipelines:
        inputs, values = random_values(source, 2, seed)
        expected = run(source, inputs, values)
        left_out = seed % (len(pipeline) + 1)
        for passes in (pipeline, pipeline[:left_out] + pipeline[left_out + 1 :]):
            result = PassManager(passes).run(source)
            assert parse_graph(print_graph(result)) == result
            differences = compare(expected, run(result, inputs, values))
            assert max(differences.values()) <= 1e-9, (passes, differences)


@pytest.mark.slow
def test_a_thousand_layers() -> None:
    """Every pass is near linear: twice the layers take about twice the time."""

    def deep(layers: int) -> Graph:
        b = Net("deep")
        y = b.image(4, 6, 6)
        for i in range(layers):
            y = b.add(
                "relu",
                [b.add("add", [y, b.norm(b.conv(y, 4, f"c{i}", padding=[1, 1]), f"n{i}")], {}, f"s{i}")],
                {},
                f"r{i}",
            )
        return b.finish([("logits", b.linear(b.add("flatten", [b.add("global_avgpool", [y], {})], {}), 3, "fc"))])

    seconds = []
    for layers in (200, 800):
        graph = deep(layers)
        inference, training = (
            PassManager(inference_pipeline(layouts(16)), verify=False),
            PassManager(training_pipeline(layouts(16)), verify=False),
        )
        verify(inference.run(graph))
        verify(training.run(training_graph(graph, optimizer=SGD(momentum=0.9))))
        seconds.append(sum(s for m in (inference, training) for _, s in m.seconds))
    assert seconds[1] < 20 * max(seconds[0], 0.05)
