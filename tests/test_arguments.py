"""Whatever is given to the public functions: an error in words, and never one of what fails later for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.codes import CODES
from cnnc.train import train

TEXT = "model m(classes = 3) {\n input x: f32[N, 1, 4, 4]\n return x -> flatten -> linear(classes) as fc\n}\n"
X, Y = np.zeros((8, 1, 4, 4), np.float32), np.arange(8) % 3
VALUES: list[Any] = [
    5, -1, 0, 1.5, float("nan"), float("inf"), None, True, "no such", "", "a\0b", "2", b"x", [], [1], (), {}, {"a": 1}, object(),
    np.zeros(2), np.float32(1), np.array(["a"]), 2**70, 1 + 2j, int, len, Path("/nonexistent/x"),
]  # fmt: skip
Call = Callable[[Any], Any]


def network() -> cnnc.Network:
    return cnnc.parse(TEXT)


def trainer(**options: Any) -> cnnc.Trainer:
    return cnnc.Trainer(network(), **{"target": "reference", **options})


def assign(target: Any, name: str, value: Any) -> Any:
    setattr(target, name, value)
    return target


def compiled() -> cnnc.Executable:
    return cnnc.compile(network(), target="reference")


def named(function: Callable[..., Any], *names: str) -> dict[str, Call]:
    return {f"{name}=": (lambda v, name=name: function(**{name: v})) for name in names}


def fit(**options: Any) -> Any:
    return trainer().fit((X, Y), **{"quiet": True, **options})


def run(**options: Any) -> Any:
    given: dict[str, Any] = {
        "data": cnnc.Dataset.from_arrays(X, Y),
        "out": "run",
        "epochs": 1,
        "quiet": True,
        "force": True,
    }
    return train(**{"network": network(), "target": "reference", **given, **options})


CALLS: dict[str, dict[str, Call]] = {
    "load": {
        "path": cnnc.load,
        "model": lambda v: cnnc.load("m.cnn", v),
        "classes": lambda v: cnnc.load("m.cnn", classes=v),
    },
    "parse": {
        "text": cnnc.parse,
        "model": lambda v: cnnc.parse(TEXT, v),
        "classes": lambda v: cnnc.parse(TEXT, classes=v),
    },
    "compile": {
        "network": cnnc.compile,
        **named(
            lambda **o: cnnc.compile(**{"network": network(), "target": "reference", **o}), "target", "threads", "exact"
        ),
        **named(lambda **o: cnnc.compile(**{"network": network(), "target": "reference", **o}), "batch", "tune"),
    },
    "value_and_grad": {
        "network": cnnc.value_and_grad,
        **named(lambda **o: cnnc.value_and_grad(network(), **o), "loss", "threads", "target", "tune"),
        **named(lambda **o: cnnc.value_and_grad(network(), **{"target": "reference", **o}), "wrt", "of"),
        "grad_output": lambda v: cnnc.value_and_grad(network(), target="reference", of="fc")(X, grad_output=v),
        "x": lambda v: cnnc.value_and_grad(network(), target="reference")(v, Y),
        "labels": lambda v: cnnc.value_and_grad(network(), target="reference")(X, v),
    },
    "Executable": {
        "x": lambda v: compiled()(v),
        "too many": lambda v: compiled()(X, v),
        "by name": lambda v: compiled()(q=v),
        "run": lambda v: compiled().run(v),
        "run of x": lambda v: compiled().run({"x": v}),
        "refresh": lambda v: compiled().refresh(v),
        "refresh of one": lambda v: compiled().refresh({"fc.weight": v}),
        "ir": lambda v: compiled().ir(v),
        "plan": lambda v: compiled().plan(v),
        "memory": lambda v: compiled().memory(v),
    },
    "save": {
        "executable": lambda v: cnnc.save(v, "m.cnnx"),
        "path": lambda v: cnnc.save(compiled(), v),
        "batch": lambda v: cnnc.save(compiled(), "m.cnnx", v),
    },
    "open": {"path": cnnc.open, "threads": lambda v: cnnc.open("no.cnnx", v)},
    "Network": {
        "initialize": lambda v: network().initialize(v),
        "load_weights": lambda v: network().load_weights(v),
        "strict": lambda v: network().load_weights("w.safetensors", v),
        "save_weights": lambda v: network().save_weights(v),
        "weights": lambda v: assign(network(), "weights", v),
        "a weight": lambda v: network().weights.__setitem__("fc.bias", v),
        "no weight": lambda v: network().weights.__setitem__(v, 1),
        "summary": lambda v: network().summary(v),
        "trace": lambda v: network().trace(v, target="reference"),
        **named(lambda **o: network().trace(X, **{"target": "reference", **o}), "names", "target", "threads"),
    },
    "Trainer": {
        "network": cnnc.Trainer,
        **named(trainer, "optimizer", "loss", "seed", "threads", "target"),
        "step x": lambda v: trainer().step(v, Y),
        "step labels": lambda v: trainer().step(X, v),
        "fit": lambda v: trainer().fit(v),
        **named(fit, "epochs", "batch", "schedule", "augment", "quiet"),
        "evaluate": lambda v: trainer().evaluate(v),
        "evaluate batch": lambda v: trainer().evaluate((X, Y), v),
        "learning_rate": lambda v: assign(trainer(), "learning_rate", v).step(X, Y),
    },
    "optimizers": {
        **named(cnnc.sgd, "lr", "momentum", "weight_decay", "nesterov", "dampening"),
        **named(cnnc.adam, "lr", "betas", "eps", "weight_decay", "decoupled"),
        **named(cnnc.adadelta, "lr", "rho", "eps", "weight_decay"),
        **named(cnnc.rmsprop, "lr", "alpha", "eps", "weight_decay", "momentum", "centered"),
        **named(cnnc.adagrad, "lr", "lr_decay", "weight_decay", "eps"),
    },
    "train": named(run, "network", "data", "out", "epochs", "overrides", "weights", "resume", "force", "seed", "quiet"),
}


@pytest.mark.parametrize("function", CALLS)
def test_arguments(function: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cnnc.train.folder, "LAST_SECONDS", 0.0)
    (tmp_path / "m.cnn").write_text(TEXT)
    network().save_weights("w.safetensors")
    refused, codes = 0, set[str]()
    for name, call in CALLS[function].items():
        for value in VALUES:
            try:
                call(value)
            except cnnc.CnncError as e:
                codes |= {d.code for d in e.diagnostics}
                refused += 1
            except Exception as e:
                raise AssertionError(f"{function}, {name} = {value!r}: {type(e).__name__}: {e}") from e
    assert codes <= set(CODES)
    assert refused > 15 * len(CALLS[function]) - 5
    assert os.getcwd() == str(tmp_path)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: cnnc.load(5), "path is 5, of type int; a path, text or pathlib.Path, is needed"),
        (lambda: cnnc.compile("m.cnn"), "cnnc.load gives one"),
        (lambda: cnnc.compile(network(), threads=True), "threads is True"),
        (lambda: cnnc.compile(network(), threads="2"), "threads is '2'"),
        (lambda: network().initialize("xavier"), "seed is 'xavier'"),
        (lambda: cnnc.Trainer(network(), loss=lambda y, t: 0), "unknown loss <function"),
        (lambda: cnnc.Trainer(network(), optimizer="sgd"), "cnnc.sgd"),
        (lambda: cnnc.sgd(lr="0.1"), "lr is '0.1'"),
        (lambda: cnnc.sgd(lr=-1), "lr is -1"),
        (lambda: cnnc.sgd(momentum=1.5), "momentum is 1.5"),
        (lambda: cnnc.parse(Path("m.cnn")), "cnnc.load takes a file"),
        (lambda: compiled()(X, X), "2 inputs are given; the network has 1"),
    ],
)
def test_words(call: Callable[[], Any], said: str) -> None:
    with pytest.raises(cnnc.CnncError) as e:
        call()
    assert said in str(e.value)
