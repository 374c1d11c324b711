"""Compiling takes time linear in the layers: counted in calls, which no clock disturbs."""

from __future__ import annotations

import cProfile
import pstats

import pytest

import cnnc
from cnnc import driver
from cnnc.backends import backend
from cnnc.ir.graph import Graph
from cnnc.lowering.lower import lower
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph

DEEP = """
model deep(depth = 10) {
    input image: f32[N, 3, 16, 16]
    h = image -> conv(16, 3, padding=1) -> batchnorm -> relu
    for i in 0..depth {
        h = relu(h + (h -> conv(16, 3, padding=1) -> batchnorm))
    }
    return h -> global_avgpool -> flatten -> linear(10)
}
"""


def calls(graph: Graph, training: bool) -> int:
    """The function calls, and turns of generators, from the network's graph to its Plan."""
    cpu = backend("cpu")

    def work() -> None:
        whole = training_graph(graph, optimizer=SGD(momentum=0.9)) if training else graph
        lower(driver.optimize(whole, cpu.layouts())[0], 2, cpu)

    profile = cProfile.Profile()
    profile.runcall(work)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_work_is_linear_in_the_layers(training: bool) -> None:
    calls(cnnc.parse(DEEP, depth=3).graph, training)  # what is computed once in a process
    few, twice, four = (calls(cnnc.parse(DEEP, depth=n).graph, training) for n in (25, 50, 100))
    assert four - twice < 2.1 * (twice - few)
