"""What is timed of a layer is right first: forward, and with backward."""

from __future__ import annotations

import pytest

from tests.bench.layers import LINES, Line, compare, network

pytest.importorskip("torch")


@pytest.mark.parametrize("backward", [False, True])
def test_a_layer_is_compared_and_timed(backward: bool) -> None:
    line = Line("batchnorm -> leaky_relu(0.2)")
    ours, theirs = compare(line, (2, 3, 5, 4), backward, threads=1, rounds=1, block=0.0)
    assert ours > 0
    assert theirs > 0


def test_what_differs_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    from cnnc.bench import torch_network

    monkeypatch.setitem(torch_network.RULES, "relu", lambda w, n: f"{w.local[n.inputs[0]]}.sigmoid()")
    with pytest.raises(AssertionError, match="relu"):
        compare(Line("relu"), (2, 3, 5, 4), False, threads=1, rounds=1, block=0.0)


def test_every_line_is_a_network() -> None:
    for line in LINES:
        for shape in line.sizes:
            assert network(line.layers, shape).graph.outputs
