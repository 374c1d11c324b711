"""Schedules, optimizers by name, and `--set`."""

from __future__ import annotations

from typing import Any

import pytest

from cnnc.diagnostics import CnncError
from cnnc.frontend.recipes import OPTIMIZERS as LANGUAGE_OPTIMIZERS
from cnnc.frontend.recipes import SCHEDULES as LANGUAGE_SCHEDULES
from cnnc.frontend.recipes import Recipe, RecipeCall
from cnnc.train import adadelta, adam, sgd
from cnnc.train.optimizers import OPTIMIZERS, from_recipe
from cnnc.train.overrides import override
from cnnc.train.schedules import SCHEDULES, build

NAMES = ("features.0.weight", "features.0.bias", "fc.weight", "fc.bias")


def code(make: Any) -> str:
    with pytest.raises(CnncError) as e:
        make()
    return e.value.diagnostics[0].code


def test_names_are_those_of_the_language() -> None:
    assert set(SCHEDULES) == set(LANGUAGE_SCHEDULES)
    for name, arguments in LANGUAGE_SCHEDULES.items():
        assert set(arguments) == set(SCHEDULES[name].__dataclass_fields__)
    assert set(LANGUAGE_OPTIMIZERS) <= set(OPTIMIZERS)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("constant", {}, [1, 1, 1, 1]),
        ("constant", {"warmup": 2}, [0.25, 0.75, 1, 1]),
        ("step", {"every": 1}, [1, 0.1, 0.01, 0.001]),
        ("step", {"every": (1, 3), "factor": 0.5}, [1, 0.5, 0.5, 0.25]),
        ("cosine", {}, [0.961940, 0.691342, 0.308658, 0.038060]),
        ("cosine", {"warmup": 1}, [0.5, 0.933013, 0.5, 0.066987]),
        ("exponential", {"factor": 0.25}, [0.5, 0.125, 0.03125, 0.0078125]),
    ],
)
def test_factors_in_the_middle_of_four_epochs(name: str, arguments: dict[str, Any], expected: list[float]) -> None:
    schedule = build(name, arguments)
    assert [schedule.at(e + 0.5, 4) for e in range(4)] == pytest.approx(expected, abs=1e-6)


def test_wrong_schedules() -> None:
    assert code(lambda: build("cosin", {})) == "E0640"
    assert code(lambda: build("cosine", {"warm": 1})) == "E0640"
    assert code(lambda: build("step", {"every": 0})) == "E0640"
    assert code(lambda: build("step", {"every": float("inf")})) == "E0640"


def test_wrong_optimizers() -> None:
    for make in (
        lambda: sgd(lr=0),
        lambda: sgd(lr=float("nan")),
        lambda: sgd(momentum=-1),
        lambda: adam(betas=(1, 0.9)),
        lambda: adam(betas=0.9),
        lambda: adam(eps=0),
        lambda: adadelta(rho=2),
        lambda: sgd(weight_decay="a"),
    ):
        assert code(make) == "E0640"


def test_groups_and_frozen_parameters() -> None:
    recipe = Recipe(
        optimizer=RecipeCall("sgd", {"lr": 0.1, "momentum": 0.9}),
        freeze=("features.*",),
        groups={"fc.*": {"lr": 0.01}, "*.bias": {"weight_decay": 0.0}},
    )
    optimizer = from_recipe(recipe)
    assert optimizer.trained(NAMES) == ["fc.weight", "fc.bias"]
    assert optimizer.rate("fc.weight") == pytest.approx(0.1)
    assert optimizer.rate("features.0.weight") == 1
    assert optimizer.undecayed == ("*.bias",)


def test_overrides() -> None:
    recipe = Recipe(optimizer=RecipeCall("sgd", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "nesterov": False}))
    changed = override(
        recipe,
        [
            "optimizer.lr=0.01",
            "optimizer.nesterov = true",
            "epochs=3",
            "schedule=cosine(warmup=2)",
            "schedule.warmup=1",
            "augment=[random_flip(), random_shift(2)]",
            'freeze=["fc.*"]',
            'groups={"fc.*": {lr = 0.5}}',
        ],
        NAMES,
    )
    assert changed.optimizer.arguments["lr"] == 0.01
    assert changed.optimizer.arguments["nesterov"] is True
    assert changed.optimizer.arguments["momentum"] == 0.9
    assert changed.epochs == 3
    assert str(changed.schedule) == "cosine(warmup=1)"
    assert [str(c) for c in changed.augment] == ["random_flip(p=0.5)", "random_shift(pixels=2)"]
    assert changed.freeze == ("fc.*",)
    assert changed.groups == {"fc.*": {"lr": 0.5}}
    assert recipe.epochs == 10
    assert override(recipe, ["optimizer=adam(lr=1e-3)"]).optimizer.arguments["betas"] == (0.9, 0.999)


@pytest.mark.parametrize(
    "assignment",
    [
        "optimizer.lr",
        "optimizer.lr=",
        "=3",
        "optimiser.lr=1",
        "optimizer.rl=1",
        "epochs.x=1",
        "epochs=0",
        "epochs=1.5",
        "batch=x",
        "optimizer.lr=-1",
        "optimizer.lr=(",
        "optimizer.lr=1 1",
        "loss=hinge",
        "optimizer=sgd",
        "schedule=step(2, 3, 4, 5)",
        "augment=[1]",
        'optimizer.lr="a"',
        "a\0=1",
        "freeze=1",
    ],
)
def test_wrong_overrides(assignment: str) -> None:
    with pytest.raises(CnncError) as e:
        override(Recipe(), [assignment], NAMES)
    assert e.value.exit_code == 2
    for d in e.value.diagnostics:
        assert d.span is not None
        assert d.span.source.text == assignment
        assert 0 <= d.span.start <= d.span.end <= len(assignment) + 1
