"""Optimizers by the names and arguments of PyTorch. What they calculate is in `cnnc/passes/optimizer.py`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnc.arguments import flag
from cnnc.diagnostics import did_you_mean, error
from cnnc.frontend.recipes import Recipe
from cnnc.passes.optimizer import SGD, Adadelta, Adagrad, Adam, Optimizer, RMSprop


def sgd(
    lr: float = 0.01, momentum: float = 0.0, weight_decay: float = 0.0, nesterov: bool = False, dampening: float = 0.0
) -> SGD:
    """Stochastic gradient descent, `torch.optim.SGD`. Raises `CnncError` (E0640): an argument out of its range."""
    flag("nesterov", nesterov)
    return SGD(
        lr=_number("lr", lr, 0, above=True),
        momentum=_number("momentum", momentum, 0, below=1),
        weight_decay=_number("weight_decay", weight_decay, 0),
        nesterov=nesterov,
        dampening=_number("dampening", dampening, 0, below=1),
    )


def adam(
    lr: float = 1e-3,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled: bool = False,
) -> Adam:
    """Adam (Kingma and Ba, 2015), `torch.optim.Adam`; with `decoupled`, AdamW. Raises `CnncError` (E0640)."""
    flag("decoupled", decoupled)
    if not isinstance(betas, list | tuple) or len(betas) != 2:
        raise error("E0640", f"betas is {betas!r}; it must be two numbers")
    beta1, beta2 = (_number("betas", b, 0, below=1) for b in betas)
    return Adam(
        lr=_number("lr", lr, 0, above=True),
        beta1=beta1,
        beta2=beta2,
        eps=_number("eps", eps, 0, above=True),
        weight_decay=_number("weight_decay", weight_decay, 0),
        decoupled=decoupled,
    )


def adamw(
    lr: float = 1e-3, betas: Sequence[float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.01
) -> Adam:
    """Adam whose weight decay shrinks the weights themselves (Loshchilov and Hutter, 2019), `torch.optim.AdamW`. Raises
    `CnncError` (E0640)."""
    return adam(lr, betas, eps, weight_decay, decoupled=True)


def rmsprop(
    lr: float = 0.01,
    alpha: float = 0.99,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    centered: bool = False,
) -> RMSprop:
    """RMSprop (Hinton, 2012), `torch.optim.RMSprop`. Raises `CnncError` (E0640)."""
    flag("centered", centered)
    return RMSprop(
        lr=_number("lr", lr, 0, above=True),
        alpha=_number("alpha", alpha, 0, below=1),
        eps=_number("eps", eps, 0, above=True),
        weight_decay=_number("weight_decay", weight_decay, 0),
        momentum=_number("momentum", momentum, 0, below=1),
        centered=centered,
    )


def adagrad(lr: float = 0.01, lr_decay: float = 0.0, weight_decay: float = 0.0, eps: float = 1e-10) -> Adagrad:
    """Adagrad (Duchi, Hazan and Singer, 2011), `torch.optim.Adagrad`. Raises `CnncError` (E0640)."""
    return Adagrad(
        lr=_number("lr", lr, 0, above=True),
        lr_decay=_number("lr_decay", lr_decay, 0),
        weight_decay=_number("weight_decay", weight_decay, 0),
        eps=_number("eps", eps, 0, above=True),
    )


def adadelta(lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0) -> Adadelta:
    """Adadelta (Zeiler, 2012), `torch.optim.Adadelta`. Raises `CnncError` (E0640)."""
    return Adadelta(
        lr=_number("lr", lr, 0, above=True),
        rho=_number("rho", rho, 0, below=1),
        eps=_number("eps", eps, 0, above=True),
        weight_decay=_number("weight_decay", weight_decay, 0),
    )


OPTIMIZERS: dict[str, Any] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "rmsprop": rmsprop,
    "adagrad": adagrad,
    "adadelta": adadelta,
}


def from_recipe(recipe: Recipe) -> Optimizer:
    """The optimizer of a recipe with its frozen parameters and groups. Raises `CnncError` (E0640)."""
    call = recipe.optimizer
    if call.name not in OPTIMIZERS:
        raise error(
            "E0640",
            f"there is no optimizer '{call.name}'",
            f"there are {', '.join(OPTIMIZERS)}",
            help=did_you_mean(call.name, OPTIMIZERS),
        )
    base: Optimizer = OPTIMIZERS[call.name](**call.arguments)
    rates, undecayed = [], []
    for pattern, settings in recipe.groups.items():
        if "lr" in settings:
            rates.append((pattern, settings["lr"] / base.lr))
        decay = settings.get("weight_decay")
        if decay == 0:
            undecayed.append(pattern)
        elif decay not in (None, base.weight_decay):
            raise error(
                "E0640",
                f"the group '{pattern}' has a weight decay of {decay:g}",
                f"a group's is the optimizer's ({base.weight_decay:g}) or 0",
            )
    return replace(
        base,
        frozen=tuple(recipe.freeze),
        frozen_statistics=tuple(recipe.freeze_statistics),
        rates=tuple(rates),
        undecayed=tuple(undecayed),
    )


def describe(optimizer: Optimizer) -> Mapping[str, Any]:
    """An optimizer as plain data."""
    from dataclasses import asdict

    record = {"name": type(optimizer).__name__.lower(), **asdict(optimizer)}
    if not optimizer.frozen_statistics:
        del record["frozen_statistics"]  # which checkpoints of before do not have
    return record


def _number(name: str, value: Any, least: float, below: float = math.inf, above: bool = False) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not least <= value < below or (above and value == least):
        limit = f"above {least:g}" if above else f"at least {least:g}"
        limit += f" and below {below:g}" if below < math.inf else ""
        raise error("E0640", f"{name} is {value!r}; it must be a number {limit}")
    return float(value)
