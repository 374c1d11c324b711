"""The `train` block: the default recipe, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from cnnc.diagnostics import Span
from cnnc.frontend import syntax as s
from cnnc.frontend.evaluate import Evaluator
from cnnc.frontend.reporting import Failure
from cnnc.frontend.values import Frame, Tensor, kind, show
from cnnc.ir.op import REQUIRED

# What can be called, with argument names and defaults in their order.
LOSSES: dict[str, dict[str, Any]] = {"cross_entropy": {}}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"lr": REQUIRED, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False},
    "adam": {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0},
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
SETTINGS = ("loss", "optimizer", "schedule", "epochs", "batch", "augment", "freeze", "freeze_statistics", "groups")
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

    loss: RecipeCall = field(default_factory=lambda: RecipeCall("cross_entropy"))
    optimizer: RecipeCall = field(default_factory=lambda: RecipeCall("sgd", {**OPTIMIZERS["sgd"], "lr": 0.01}))
    schedule: RecipeCall = field(default_factory=lambda: RecipeCall("constant", {"warmup": 0}))
    epochs: int = 10
    batch: int = 32
    augment: tuple[RecipeCall, ...] = ()
    freeze: tuple[str, ...] = ()
    freeze_statistics: tuple[str, ...] = ()
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def recipe(evaluator: Evaluator, node: s.Train, frame: Frame, parameters: Iterable[str]) -> Recipe:
    """The recipe of a `train` block; each wrong setting is reported. `parameters` are what patterns may match."""
    values: dict[str, Any] = {}
    reader = Reader(evaluator, frame, tuple(parameters))
    for setting in node.settings:
        name = setting.name.name
        try:
            if name not in SETTINGS:
                evaluator.unknown(
                    "E0307", "a recipe has no setting", name, SETTINGS, setting.name.span, frame, "it has"
                )
            if name in values:
                evaluator.fail("E0303", f"{name} is set twice", setting.name.span, frame)
            values[name] = None
            values[name] = getattr(reader, name)(setting.value)
        except Failure:
            continue
    return Recipe(**{k: v for k, v in values.items() if v is not None})


class Reader:
    def __init__(self, evaluator: Evaluator, frame: Frame, parameters: Sequence[str]) -> None:
        self.evaluator, self.frame, self.parameters = evaluator, frame, parameters

    def fail(self, message: str, span: Span, help: str | None = None) -> Any:
        self.evaluator.fail("E0322", message, span, self.frame, help=help)

    def loss(self, node: s.Expression) -> RecipeCall:
        return self.call(node, "loss", LOSSES)

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
        value = self.evaluator.evaluate(node, self.frame)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            self.fail(f"{name} is {show(value)}; it is a whole number, 1 to {most:,}", node.span)
        return int(value)

    def freeze(self, node: s.Expression) -> tuple[str, ...]:
        value = self.evaluator.evaluate(node, self.frame)
        patterns = value if isinstance(value, tuple) else (value,)
        return tuple(self.pattern(p, node.span) for p in patterns)

    def freeze_statistics(self, node: s.Expression) -> tuple[str, ...]:
        return self.freeze(node)

    def pattern(self, value: Any, span: Span) -> str:
        """A pattern of parameter names; one that matches nothing is a warning."""
        if not isinstance(value, str):
            self.fail(f'a pattern of parameter names is a text such as "features.*", not {kind(value)}', span)
        pattern = str(value)
        if self.parameters and not any(fnmatchcase(p, pattern) for p in self.parameters):
            near = self.parameters[0]
            self.evaluator.report(
                "W0104",
                f"no parameter is named {show(pattern)}",
                span,
                self.frame,
                help=f"names are like {near}; '*' stands for any text",
                severity="warning",
            )
        return pattern

    def groups(self, node: s.Expression) -> dict[str, dict[str, float]]:
        value = self.evaluator.evaluate(node, self.frame)
        if not isinstance(value, dict):
            self.fail(f'groups is a dict such as {{"fc.*": {{lr = 0.01}}}}, not {kind(value)}', node.span)
        result: dict[str, dict[str, float]] = {}
        for key, settings in value.items():
            pattern = self.pattern(key, node.span)
            if not isinstance(settings, dict):
                self.fail(f"the group {show(pattern)} is a dict such as {{lr = 0.01}}, not {kind(settings)}", node.span)
            for name, number in settings.items():
                if name not in GROUP_SETTINGS:
                    self.evaluator.unknown(
                        "E0307", "a group has no setting", str(name), GROUP_SETTINGS, node.span, self.frame, "it has"
                    )
                if isinstance(number, bool) or not isinstance(number, int | float) or number < 0:
                    self.fail(f"{name} is {show(number)}; it is a number of at least 0", node.span)
            result[pattern] = {name: float(number) for name, number in settings.items()}
        return result

    def call(self, node: s.Expression, what: str, known: Mapping[str, Mapping[str, Any]]) -> RecipeCall:
        """A call of a known name, its arguments evaluated and bound; without parentheses it has none."""
        callee = node.callee if isinstance(node, s.Call) else node
        if not isinstance(callee, s.Name):
            self.fail(f"the {what} is written {next(iter(known))}(...)", node.span)
        assert isinstance(callee, s.Name)
        if callee.name not in known:
            self.evaluator.unknown("E0322", f"unknown {what}", callee.name, known, callee.span, self.frame, "there are")
        schema = known[callee.name]
        given: dict[str, Any] = {}
        for i, argument in enumerate(node.arguments if isinstance(node, s.Call) else ()):
            if argument.name is None and i >= len(schema):
                self.evaluator.fail("E0208", f"{callee.name} takes {len(schema)} arguments", argument.span, self.frame)
            name = list(schema)[i] if argument.name is None else argument.name.name
            if name not in schema:
                self.evaluator.unknown(
                    "E0206", f"{callee.name} has no argument", name, schema, argument.span, self.frame, "it has"
                )
            if name in given:
                self.evaluator.fail("E0208", f"the argument {name} is given twice", argument.span, self.frame)
            value = self.evaluator.evaluate(argument.value, self.frame)
            self.check(name, value, schema[name], argument.span)
            given[name] = value
        for name, default in schema.items():
            if default is REQUIRED and name not in given:
                self.evaluator.fail("E0207", f"{callee.name} needs {name}", node.span, self.frame)
        return RecipeCall(callee.name, {k: given.get(k, d) for k, d in schema.items()}, node.span)

    def check(self, name: str, value: Any, default: Any, span: Span) -> None:
        """A number in its range; `betas` and `size` may be lists of two, `every` a list of epochs."""
        if isinstance(default, bool) or isinstance(value, bool):
            if not (isinstance(default, bool) and isinstance(value, bool)):
                wanted = "true or false" if isinstance(default, bool) else "a number"
                self.fail(f"{name} is {wanted}, not {show(value)}", span)
            return
        pair = name in ("betas", "size") and isinstance(value, tuple) and len(value) == 2
        epochs = name == "every" and isinstance(value, tuple)
        if value is None and default is None:
            return
        for number in value if pair or epochs else (value,):
            if isinstance(number, Tensor) or not isinstance(number, int | float):
                self.fail(f"{name} is a number, not {kind(number)}", span)
            if number < 0 or (name in POSITIVE and number == 0):
                least = "above" if name in POSITIVE else "at least"
                self.fail(f"{name} is {show(value)}; it must be {least} 0", span)
            if (name == "betas" and number >= 1) or (name in SHARES and number > 1):
                self.fail(f"{name} is {show(value)}; it is at most 1", span)
        if name == "betas" and not pair:
            self.fail(f"betas is a list of two numbers, not {show(value)}", span)
