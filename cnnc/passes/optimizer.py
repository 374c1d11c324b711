"""Optimizers as graph-building code: the new value of a parameter and of the optimizer's states, from the parameter and
its gradient.

The formulas are PyTorch's. Numbers that change from step to step are scalar inputs of the training graph, so that a
schedule needs no new compilation; `scalars` gives their values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from cnnc.diagnostics import did_you_mean, error
from cnnc.ir.builder import Builder
from cnnc.ir.types import TensorType

SCALAR = TensorType("f32", ())


@dataclass(frozen=True)
class Optimizer:
    """lr: the learning rate at the start. weight_decay: L2 regularization, added to the gradient of every parameter.

    frozen: parameters (glob patterns) that stay as they are; the running statistics of a frozen batch norm go on following
    the batches, as in PyTorch. frozen_statistics: running statistics (glob patterns) that stay too: their batch norms
    normalize by them in training as well, PyTorch's `bn.eval()`. rates: (pattern, factor) pairs; the learning rate of a
    parameter is multiplied by the factors of the patterns that it matches. undecayed: patterns without weight decay
    ("*.bias"); `decay_vectors=False` leaves out all parameters of rank 1, that is biases and the scale and shift of
    batch norm.
    """

    lr: float = 0.01
    weight_decay: float = 0.0
    frozen: tuple[str, ...] = ()
    rates: tuple[tuple[str, float], ...] = ()
    undecayed: tuple[str, ...] = ()
    decay_vectors: bool = True
    frozen_statistics: tuple[str, ...] = ()

    @property
    def states(self) -> tuple[str, ...]:
        """Short names of what is kept for every parameter, all of its shape and zero at first."""
        return ()

    def scalars(self, step: int, lr: float | None = None) -> dict[str, float]:
        """The values of the scalar inputs for step 1, 2, ...; `lr` overrides the learning rate."""
        return {"learning_rate": self.lr if lr is None else lr}

    def update(
        self, b: Builder, name: str, parameter: str, gradient: str, states: Mapping[str, str], rate: str
    ) -> dict[str, str]:
        """Add the nodes of one parameter's update: the new value of every state by its short name, and of the parameter
        as "parameter".
        """
        raise NotImplementedError

    def trained(self, parameters: Sequence[str]) -> list[str]:
        """The parameters that are not frozen. Raises `CnncError` (E0808) for a pattern that matches none."""
        for pattern in (*self.frozen, *(p for p, _ in self.rates), *self.undecayed):
            if not any(fnmatchcase(p, pattern) for p in parameters):
                raise error(
                    "E0808",
                    f"no parameter matches '{pattern}'",
                    f"there are {len(parameters)} parameters, the first {', '.join(parameters[:4])}",
                    help=did_you_mean(pattern, parameters),
                )
        return [p for p in parameters if not any(fnmatchcase(p, pattern) for pattern in self.frozen)]

    def rate(self, parameter: str) -> float:
        """By how much the learning rate of a parameter is multiplied."""
        factor = 1.0
        for pattern, f in self.rates:
            factor *= f if fnmatchcase(parameter, pattern) else 1.0
        return factor

    def decay(self, parameter: str, type: TensorType) -> float:
        """The weight decay of a parameter."""
        left_out = any(fnmatchcase(parameter, p) for p in self.undecayed) or (type.rank <= 1 and not self.decay_vectors)
        return 0.0 if left_out else self.weight_decay

    def decayed(self, b: Builder, parameter: str, gradient: str) -> str:
        """gradient + weight_decay * parameter"""
        decay = self.decay(parameter, b.type(parameter))
        return (
            gradient if not decay else calculate(b, f"a0 + {decay!r} * a1", [gradient, parameter], f"decay.{parameter}")
        )


def calculate(b: Builder, text: str, operands: Sequence[str], name: str) -> str:
    return b.add("pointwise", operands, {"expressions": [text]}, name)


@dataclass(frozen=True)
class SGD(Optimizer):
    """g = gradient + weight_decay * p;  v = momentum * v + (1 - dampening) * g (v = g at first);  p = p - lr * v.

    nesterov: p = p - lr * (g + momentum * v).
    """

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False

    def __post_init__(self) -> None:
        if self.nesterov and (self.momentum <= 0 or self.dampening != 0):
            raise error("E0808", "nesterov needs a momentum and no dampening", exit_code=2)

    @property
    def states(self) -> tuple[str, ...]:
        return ("momentum",) if self.momentum else ()

    def scalars(self, step: int, lr: float | None = None) -> dict[str, float]:
        values = super().scalars(step, lr)
        if self.momentum and self.dampening:
            values["damping"] = 1.0 if step == 1 else 1.0 - self.dampening
        return values

    def update(
        self, b: Builder, name: str, parameter: str, gradient: str, states: Mapping[str, str], rate: str
    ) -> dict[str, str]:
        g = self.decayed(b, parameter, gradient)
        if not self.momentum:
            return {"parameter": calculate(b, "a0 - a1 * a2", [parameter, rate, g], name)}
        damped = self.dampening != 0
        text, operands = (
            (" + a2 * a1", [states["momentum"], g, "damping"]) if damped else (" + a1", [states["momentum"], g])
        )
        v = calculate(b, f"{self.momentum!r} * a0{text}", operands, f"new.{states['momentum']}")
        if self.nesterov:
            return {
                "momentum": v,
                "parameter": calculate(b, f"a0 - a1 * (a2 + {self.momentum!r} * a3)", [parameter, rate, g, v], name),
            }
        return {"momentum": v, "parameter": calculate(b, "a0 - a1 * a2", [parameter, rate, v], name)}


@dataclass(frozen=True)
class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p = p - lr * (m / c1) / (sqrt(v / c2) + eps)
    (Kingma and Ba, 2015)

    with c1 = 1 - beta1^t and c2 = 1 - beta2^t as inputs `correction1` and `correction2`. decoupled: weight decay
    shrinks the parameter by lr * weight_decay instead of being added to the gradient (AdamW: Loshchilov and Hutter,
    2019).
    """

    lr: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    decoupled: bool = False

    @property
    def states(self) -> tuple[str, ...]:
        return ("first_moment", "second_moment")

    def scalars(self, step: int, lr: float | None = None) -> dict[str, float]:
        return {**super().scalars(step, lr), "correction1": 1 - self.beta1**step, "correction2": 1 - self.beta2**step}

    def update(
        self, b: Builder, name: str, parameter: str, gradient: str, states: Mapping[str, str], rate: str
    ) -> dict[str, str]:
        g = gradient if self.decoupled else self.decayed(b, parameter, gradient)
        m, v = states["first_moment"], states["second_moment"]
        m = calculate(b, f"{self.beta1!r} * a0 + {1 - self.beta1!r} * a1", [m, g], f"new.{m}")
        v = calculate(b, f"{self.beta2!r} * a0 + {1 - self.beta2!r} * a1 * a1", [v, g], f"new.{v}")
        decay = self.decay(parameter, b.type(parameter)) if self.decoupled else 0.0
        kept = f"a0 * (1 - a1 * {decay!r})" if decay else "a0"
        p = calculate(
            b,
            f"{kept} - a1 / a4 * a2 / (sqrt(a3 / a5) + {self.eps!r})",
            [parameter, rate, m, v, "correction1", "correction2"],
            name,
        )
        return {"first_moment": m, "second_moment": v, "parameter": p}


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """s = rho s + (1 - rho) g^2;  d = sqrt(u + eps) / sqrt(s + eps) * g;  u = rho u + (1 - rho) d^2;  p = p - lr * d
    (Zeiler, 2012)
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6

    @property
    def states(self) -> tuple[str, ...]:
        return ("square", "delta")

    def update(
        self, b: Builder, name: str, parameter: str, gradient: str, states: Mapping[str, str], rate: str
    ) -> dict[str, str]:
        g = self.decayed(b, parameter, gradient)
        s = calculate(
            b, f"{self.rho!r} * a0 + {1 - self.rho!r} * a1 * a1", [states["square"], g], f"new.{states['square']}"
        )
        d = calculate(
            b, f"sqrt(a0 + {self.eps!r}) / sqrt(a1 + {self.eps!r}) * a2", [states["delta"], s, g], f"delta.{parameter}"
        )
        u = calculate(
            b, f"{self.rho!r} * a0 + {1 - self.rho!r} * a1 * a1", [states["delta"], d], f"new.{states['delta']}"
        )
        return {"square": s, "delta": u, "parameter": calculate(b, "a0 - a1 * a2", [parameter, rate, d], name)}


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """s = alpha s + (1 - alpha) g^2;  v = momentum v + g / (sqrt(s) + eps);  p = p - lr * v (Hinton, 2012)

    centered: sqrt(s - m^2) in place of sqrt(s), with m = alpha m + (1 - alpha) g (Graves, 2013).
    """

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False

    @property
    def states(self) -> tuple[str, ...]:
        return ("square", *(("mean",) if self.centered else ()), *(("momentum",) if self.momentum else ()))

    def update(
        self, b: Builder, name: str, parameter: str, gradient: str, states: Mapping[str, str], rate: str
    ) -> dict[str, str]:
        g = self.decayed(b, parameter, gradient)
        keep, new = self.alpha, 1 - self.alpha
        found = {
            "square": calculate(
                b, f"{keep!r} * a0 + {new!r} * a1 * a1", [states["square"], g], f"new.{states['square']}"
            )
        }
        root, operands = "sqrt(a0)", [found["square"], g]
        if self.centered:
            found["mean"] = calculate(b, f"{keep!r} * a0 + {new!r} * a1", [states["mean"], g], f"new.{states['mean']}")
            root, operands = "sqrt(max(a0 - a2 * a2, 0))", [*operands, found["mean"]]
        step = calculate(b, f"a1 / ({root} + {self.eps!r})", operands, f"delta.{parameter}")
        if self.momentum:
            old = states["momentum"]
            step = found["momentum"] = calculate(b, f"{self.momentum!r} * a0 + a1", [old, step], f"new.{old}")
        return {**found, "parameter": calculate(b, "a0 - a1 * a2", [parameter, rate, step], name)}


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """s = s + g^2;  p = p - lr / (1 + (t - 1) lr_decay) * g / (sqrt(s) + eps) (Duchi, Hazan and Singer, 2011)"""

    eps: float = 1e-10
    lr_decay: float = 0.0

    @property
    def states(self) -> tuple[str, ...]:
        return ("sum",)

    def scalars(self, step: int, lr: float | None = None) -> dict[str, float]:
        rate = super().scalars(step, lr)["learning_rate"]
        return {"learning_rate": rate / (1 + (step - 1) * self.lr_decay)}

    def update(
        self, b: Builder, name: str, parameter: str, gradient: str, states: Mapping[str, str], rate: str
    ) -> dict[str, str]:
        g = self.decayed(b, parameter, gradient)
        s = calculate(b, "a0 + a1 * a1", [states["sum"], g], f"new.{states['sum']}")
        p = calculate(b, f"a0 - a1 * a3 / (sqrt(a2) + {self.eps!r})", [parameter, rate, s, g], name)
        return {"sum": s, "parameter": p}


def add_updates(b: Builder, optimizer: Optimizer, gradients: Mapping[str, str]) -> list[tuple[str, str]]:
    """Inputs, states and nodes that update every parameter of `gradients`; the (leaf, new value) pairs."""
    for scalar in optimizer.scalars(1):
        b.input(scalar, SCALAR)
    states = {p: {s: b.state(f"optimizer.{s}.{p}", b.type(p)) for s in optimizer.states} for p in gradients}
    updates: list[tuple[str, str]] = []
    for parameter, gradient in gradients.items():
        factor, rate = optimizer.rate(parameter), "learning_rate"
        if factor != 1:
            rate = calculate(b, f"a0 * {factor!r}", ["learning_rate"], f"rate.{parameter}")
        new = optimizer.update(b, f"new.{parameter}", parameter, gradient, states[parameter], rate)
        updates += [(parameter, new["parameter"]), *((states[parameter][s], new[s]) for s in optimizer.states)]
    return updates
