"""How the learning rate changes over a run: a factor of it for each step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cnnc.diagnostics import CnncError, Diagnostic, Span, did_you_mean


@dataclass(frozen=True)
class Schedule:
    """Constant, after `warmup` epochs in which the rate rises in a line from 0 (Goyal et al., 2017)."""

    warmup: float = 0

    def at(self, epoch: float, epochs: int) -> float:
        """What the learning rate is multiplied by; `epoch` is that of the middle of a step, counted from 0."""
        warmup = min(float(self.warmup), epochs)
        return epoch / warmup if epoch < warmup else self.shape(epoch, warmup, epochs)

    def shape(self, epoch: float, warmup: float, epochs: int) -> float:
        """The factor when the warm-up is over."""
        return 1.0


@dataclass(frozen=True)
class Step(Schedule):
    """Multiplied by `factor` every `every` epochs, or at each of the epochs in the list `every`."""

    every: float | tuple[float, ...] = 30
    factor: float = 0.1

    def shape(self, epoch: float, warmup: float, epochs: int) -> float:
        passed = sum(epoch >= m for m in self.every) if isinstance(self.every, tuple) else int(epoch // self.every)
        return float(self.factor**passed)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine down to 0 (Loshchilov and Hutter, 2017)."""

    def shape(self, epoch: float, warmup: float, epochs: int) -> float:
        done = min(1.0, (epoch - warmup) / max(epochs - warmup, 1e-9))
        return 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Exponential(Schedule):
    """Multiplied by `factor` over each epoch, a little at each step."""

    factor: float = 0.95

    def shape(self, epoch: float, warmup: float, epochs: int) -> float:
        return float(self.factor**epoch)


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Schedule,
    "step": Step,
    "cosine": Cosine,
    "exponential": Exponential,
}


def build(name: str, arguments: Mapping[str, Any], span: Span | None = None) -> Schedule:
    """The schedule of a recipe's `name(arguments)`. Raises `CnncError` (E0640)."""
    if name not in SCHEDULES:
        raise CnncError(
            Diagnostic(
                "E0640",
                f"there is no schedule '{name}'",
                span,
                (f"there are {', '.join(SCHEDULES)}",),
                did_you_mean(name, SCHEDULES),
            )
        )
    kind = SCHEDULES[name]
    known = [f.name for f in fields(kind)]
    for key, value in arguments.items():
        if key not in known:
            raise CnncError(
                Diagnostic(
                    "E0640",
                    f"{name} has no argument '{key}'",
                    span,
                    (f"it takes {', '.join(known)}",),
                    did_you_mean(key, known),
                )
            )
        for v in value if isinstance(value, tuple) else (value,):
            number = isinstance(v, int | float) and not isinstance(v, bool)
            if not number or not 0 <= v < math.inf or (v == 0 and key != "warmup"):
                raise CnncError(Diagnostic("E0640", f"{name}: {key} is {value!r}; it must be a number above 0", span))
    return kind(**arguments)
