"""What training makes small: losses of outputs, weighted and added up, by PyTorch's names and defaults.

`LOSSES` has all of them; `passes/losses.py` makes nodes of them. Each is a mean: over the batch, over pixels where there
are any, and over everything where a target has the output's shape.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from cnnc.arguments import shown
from cnnc.diagnostics import CnncError, did_you_mean, error
from cnnc.ir.graph import Attributes
from cnnc.ir.op import InferenceError
from cnnc.ir.start import check_names

FLOAT32 = 3.4e38


@dataclass(frozen=True)
class Kind:
    """A loss of the registry. arguments: names and defaults, in their order. target: what an output is compared with by
    default, an input of this name: "labels" are class indices, "target" numbers of the output's shape; none where there
    is nothing to compare with. logits: what the loss applies to an output itself, which makes it logits.
    """

    arguments: Mapping[str, Any]
    target: str | None
    logits: str = ""
    doc: str = ""


LOSSES: dict[str, Kind] = {
    "cross_entropy": Kind(
        {"weight": None, "ignore_index": -100, "label_smoothing": 0.0, "soft": False, "target": None},
        "labels",
        "softmax",
        "-log softmax(x)[label]; soft: -sum of target * log softmax(x)",
    ),
    "multiclass_hinge": Kind(
        {"margin": 1.0, "p": 1, "weight": None, "target": None},
        "labels",
        doc="the sum over other classes c of max(0, margin - x[label] + x[c])^p, over the number of classes",
    ),
    "mse": Kind({"target": None}, "target", doc="(x - t)^2"),
    "l1": Kind({"target": None}, "target", doc="|x - t|"),
    "huber": Kind(
        {"delta": 1.0, "target": None}, "target", doc="d^2 / 2 where |d| < delta, else delta (|d| - delta / 2)"
    ),
    "smooth_l1": Kind(
        {"beta": 1.0, "target": None}, "target", doc="d^2 / (2 beta) where |d| < beta, else |d| - beta / 2"
    ),
    "bce_with_logits": Kind(
        {"pos_weight": 1.0, "target": None},
        "target",
        "sigmoid",
        "-pos_weight t log sigmoid(x) - (1 - t) log(1 - sigmoid(x))",
    ),
    "focal": Kind(
        {"gamma": 2.0, "alpha": 0.25, "target": None},
        "target",
        "sigmoid",
        "binary cross-entropy times alpha_t (1 - p_t)^gamma",
    ),
    "kl_div": Kind(
        {"reduction": "mean", "target": None},
        "target",
        doc='t (log t - x), x logarithms of probabilities; reduction="batchmean": a sum over all but the batch',
    ),
    "output": Kind({}, None, doc="the output itself, its mean where it is several numbers"),
    "l1_penalty": Kind({}, None, doc="the sum of |w| over weights"),
    "l2_penalty": Kind({}, None, doc="the sum of w^2 over weights"),
}
PENALTIES = (
    "l1_penalty",
    "l2_penalty",
)  # of weights of two axes or more: not of biases, nor batch norm's scale and shift


@dataclass(frozen=True)
class Loss:
    """A loss with its arguments, checked; `loss` makes one. weight: its factor in the sum. output: the label of what it is
    of, None for the first output."""

    name: str
    arguments: Attributes = field(default_factory=Attributes)
    weight: float = 1.0
    output: str | None = None

    def argument(self, name: str) -> Any:
        return self.arguments.get(name, LOSSES[self.name].arguments[name])

    @property
    def soft(self) -> bool:
        return self.name == "cross_entropy" and bool(self.argument("soft"))

    @property
    def classes(self) -> bool:
        """Whether it is of class indices."""
        return LOSSES[self.name].target == "labels" and not self.soft

    @property
    def target(self) -> str | None:
        """The input that it compares an output with."""
        default = LOSSES[self.name].target
        if default is None:
            return None
        return self.argument("target") or ("target" if self.soft else default)

    def __mul__(self, factor: float) -> Loss:
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not math.isfinite(factor):
            return NotImplemented
        return replace(self, weight=self.weight * factor)

    __rmul__ = __mul__

    def __str__(self) -> str:
        call = f"{self.name}({', '.join(f'{k}={_shown(v)}' for k, v in self.arguments.items())})"
        return call if self.weight == 1 else f"{self.weight:g} * {call}"


Losses = tuple[Loss, ...]
CROSS_ENTROPY: Losses = (Loss("cross_entropy"),)


def written(losses: Losses) -> str:
    """Losses as a recipe has them."""
    labels = list(dict.fromkeys(loss.output for loss in losses))
    sums = [" + ".join(str(loss) for loss in losses if loss.output == label) for label in labels]
    if labels == [None]:
        return sums[0]
    return "{" + ", ".join(f"{label}: {sum_}" for label, sum_ in zip(labels, sums, strict=True)) + "}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else f"{value!r}"


def loss(name: str, **arguments: Any) -> Loss:
    """A loss by its name and arguments. Raises `InferenceError` (E0322, E0206)."""
    if name not in LOSSES:
        raise InferenceError(f"there is no loss {name!r}; there are {', '.join(LOSSES)}", "loss", "E0322")
    schema = LOSSES[name].arguments
    check_names(name, arguments, schema)
    given = {key: checked(key, value, schema[key]) for key, value in arguments.items()}
    return Loss(name, Attributes({key: value for key, value in given.items() if value != schema[key]}))


Wanted = str | Loss | Sequence[str | Loss] | Mapping[str, str | Loss | Sequence[str | Loss]]


def losses_of(wanted: Wanted) -> Losses:
    """The losses that a caller names: one, by its name or as `loss` made it, a list to be added up, or either of these by
    the output that they are of. Raises `CnncError` (E0808, exit code 2)."""
    if isinstance(wanted, Mapping):
        if not wanted or not all(isinstance(label, str) for label in wanted):
            raise _unknown(wanted, "losses by output: {'logits': 'cross_entropy'}")
        return tuple(replace(x, output=label) for label, of in wanted.items() for x in losses_of(of))
    items = wanted if isinstance(wanted, list | tuple) else (wanted,)
    found: list[Loss] = []
    for item in items:
        if isinstance(item, Loss):
            found.append(item)
        elif isinstance(item, str) and item in LOSSES:
            found.append(Loss(item))
        else:
            near = did_you_mean(item, LOSSES) if isinstance(item, str) else None
            raise _unknown(item, near or f"the losses are {', '.join(LOSSES)}")
    if not found:
        raise _unknown(wanted, "give one")
    return tuple(found)


def _unknown(value: Any, help: str) -> CnncError:
    return error("E0808", f"unknown loss {shown(value)}", help=help, exit_code=2)


# (least, whether it may be so, greatest) of numbers
_LIMITS = {
    "label_smoothing": (0.0, True, 1.0),
    "margin": (-FLOAT32, True, FLOAT32),
    "delta": (0.0, False, FLOAT32),
    "beta": (0.0, True, FLOAT32),
    "pos_weight": (0.0, True, FLOAT32),
    "gamma": (0.0, True, 1000.0),
    "alpha": (-1.0, True, 1.0),
}


def checked(name: str, value: Any, default: Any) -> Any:
    """An argument of a loss as it is used. Raises `InferenceError` (E0322)."""
    if value is None and default is None:
        return None
    if name == "weight":
        return _class_weights(value)
    wanted = _wanted(name, value)
    if wanted is not None:
        raise InferenceError(f"{name} is {value!r}; it is {wanted}", name, "E0322")
    return float(value) if name in _LIMITS else value


def _wanted(name: str, value: Any) -> str | None:
    """What an argument is, where a value is nothing of it."""
    match name:
        case "target":
            good, wanted = isinstance(value, str) and value.isidentifier(), "the name of an input, a text"
        case "reduction":
            good, wanted = value in ("mean", "batchmean"), '"mean" or "batchmean"'
        case "soft":
            good, wanted = isinstance(value, bool), "true or false"
        case "p":
            good, wanted = value in (1, 2) and type(value) is int, "1 or 2"
        case "ignore_index":
            good, wanted = type(value) is int and abs(value) < 2**31, "a whole number"
        case _:
            least, included, most = _LIMITS[name]
            number = isinstance(value, int | float) and not isinstance(value, bool)
            good = number and least <= value <= most and (included or value != least)
            wanted = f"a number {'at least' if included else 'above'} {least:g}" if least > -FLOAT32 else "a number"
            wanted += f" and at most {most:g}" if most < FLOAT32 else ""
    return None if good else wanted


def _class_weights(value: Any) -> tuple[float, ...]:
    numbers = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(numbers, tuple | list) or not numbers or not all(map(_is_weight, numbers)):
        what = f"weight is {value!r}; it is a list of numbers of at least 0, one for each class"
        raise InferenceError(what, "weight", "E0322")
    return tuple(map(float, numbers))


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= FLOAT32
