"""Starts: how the numbers of a parameter are drawn before training, by PyTorch's names and defaults.

`STARTS` has all of them. A draw is of a generator that is keyed by the seed and the parameter's name, so it depends on
no other parameter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.ir.graph import Attributes, print_value
from cnnc.ir.op import REQUIRED, InferenceError
from cnnc.ir.types import product

Floats = NDArray[np.float32]
Shape = tuple[int, ...]
GAINS = {"linear": 1.0, "sigmoid": 1.0, "tanh": 5 / 3, "relu": math.sqrt(2), "leaky_relu": math.sqrt(2), "selu": 0.75}
MODES = ("fan_in", "fan_out")
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Start:
    """A start and its arguments, checked; `start` makes one."""

    name: str
    arguments: Attributes = field(default_factory=Attributes)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={print_value(v)}' for k, v in self.arguments.items())})"

    __repr__ = __str__

    def argument(self, name: str) -> Any:
        return self.arguments.get(name, STARTS[self.name].arguments[name])


@dataclass(frozen=True)
class Site:
    """What is drawn: its shape, and of a layer's weight how many inputs each output has and its groups."""

    shape: Shape
    fan_in: int = 1
    groups: int = 1

    def fan(self, mode: str) -> int:
        """Inputs of an output (`fan_in`) or outputs of an input (`fan_out`), as PyTorch counts them: by shape alone."""
        return max(1, product(self.shape[1:]) if mode == "fan_in" else self.shape[0] * product(self.shape[2:]))


Draw = Callable[[np.random.Generator, Site, Start], Floats]


@dataclass(frozen=True)
class Kind:
    """A start of the registry. arguments: names and defaults. least: axes that a parameter needs for it."""

    arguments: Mapping[str, Any]
    draw: Draw
    least: int = 0
    doc: str = ""


def check_names(name: str, arguments: Iterable[str], known: Mapping[str, Any]) -> None:
    """Raises `InferenceError` (E0206) where a start or a loss has no argument of a name."""
    for key in arguments:
        if key not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise InferenceError(f"{name} has no argument '{key}'; {has}", key, "E0206")


def start(name: str, **arguments: Any) -> Start:
    """A start by its name and arguments, as `init=` takes it: `start("normal", std=0.01)`. Raises `InferenceError`
    (E0206, E0207, E0203)."""
    if name not in STARTS:
        raise InferenceError(f"there is no start {name!r}; there are {', '.join(STARTS)}", "init", "E0203")
    schema = STARTS[name].arguments
    check_names(name, arguments, schema)
    for key, default in schema.items():
        if default is REQUIRED and key not in arguments:
            raise InferenceError(f"{name} needs {key}", key, "E0207")
    checked = {key: _checked(name, key, value, schema[key]) for key, value in arguments.items()}
    result = Start(name, Attributes({key: value for key, value in checked.items() if value != schema[key]}))
    if name in ("uniform", "truncated_normal") and not result.argument("a") < result.argument("b"):
        raise InferenceError(f"{result}: a must be below b", "a", "E0203")
    if name == "truncated_normal":
        _between(result)
    return result


def _checked(start: str, name: str, value: Any, default: Any) -> Any:
    """A number of float32's range, or one of a list of texts."""
    if (
        name == "mode"
        or (name == "nonlinearity" and isinstance(value, str))
        or (name == "gain" and isinstance(value, str))
    ):
        known = MODES if name == "mode" else tuple(GAINS)
        if value not in known:
            raise InferenceError(f"{name} is {value!r}; it is one of {', '.join(known)}", name, "E0203")
        return value
    if name == "iterations":
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000:
            raise InferenceError(f"{name} is {value!r}; it is a whole number, 1 to 1000", name, "E0203")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LARGEST:
        more = f", or one of {', '.join(GAINS)}" if name in ("gain", "nonlinearity") else ""
        raise InferenceError(f"{name} is {value!r}; it is a number{more}", name, "E0203")
    least = name in ("std", "gain") or (start == "lsuv" and name == "tolerance")
    if least and value < 0:
        raise InferenceError(f"{name} is {value!r}; it is at least 0", name, "E0203")
    return float(value)


def check(begin: Start, shape: Shape) -> None:
    """Raises `InferenceError` (E0203) where a parameter of this shape cannot start so."""
    least = STARTS[begin.name].least
    if begin.name == "lsuv":
        raise InferenceError(
            "lsuv looks at data, which a layer has not", code="E0203", help="write init = lsuv() in the recipe"
        )
    if len(shape) < least:
        what = f"{begin.name} is for weights of {least} axes or more, and this one is {list(shape)}"
        raise InferenceError(what, code="E0203", help="normal(std=...), uniform(a, b), constant(...) are for any shape")


def unfit_default(name: str, begin: Start) -> str | None:
    """What a default of this name, "init" or "bias_init", is instead, where a start cannot be one."""
    return "a start of a vector, such as zeros()," if name == "bias_init" and STARTS[begin.name].least else None


def drawn(begin: Start, site: Site, generator: np.random.Generator) -> Floats:
    """The numbers: float32 of the site's shape."""
    return STARTS[begin.name].draw(generator, site, begin)


# ------------------------------------------------------------------------------------------------ the draws


def _constant(value: float) -> Draw:
    return lambda generator, site, begin: np.full(site.shape, value, np.float32)


def _uniform(generator: np.random.Generator, shape: Shape, low: float, high: float) -> Floats:
    values = generator.random(shape, np.float32)
    values *= np.float32(high - low)
    values += np.float32(low)
    return values


def _normal(generator: np.random.Generator, shape: Shape, mean: float, std: float) -> Floats:
    values = generator.standard_normal(shape, np.float32)
    values *= np.float32(std)
    values += np.float32(mean)
    return values


def _fan_in(generator: np.random.Generator, site: Site, begin: Start) -> Floats:
    bound = np.float32(1 / math.sqrt(max(1, site.fan_in)))
    values = generator.random(site.shape, np.float32)
    values *= 2 * bound
    values -= bound
    return values


def gain(begin: Start) -> float:
    """The factor of a start: a number, or that of an activation (He et al., 2015; `torch.nn.init.calculate_gain`)."""
    if begin.name.startswith("kaiming"):
        name, slope = begin.argument("nonlinearity"), begin.argument("a")
        if isinstance(name, str):
            return math.sqrt(2 / (1 + slope**2)) if name == "leaky_relu" else GAINS[name]
        return float(name)
    value = begin.argument("gain") if begin.name != "lsuv" else 1.0
    return GAINS[value] if isinstance(value, str) else float(value)


def _scaled(begin: Start, site: Site) -> float:
    """The standard deviation that Glorot and Bengio (2010) or He et al. (2015) ask for."""
    if begin.name.startswith("kaiming"):
        return gain(begin) / math.sqrt(site.fan(begin.argument("mode")))
    return gain(begin) * math.sqrt(2 / (site.fan("fan_in") + site.fan("fan_out")))


def _scaled_uniform(generator: np.random.Generator, site: Site, begin: Start) -> Floats:
    bound = math.sqrt(3) * _scaled(begin, site)
    return _uniform(generator, site.shape, -bound, bound)


def _between(begin: Start) -> tuple[float, float, float]:
    """Probabilities that a normal number lies below a and below b, on the side of the mean where they are small and
    exact, and that side: -1 above it, else 1. Raises `InferenceError` (E0203) where none lies between them."""
    mean, std = begin.argument("mean"), begin.argument("std")
    low, high = ((begin.argument(k) - mean) / max(std, 1e-300) for k in ("a", "b"))
    side = -1.0 if low + high > 0 else 1.0
    if side < 0:
        low, high = -high, -low
    below, above = (0.5 * math.erfc(-v / math.sqrt(2)) for v in (low, high))
    if not above > below:
        raise InferenceError(f"{begin}: no number of this normal distribution lies between a and b", "a", "E0203")
    return below, above, side


def _truncated(generator: np.random.Generator, site: Site, begin: Start) -> Floats:
    """By the inverse of the normal distribution, of a uniform number between its values at both bounds."""
    below, above, side = _between(begin)
    p = np.clip(below + (above - below) * generator.random(site.shape), 1e-300, 1 - 2**-53)
    values = begin.argument("mean") + begin.argument("std") * side * normal_quantile(p)
    return np.asarray(np.clip(values, begin.argument("a"), begin.argument("b")), np.float32)


_CENTRE = (
    (2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457, 13731.693765509461125,
     1971.5909503065514427, 133.14166789178437745, 3.387132872796366608),
    (5226.495278852545925, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867, 5394.1960214247511077,
     687.1870074920579083, 42.313330701600911252, 1.0),
)  # fmt: skip
_NEAR = (
    (7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
     3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734),
    (1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
     0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0),
)  # fmt: skip
_FAR = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
     0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772),
    (2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
     0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0),
)  # fmt: skip


def normal_quantile(p: Any) -> Any:
    """Where a standard normal number lies below with probability p (float64, 0 < p < 1), to some 16 digits: Wichura,
    Algorithm AS 241, 1988."""
    q = p - 0.5
    r = 0.180625 - q * q
    centre = q * np.polyval(_CENTRE[0], r) / np.polyval(_CENTRE[1], r)
    tail = np.sqrt(-np.log(np.minimum(p, 1 - p)))
    with np.errstate(all="ignore"):  # each formula is computed for numbers that are not its own, too
        near = np.polyval(_NEAR[0], tail - 1.6) / np.polyval(_NEAR[1], tail - 1.6)
        far = np.polyval(_FAR[0], tail - 5) / np.polyval(_FAR[1], tail - 5)
    return np.where(np.abs(q) <= 0.425, centre, np.sign(q) * np.where(tail <= 5, near, far))


def _orthogonal(generator: np.random.Generator, site: Site, begin: Start) -> Floats:
    """Rows, or where there are fewer of them columns, that are orthonormal, times the gain (Saxe et al., 2014): Q of a
    random matrix, its signs those of R's diagonal, so that all orthogonal matrices are as likely."""
    rows, columns = site.shape[0], product(site.shape[1:])
    q, r = np.linalg.qr(generator.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.where(np.diag(r) < 0, -1.0, 1.0)
    matrix = q if rows >= columns else q.T
    return np.ascontiguousarray((gain(begin) * matrix).reshape(site.shape), np.float32)


def _identity(generator: np.random.Generator, site: Site, begin: Start) -> Floats:
    """1 where an output reads the middle of its own input, within each group; else 0. `torch.nn.init.eye_`, `dirac_`."""
    values = np.zeros(site.shape, np.float32)
    outputs, channels, *kernel = site.shape
    each = outputs // site.groups
    for group in range(site.groups):
        for i in range(min(each, channels)):
            values[(group * each + i, i, *(k // 2 for k in kernel))] = 1
    return values


_KAIMING = {"a": 0.0, "mode": "fan_in", "nonlinearity": "leaky_relu"}
STARTS: dict[str, Kind] = {
    "uniform_fan_in": Kind(
        {}, _fan_in, doc="PyTorch's for convolutions and linear layers: uniform within 1 / sqrt(fan_in)"
    ),
    "zeros": Kind({}, _constant(0.0), doc="all 0"),
    "ones": Kind({}, _constant(1.0), doc="all 1"),
    "constant": Kind(
        {"value": REQUIRED},
        lambda generator, site, begin: np.full(site.shape, begin.argument("value"), np.float32),
        doc="all of one value",
    ),
    "normal": Kind(
        {"mean": 0.0, "std": 1.0},
        lambda generator, site, begin: _normal(generator, site.shape, begin.argument("mean"), begin.argument("std")),
        doc="normal numbers",
    ),
    "truncated_normal": Kind(
        {"mean": 0.0, "std": 1.0, "a": -2.0, "b": 2.0}, _truncated, doc="normal numbers, of those between a and b"
    ),
    "uniform": Kind(
        {"a": 0.0, "b": 1.0},
        lambda generator, site, begin: _uniform(generator, site.shape, begin.argument("a"), begin.argument("b")),
        doc="numbers between a and b, all as likely",
    ),
    "xavier_uniform": Kind(
        {"gain": 1.0}, _scaled_uniform, 2, "uniform, of deviation gain * sqrt(2 / (fan_in + fan_out))"
    ),
    "xavier_normal": Kind(
        {"gain": 1.0},
        lambda generator, site, begin: _normal(generator, site.shape, 0.0, _scaled(begin, site)),
        2,
        "normal, of deviation gain * sqrt(2 / (fan_in + fan_out))",
    ),
    "kaiming_uniform": Kind(_KAIMING, _scaled_uniform, 2, "uniform, of deviation gain / sqrt(fan)"),
    "kaiming_normal": Kind(
        _KAIMING,
        lambda generator, site, begin: _normal(generator, site.shape, 0.0, _scaled(begin, site)),
        2,
        "normal, of deviation gain / sqrt(fan)",
    ),
    "orthogonal": Kind({"gain": 1.0}, _orthogonal, 2, "orthonormal rows or columns, times gain"),
    "identity": Kind({}, _identity, 2, "each output its own input: linear, convolutions of stride 1"),
    "lsuv": Kind(
        {"tolerance": 0.1, "iterations": 10},
        _orthogonal,
        2,
        "orthogonal, scaled until every layer's outputs of a first batch have a variance of 1; in recipes alone",
    ),
}
