"""Every step of a Plan says why it is what it is."""

from __future__ import annotations

import pytest

import cnnc
from cnnc import driver
from cnnc.backends import backend
from cnnc.backends.cpu import CpuBackend
from cnnc.kernels.cpu.target import TARGETS
from cnnc.lowering.lower import lower
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph

NETWORK = """
model m() {
    input x: f32[N, 3, 32, 32]
    h = x -> conv(64, 7, stride=2, padding=3) as stem -> batchnorm -> relu
    h = h -> conv(64, 3, padding=1) as square -> relu -> conv(64, 1) as point -> relu
    h = h -> conv(64, 3, padding=1, stride=2) as strided -> relu -> conv(8, 3, padding=1) as narrow
    h = h -> conv(8, 3, padding=1, groups=8) as each -> maxpool(2) -> avgpool(2)
    return h -> flatten -> dropout(0.5) -> linear(10) as fc
}
"""


@pytest.mark.parametrize("name", TARGETS)
def test_every_step_says_why(name: str) -> None:
    graph, machine = cnnc.parse(NETWORK).graph, CpuBackend(name)
    for whole in (graph, training_graph(graph, optimizer=SGD(momentum=0.9))):
        for batch in (1, 8):
            plan = lower(driver.optimize(whole, machine.layouts())[0], batch, machine)
            assert all(step.note for step in (*plan.setup, *plan.steps))


def notes(exact: bool) -> dict[str, str]:
    """The note of each node's last step."""
    machine = backend("cpu", exact)
    plan = lower(driver.optimize(cnnc.parse(NETWORK).graph, machine.layouts())[0], 1, machine)
    found: dict[str, str] = {}
    for step in plan.steps:
        found[step.node] = step.note
    return found


def test_why_not_the_other() -> None:
    text = "\n".join(notes(False).values())
    assert "7x7, stride 2" in text
    assert "3x3, stride 2" in text
    assert "8 channels, Winograd wants 16" in text
    assert "Winograd is estimated at" in text or "faster than direct" in text
    assert "exact rounding was asked for" in "\n".join(notes(True).values())
