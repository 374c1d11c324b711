"""`--set optimizer.lr=0.01`: a recipe with some of its settings replaced, under the rules of the `train` block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnc.diagnostics import CnncError, Diagnostic, Source, Span, did_you_mean
from cnnc.frontend import recipes
from cnnc.frontend.elaborate import first_frame
from cnnc.frontend.elaboration import Failure, Stop
from cnnc.frontend.expressions import evaluate
from cnnc.frontend.text.syntax import Expression
from cnnc.frontend.text.tree import parse_expression
from cnnc.frontend.values import Module
from cnnc.ir.objective import Loss, Losses

USAGE = 2
_KNOWN: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "loss": recipes.LOSSES,
    "optimizer": recipes.OPTIMIZERS,
    "schedule": recipes.SCHEDULES,
}


def override(recipe: recipes.Recipe, assignments: Sequence[str], parameters: Iterable[str] = ()) -> recipes.Recipe:
    """The recipe with each `setting=value` or `setting.argument=value` in place; values are written as in a model file.

    `parameters` are the names that patterns are matched against. Raises `CnncError` (E0640, or the train block's own
    codes; exit code 2).
    """
    parameters = tuple(parameters)
    for assignment in assignments:
        recipe = _one(recipe, assignment, parameters)
    return recipe


def _one(recipe: recipes.Recipe, assignment: str, parameters: tuple[str, ...]) -> recipes.Recipe:
    path, equals, text = assignment.partition("=")
    name, _, argument = path.strip().partition(".")
    source = Source("--set", assignment)
    whole = Span(source, 0, len(assignment))
    if not equals or not text.strip():
        raise CnncError(
            Diagnostic("E0640", f"'{assignment}' sets nothing", whole, help="write --set optimizer.lr=0.01"), USAGE
        )
    if name not in recipes.SETTINGS or (argument and name not in _KNOWN):
        known = list(_KNOWN) if argument else recipes.SETTINGS
        raise CnncError(
            Diagnostic(
                "E0640",
                f"a recipe has no setting '{path.strip()}'",
                Span(source, 0, len(path)),
                (f"it has {', '.join(recipes.SETTINGS)}",),
                _nearest(recipe, name) or did_you_mean(name, known),
            ),
            USAGE,
        )
    padded = Source("--set", " " * (len(path) + 1) + text)  # so that the caret lies under the value
    frame = first_frame("train", Module())
    try:
        node = parse_expression(padded)
        reader = recipes.Reader(frame, parameters)
        value = _argument(reader, recipe, name, argument, node) if argument else getattr(reader, name)(node)
    except (Failure, Stop):
        value = None
    except CnncError as e:
        raise CnncError([replace(d, span=_shown(d.span, source)) for d in e.diagnostics], USAGE) from None
    diagnostics = frame.elaboration.diagnostics
    if diagnostics or value is None:
        raise CnncError([replace(d, span=_shown(d.span, source)) for d in diagnostics], USAGE)
    changes: dict[str, Any] = {name: value}
    return replace(recipe, **changes)


def _nearest(recipe: recipes.Recipe, name: str) -> str | None:
    """The setting that has an argument of this name: `lr` is the optimizer's."""
    for setting, known in _KNOWN.items():
        if name in known[(recipe.loss[0] if setting == "loss" else getattr(recipe, setting)).name]:
            return f"write --set {setting}.{name}=..."
    return None


def _shown(span: Span | None, source: Source) -> Span | None:
    return None if span is None else Span(source, span.start, span.end)


def _argument(
    reader: recipes.Reader, recipe: recipes.Recipe, name: str, argument: str, node: Expression
) -> recipes.RecipeCall | Losses:
    """One argument of a call replaced; of a loss that is one alone."""
    call: recipes.RecipeCall | Loss = recipe.loss[0] if name == "loss" else getattr(recipe, name)
    if name == "loss" and len(recipe.loss) > 1:
        raise CnncError(Diagnostic("E0640", "the recipe has several losses", node.span, help='write --set "loss=..."'))
    schema = _KNOWN[name][call.name]
    if argument not in schema:
        known = ", ".join(schema) or "none"
        raise CnncError(
            Diagnostic(
                "E0640",
                f"{call.name} has no argument '{argument}'",
                node.span,
                (f"it has {known}",),
                did_you_mean(argument, schema),
            )
        )
    value = reader.checked(argument, evaluate(node, reader.frame), schema, node)
    if isinstance(call, Loss):
        return (replace(call, arguments=call.arguments.with_(**{argument: value})),)
    return replace(call, arguments={**call.arguments, argument: value})
