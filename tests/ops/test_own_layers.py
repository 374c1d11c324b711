"""Layers that a program registers: the page's example, what is refused, and networks that have such."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.ir.layer import LAYERS

PAGE = Path(__file__).parents[2] / "cnnc" / "README.md"
NAMES = ("own_prelu", "own_relu")


@pytest.fixture(autouse=True)
def _registry() -> Iterator[None]:
    yield
    for name in NAMES:
        LAYERS.pop(name, None)


def run_the_page() -> dict[str, Any]:
    section = PAGE.read_text(encoding="utf-8").split("## A layer of your own program")[1]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    scope: dict[str, Any] = {}
    exec(block[1], scope)
    return scope


def own_relu(**changes: Any) -> cnnc.Layer:
    given: dict[str, Any] = {
        "name": "own_relu", "arguments": (), "doc": "relu", "example": "x -> own_relu",
        "build": lambda site: site.add("relu", site.operands),
    }  # fmt: skip
    return cnnc.Layer(**given | changes)


def test_the_page_s_example() -> None:
    net = run_the_page()["net"]
    assert net.weights["act.weight"].tolist() == [np.float32(0.1)] * 8
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    exact = cnnc.compile(net, target="reference")(x)
    assert np.abs(cnnc.compile(net)(x) - exact).max() <= 1e-5 * np.abs(exact).max()
    (_, found), (_, expected) = (cnnc.value_and_grad(net, target=t)(x, np.array([0, 3])) for t in ("cpu", "reference"))
    assert np.abs(found["act.weight"] - expected["act.weight"]).max() <= 1e-4 * np.abs(expected["act.weight"]).max()
    with pytest.raises(cnnc.CnncError, match="own_prelu needs channels"):
        cnnc.parse("model m { input x: f32[N, 3] return x -> sum(axis=1) -> own_prelu }")


def test_a_name_is_registered_once() -> None:
    cnnc.register_layer(own_relu())
    with pytest.raises(cnnc.CnncError, match=r"(?s)E0831.*replace=True"):
        cnnc.register_layer(own_relu())
    other = own_relu(doc="another")
    assert cnnc.register_layer(other, replace=True) is LAYERS["own_relu"] is other
    with pytest.raises(cnnc.CnncError, match="there is a layer 'relu' already"):
        cnnc.register_layer(own_relu(name="relu"))


@pytest.mark.parametrize("name", ["", "3d", "own relu", "return", "none", "a.b"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(cnnc.CnncError, match="E0831"):
        cnnc.register_layer(own_relu(name=name))


def test_what_is_no_layer() -> None:
    with pytest.raises(cnnc.CnncError, match="E0706"):
        cnnc.register_layer("relu")  # type: ignore[arg-type]


def test_networks_outlive_the_layer(tmp_path: Path) -> None:
    cnnc.register_layer(own_relu())
    net = cnnc.parse("model m(act = own_relu) { input x: f32[N, 3] return x -> act -> linear(2) }")
    x = np.array([[1, -2, 3]], np.float32)
    y = cnnc.compile(net)(x)
    path = tmp_path / "m.cnnx"
    cnnc.save(cnnc.compile(net), path)
    kept = pickle.dumps(net)
    assert pickle.loads(kept).graph == net.graph
    del LAYERS["own_relu"]
    assert np.array_equal(cnnc.open(path)(x), y)
    with pytest.raises(cnnc.CnncError, match="there is no layer 'own_relu' in this process"):
        pickle.loads(kept)
    with pytest.raises(cnnc.CnncError, match="unknown layer 'own_relu'"):
        cnnc.parse("model m { input x: f32[N, 3] return x -> own_relu }")
