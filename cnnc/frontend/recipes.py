"""The `train` block: the default recipe, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partialmethod
from typing import Any

from cnnc.diagnostics import Span
from cnnc.frontend.elaboration import Failure, Frame, Placed
from cnnc.frontend.expressions import evaluate
from cnnc.frontend.text import syntax as s
from cnnc.frontend.values import Tensor, Value, kind, show
from cnnc.ir import objective
from cnnc.ir.graph import Attributes
from cnnc.ir.objective import CROSS_ENTROPY, Loss, Losses
from cnnc.ir.op import REQUIRED, InferenceError
from cnnc.ir.start import Start, unfit_default

# What can be called, with argument names and defaults in their order.
LOSSES: dict[str, Mapping[str, Any]] = {name: kind.arguments for name, kind in objective.LOSSES.items()}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": REQUIRED, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False},
    "adam": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0},
    "adamw": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01},
    "rmsprop": {"lr": 0.01, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0, "centered": False},
    "adagrad": {"lr": 0.01, "lr_decay": 0.0, "weight_decay": 0.0, "eps": 1e-10},
    "adadelta": {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0.0},
}
SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {"warmup": 0},
    "step": {"every": 30, "factor": 0.1, "warmup": 0},
    "cosine": {"warmup": 0},
    "exponential": {"factor": 0.95, "warmup": 0},
}
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "random_shift": {"pixels": REQUIRED},
    "random_flip": {"p": 0.5},
    "horizontal_flip": {"p": 0.5},
    "random_crop": {"size": None, "padding": 0},
    "color_jitter": {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0},
}
GROUP_SETTINGS = ("lr", "weight_decay")
SETTINGS = (
    "loss",
    "optimizer",
    "schedule",
    "epochs",
    "batch",
    "augment",
    "freeze",
    "freeze_statistics",
    "groups",
    "init",
    "bias_init",
    "l1",
    "l2",
)
POSITIVE = ("lr", "eps", "every", "factor")
SHARES = ("momentum", "p", "brightness", "contrast", "saturation")


@dataclass(frozen=True, slots=True)
class RecipeCall:
    """`sgd(lr=0.1)`: a name and its arguments, by name, defaults filled in."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    span: Span | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={show(v)}' for k, v in self.arguments.items())})"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained unless the command line or Python says otherwise."""

    loss: Losses = CROSS_ENTROPY
    optimizer: RecipeCall = field(default_factory=lambda: RecipeCall("sgd", {**OPTIMIZERS["sgd"], "lr": 0.01}))
    schedule: RecipeCall = field(default_factory=lambda: RecipeCall("constant", {"warmup": 0}))
    epochs: int = 10
    batch: int = 32
    augment: tuple[RecipeCall, ...] = ()
    freeze: tuple[str, ...] = ()
    freeze_statistics: tuple[str, ...] = ()
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    init: Start | None = None
    bias_init: Start | None = None
    l1: float = 0.0
    l2: float = 0.0

    @property
    def losses(self) -> Losses:
        """The loss, with the penalties."""
        penalties = (("l1_penalty", self.l1), ("l2_penalty", self.l2))
        return (*self.loss, *(Loss(name, weight=weight) for name, weight in penalties if weight))


def recipe(node: s.Train, frame: Frame, parameters: Iterable[str]) -> Recipe:
    """The recipe of a `train` block; each wrong setting is reported. `parameters` are what patterns may match."""
    values: dict[str, Any] = {}
    reader = Reader(frame, tuple(parameters))
    for setting in node.settings:
        name = setting.name.name
        with suppress(Failure):
            if name not in SETTINGS:
                frame.unknown(setting.name, "E0307", "a recipe has no setting", name, SETTINGS, "it has")
            if name in values:
                frame.fail(setting.name, "E0303", f"{name} is set twice")
            values[name] = None
            values[name] = getattr(reader, name)(setting.value)
    return Recipe(**{k: v for k, v in values.items() if v is not None})


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the values of a recipe's settings, each by the method of its name. `parameters` are what patterns may match."""

    frame: Frame
    parameters: tuple[str, ...]

    def loss(self, node: s.Expression) -> Losses:
        """`cross_entropy()`, `0.5 * mse() + l1()`, or such sums by output: `{logits: cross_entropy(), aux: 0.3 * mse()}`."""
        if not isinstance(node, s.Dict):
            return self.losses(node)
        found: list[Loss] = []
        for key, value in node.pairs:
            label = key.name if isinstance(key, s.Name) else key.value if isinstance(key, s.Text) else None
            if label is None:
                self.frame.fail(key, "E0322", "a loss by output is written {output: cross_entropy()}")
            if label in (loss.output for loss in found):
                self.frame.fail(key, "E0303", f"the output {label} has a loss already")
            found += [replace(loss, output=label) for loss in self.losses(value)]
        if not found:
            self.frame.fail(node, "E0322", "the loss is of no output")
        return tuple(found)

    def losses(self, node: s.Expression) -> Losses:
        """A sum of losses."""
        if isinstance(node, s.Chain) and all(operator == "+" for operator, _, _ in node.rest):
            return tuple(
                loss for term in (node.first, *(term for _, _, term in node.rest)) for loss in self.losses(term)
            )
        return (self.one_loss(node),)

    def one_loss(self, node: s.Expression) -> Loss:
        """A loss, or numbers times one."""
        if isinstance(node, s.Chain) and all(operator == "*" for operator, _, _ in node.rest):
            *factors, last = node.first, *(term for _, _, term in node.rest)
            result = self.one_loss(last)
            for factor in factors:
                value = evaluate(factor, self.frame)
                if isinstance(value, bool) or not isinstance(value, int | float):
                    self.frame.fail(factor, "E0322", f"a loss is weighed by a number, not by {kind(value)}")
                result = value * result
            return result
        call = self.call(node, "loss", LOSSES)
        return Loss(call.name, Attributes({k: v for k, v in call.arguments.items() if v != LOSSES[call.name][k]}))

    def penalty(self, name: str, node: s.Expression) -> float:
        value = evaluate(node, self.frame)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e30:
            self.frame.fail(node, "E0322", f"{name} is {show(value)}; it is a number of at least 0")
        return float(value)

    l1, l2 = partialmethod(penalty, "l1"), partialmethod(penalty, "l2")

    def optimizer(self, node: s.Expression) -> RecipeCall:
        return self.call(node, "optimizer", OPTIMIZERS)

    def schedule(self, node: s.Expression) -> RecipeCall:
        return self.call(node, "schedule", SCHEDULES)

    def augment(self, node: s.Expression) -> tuple[RecipeCall, ...]:
        items = node.items if isinstance(node, s.List) else (node,)
        return tuple(self.call(item, "augmentation", AUGMENTATIONS) for item in items)

    def epochs(self, node: s.Expression) -> int:
        return self.whole("epochs", node, 1_000_000)

    def batch(self, node: s.Expression) -> int:
        return self.whole("batch", node, 1 << 20)

    def whole(self, name: str, node: s.Expression, most: int) -> int:
        value = evaluate(node, self.frame)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            self.frame.fail(node, "E0322", f"{name} is {show(value)}; it is a whole number, 1 to {most:,}")
        return value

    def freeze(self, node: s.Expression) -> tuple[str, ...]:
        value = evaluate(node, self.frame)
        patterns = value if isinstance(value, tuple) else (value,)
        return tuple(self.pattern(p, node) for p in patterns)

    def freeze_statistics(self, node: s.Expression) -> tuple[str, ...]:
        return self.freeze(node)

    def start(self, name: str, node: s.Expression) -> Start:
        """How weights, or biases, start whose layers do not say it."""
        value = evaluate(node, self.frame)
        if not isinstance(value, Start):
            what = f"{name} is a start such as {'zeros()' if name == 'bias_init' else 'kaiming_normal()'}"
            self.frame.fail(node, "E0322", f"{what}, not {show(value)}")
        refused = unfit_default(name, value)
        if refused is not None:
            self.frame.fail(node, "E0322", f"{name} is {show(value)}; {refused} is needed")
        return value

    init, bias_init = partialmethod(start, "init"), partialmethod(start, "bias_init")

    def pattern(self, value: Any, node: s.Expression) -> str:
        """A pattern of parameter names; one that matches nothing is a warning."""
        if not isinstance(value, str):
            what = f'a pattern of parameter names is a text such as "features.*", not {kind(value)}'
            self.frame.fail(node, "E0322", what)
        if self.parameters and not any(fnmatchcase(p, value) for p in self.parameters):
            help = f"names are like {self.parameters[0]}; '*' stands for any text"
            self.frame.warn(node, "W0104", f"no parameter is named {show(value)}", help=help)
        return value

    def groups(self, node: s.Expression) -> dict[str, dict[str, float]]:
        value = evaluate(node, self.frame)
        if not isinstance(value, dict):
            what = f'groups is a dict such as {{"fc.*": {{lr = 0.01}}}}, not {kind(value)}'
            self.frame.fail(node, "E0322", what)
        return {self.pattern(key, node): self.group(key, settings, node) for key, settings in value.items()}

    def group(self, pattern: str, settings: Value, node: s.Expression) -> dict[str, float]:
        """The settings of the parameters that a pattern matches."""
        frame = self.frame
        if not isinstance(settings, dict):
            what = f"the group {show(pattern)} is a dict such as {{lr = 0.01}}, not {kind(settings)}"
            frame.fail(node, "E0322", what)
        for name, number in settings.items():
            if name not in GROUP_SETTINGS:
                frame.unknown(node, "E0307", "a group has no setting", str(name), GROUP_SETTINGS, "it has")
            if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
                frame.fail(node, "E0322", f"{name} is {show(number)}; it is a number of at least 0")
        return {name: float(number) for name, number in settings.items()}

    def call(self, node: s.Expression, what: str, known: Mapping[str, Mapping[str, Any]]) -> RecipeCall:
        """A call of a known name, its arguments evaluated and bound; without parentheses it has none."""
        frame = self.frame
        callee = node.callee if isinstance(node, s.Call) else node
        if not isinstance(callee, s.Name):
            frame.fail(node, "E0322", f"the {what} is written {next(iter(known))}(...)")
        name = callee.name
        if name not in known:
            frame.unknown(callee, "E0322", f"unknown {what}", name, known, "there are")
        schema = known[name]
        given: dict[str, Any] = {}
        for i, argument in enumerate(node.arguments if isinstance(node, s.Call) else ()):
            if argument.name is None and i >= len(schema):
                frame.fail(argument, "E0208", f"{name} takes {len(schema)} arguments")
            key = list(schema)[i] if argument.name is None else argument.name.name
            if key not in schema:
                frame.unknown(argument, "E0206", f"{name} has no argument", key, schema, "it has")
            if key in given:
                frame.fail(argument, "E0208", f"the argument {key} is given twice")
            given[key] = self.checked(key, evaluate(argument.value, frame), schema, argument)
        for key, default in schema.items():
            if default is REQUIRED and key not in given:
                frame.fail(node, "E0207", f"{name} needs {key}")
        return RecipeCall(name, {k: given.get(k, d) for k, d in schema.items()}, node.span)

    def checked(self, name: str, value: Any, schema: Mapping[str, Any], where: Placed) -> Any:
        """A number in its range; `betas` and `size` may be lists of two, `every` a list of epochs."""
        default = schema[name]
        if any(schema is known for known in LOSSES.values()):
            try:
                return objective.checked(name, value, default)
            except InferenceError as e:
                self.frame.fail(where, e.code, e.message, help=e.help)
        if isinstance(default, bool) != isinstance(value, bool):
            wanted = "true or false" if isinstance(default, bool) else "a number"
            self.frame.fail(where, "E0322", f"{name} is {wanted}, not {show(value)}")
        if isinstance(value, bool) or (value is None and default is None):
            return value
        pair = name in ("betas", "size") and isinstance(value, tuple) and len(value) == 2
        epochs = name == "every" and isinstance(value, tuple)
        for number in value if pair or epochs else (value,):
            wrong = _wrong(name, number, value)
            if wrong is not None:
                self.frame.fail(where, "E0322", wrong)
        if name == "betas" and not pair:
            self.frame.fail(where, "E0322", f"betas is a list of two numbers, not {show(value)}")
        return value


def _wrong(name: str, number: Any, value: Any) -> str | None:
    """What is wrong with a number that is `value`, or in it."""
    if isinstance(number, Tensor) or not isinstance(number, int | float):
        return f"{name} is a number, not {kind(number)}"
    if number < 0 or (name in POSITIVE and number == 0):
        return f"{name} is {show(value)}; it must be {'above' if name in POSITIVE else 'at least'} 0"
    if (name == "betas" and number >= 1) or (name in SHARES and number > 1):
        return f"{name} is {show(value)}; it is at most 1"
    return None
