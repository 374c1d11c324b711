"""Starts: numbers as PyTorch draws them, where they are said, and which of them holds."""

from __future__ import annotations

import math
import re
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.diagnostics import CnncError
from cnnc.ir.layer import ParameterSpec
from cnnc.ir.start import STARTS, Start, normal_quantile, start
from cnnc.network import Network, initial
from cnnc.train import train

SHAPE = (96, 40, 3, 5)
MODEL = """model m({parameters}) {{
    input x: f32[N, 3, 8, 8]
    return x -> conv(8, 3{conv}) as c -> batchnorm{norm} as bn -> relu -> flatten -> linear(5) as fc
}}
"""
CASES = [
    (start("uniform_fan_in"), "kaiming_uniform_", {"a": math.sqrt(5)}),
    (start("normal", mean=0.5, std=0.02), "normal_", {"mean": 0.5, "std": 0.02}),
    (start("truncated_normal"), "trunc_normal_", {}),
    (start("truncated_normal", mean=1, std=2, a=0, b=2), "trunc_normal_", {"mean": 1, "std": 2, "a": 0, "b": 2}),
    (start("uniform", a=-1, b=3), "uniform_", {"a": -1, "b": 3}),
    (start("xavier_uniform", gain="tanh"), "xavier_uniform_", {"gain": 5 / 3}),
    (start("xavier_normal"), "xavier_normal_", {}),
    (start("kaiming_uniform", a=0.2, mode="fan_out"), "kaiming_uniform_", {"a": 0.2, "mode": "fan_out"}),
    (start("kaiming_normal", nonlinearity="selu"), "kaiming_normal_", {"nonlinearity": "selu"}),
    (start("kaiming_normal", mode="fan_out"), "kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}),
    (start("orthogonal", gain="relu"), "orthogonal_", {"gain": math.sqrt(2)}),
]


def draw(begin: Start, shape: tuple[int, ...] = SHAPE, seed: int = 0, groups: int = 1) -> Any:
    fan_in = int(np.prod(shape[1:]))
    return initial(ParameterSpec(shape, fan_in=fan_in, groups=groups), begin, "conv1.weight", seed)


def network(parameters: str = "", conv: str = "", norm: str = "", **given: Any) -> Network:
    return cnnc.parse(MODEL.format(parameters=parameters, conv=conv, norm=norm), **given)


@pytest.mark.parametrize(("begin", "name", "arguments"), CASES, ids=lambda v: str(v))
def test_statistics_are_pytorchs(begin: Start, name: str, arguments: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    expected = getattr(torch.nn.init, name)(torch.empty(*SHAPE), **arguments).numpy().astype(np.float64)
    found = draw(begin).astype(np.float64)
    count, std = expected.size, expected.std()
    assert found.dtype == np.float64
    assert abs(found.mean() - expected.mean()) < 5 * std * math.sqrt(2 / count)
    for share in (0.001, 0.1, 0.5, 0.9, 0.999):
        width = 6 * math.sqrt(share * (1 - share) / count)
        low, high = np.quantile(expected, [max(share - width, 0), min(share + width, 1)])
        assert low <= np.quantile(found, share) <= high
    assert np.array_equal(draw(begin), draw(begin))
    assert not np.array_equal(draw(begin), draw(begin, seed=1))


def test_orthogonal() -> None:
    for shape in ((6, 30), (30, 6), (4, 2, 3, 3)):
        m = draw(start("orthogonal", gain=2), shape).reshape(shape[0], -1).astype(np.float64)
        gram = m @ m.T if m.shape[0] < m.shape[1] else m.T @ m
        assert np.abs(gram - 4 * np.eye(len(gram))).max() < 1e-5


@pytest.mark.parametrize(("shape", "groups"), [((5, 7), 1), ((6, 6, 3), 1), ((8, 2, 3, 4), 4), ((3, 5, 1, 2, 3), 1)])
def test_identity_is_pytorchs(shape: tuple[int, ...], groups: int) -> None:
    torch = pytest.importorskip("torch")
    t = torch.empty(*shape)
    expected = torch.nn.init.eye_(t) if len(shape) == 2 else torch.nn.init.dirac_(t, groups)
    assert np.array_equal(draw(start("identity"), shape, groups=groups), expected.numpy())


def test_truncated_normal_in_the_tails() -> None:
    p = np.array([1e-300, 1e-20, 1e-5, 0.07, 0.3, 0.5, 0.8, 0.99, 1 - 1e-12])
    expected = [NormalDist().inv_cdf(v) for v in p]
    assert np.allclose(normal_quantile(p), expected, rtol=1e-9)
    found = draw(start("truncated_normal", a=8, b=9))
    assert found.min() >= 8
    assert found.max() <= 9
    assert found.mean() == pytest.approx(8.1213, abs=0.002)  # phi(8) / Q(8)


def test_normal_numbers_are_pinned() -> None:
    """As those of `uniform_fan_in` in test_network: recipes that were written down must stay repeatable."""
    assert [float(v).hex() for v in draw(start("normal")).ravel()[:3]] == PINNED


PINNED = ["-0x1.d79d5c0000000p-1", "-0x1.1699fa0000000p+0", "-0x1.4f74cc0000000p-2"]


def test_which_start_holds() -> None:
    """The layer's, else the recipe's, else the model's, else PyTorch's; batch norm follows no default."""
    plain = network()
    assert np.array_equal(network("init = none").weights["c.weight"], plain.weights["c.weight"])
    net = network("init = constant(2), bias_init = zeros", ", bias_init=constant(7)", "(init=constant(0.5))")
    values = {n: set(net.weights[n].ravel().tolist()) for n in net.weights}
    expected = {"c.weight": 2, "c.bias": 7, "bn.weight": 0.5, "bn.bias": 0, "fc.weight": 2, "fc.bias": 0}
    assert {n: values[n] for n in expected} == {n: {float(v)} for n, v in expected.items()}
    net.initialize(0, cnnc.start("ones"))
    assert (net.weights["fc.weight"] == 1).all()
    assert (net.weights["c.bias"] == 7).all()
    assert (net.weights["fc.bias"] == 0).all()
    net.initialize(0)
    assert (net.weights["fc.weight"] == 2).all()
    other = network("init = none", init="normal(std=0.01)")
    assert other.weights["fc.weight"].std() == pytest.approx(0.01, rel=0.1)
    assert other.program.arguments["init"] == cnnc.start("normal", std=0.01)
    assert not plain.warnings
    assert not other.warnings


def test_mistakes_in_python() -> None:
    for call in (
        lambda: cnnc.start("he"),
        lambda: cnnc.start("normal", sigma=1),
        lambda: network().initialize(0, "zeros"),  # type: ignore[arg-type]
        lambda: network().initialize(0, bias_init=cnnc.start("orthogonal")),
        lambda: cnnc.lsuv(network(), np.zeros((2, 3, 8, 8), np.float32), iterations=0),
    ):
        with pytest.raises(CnncError, match="E0706"):
            call()
    for parameters in ("bias_init = xavier_normal", "init = lsuv"):
        with pytest.raises(CnncError, match="E0305"):
            network(parameters)


def test_lsuv() -> None:
    """Every layer that does not say how it starts gives values of variance 1; a recipe has it of its first batch."""
    net, x = (
        network(", init = none"[2:]),
        np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32) * 9,
    )
    net.initialize(0, cnnc.start("orthogonal"))
    found = cnnc.lsuv(net, x, tolerance=0.02)
    assert list(found) == ["c.weight", "fc.weight"]
    assert all(abs(v - 1) <= 0.02 for v in found.values())
    last = cnnc.compile(net, target="reference")(x)
    assert np.var(last) == pytest.approx(1, abs=0.02)
    with pytest.raises(CnncError, match="E0706"):
        cnnc.lsuv(cnnc.parse("model m { input x: f32[N, 4] return x -> linear(2, init=zeros) }"), np.zeros((2, 4)))


def test_starts_of_recipes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "d.npz", x=9 * rng.standard_normal((40, 3, 8, 8)).astype(np.float32), y=np.arange(40) % 5)
    recipe = 'train { init = lsuv(tolerance=0.02)  bias_init = constant(3)  freeze = ["*"]  batch = 40  epochs = 1 }'
    net = cnnc.parse(MODEL.format(parameters="", conv="", norm="") + recipe)
    out = tmp_path / "run"
    train(net, tmp_path / "d.npz", out, quiet=True)
    assert (net.weights["fc.bias"] == 3).all()
    assert 'init": "lsuv(tolerance=0.02)' in (out / "recipe.json").read_text()
    train(net, tmp_path / "d.npz", out, overrides=["init=zeros"], force=True, quiet=True)
    assert (net.weights["c.weight"] == 0).all()
    for wrong in ("init=3", "bias_init=orthogonal()"):
        with pytest.raises(CnncError, match="E0322"):
            train(net, tmp_path / "d.npz", out, overrides=[wrong], force=True, quiet=True)


def test_every_start_is_in_the_reference() -> None:
    reference = (Path(__file__).parents[1] / "grammars" / "README.md").read_text(encoding="utf-8")
    for name, kind in STARTS.items():
        assert re.search(rf"`{name}\b(\(|`)", reference), name
        assert kind.doc
