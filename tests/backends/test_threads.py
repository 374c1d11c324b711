"""The number of threads does not change a bit: examples' inference and one training step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc import driver
from cnnc.passes.optimizer import SGD

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
NETWORKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("lenet5_relu", {}),
    ("resnet", {"depth": 50, "size": 32}),
)
THREADS = (1, 2, 3, 8)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "parameters"), NETWORKS, ids=str)
def test_bits_do_not_depend_on_the_threads(name: str, parameters: dict[str, Any]) -> None:
    network = cnnc.load(EXAMPLES / f"{name}.cnn", **parameters)
    rng = np.random.default_rng(0)
    x = rng.standard_normal(network.graph.inputs[0].type.concrete(3)).astype(np.float32)
    given = {"labels": np.arange(3), "learning_rate": np.float32(0.01), "seed": np.array([1, 0], np.int64)}
    outputs, weights = [], []
    for threads in THREADS:
        executable = cnnc.compile(network, threads=threads)
        outputs.append(np.concatenate([executable(x), executable(x[:1])]))
        step = driver.compile_training(network, optimizer=SGD(momentum=0.9), threads=threads)
        step(x, **{k: v for k, v in given.items() if any(n.name == k for n in step.graph.inputs)})
        weights.append({k: v.copy() for k, v in step.values.items()})
    for output, values in zip(outputs[1:], weights[1:], strict=True):
        np.testing.assert_array_equal(output, outputs[0])
        for key, value in values.items():
            np.testing.assert_array_equal(value, weights[0][key], err_msg=key)
