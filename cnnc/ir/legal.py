"""What types and attributes may be, whatever the op: an IR text says what it likes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cnnc.ir.op import REQUIRED, InferenceError, Op
from cnnc.ir.types import PLAIN, WEIGHTS, TensorType
from cnnc.untrusted import AXES, FLOAT32, shown

LARGEST = 2**63  # bytes of a value for one image
INTEGERS = ("labels", "seed")  # the operands that are whole numbers


def is_activation(t: TensorType) -> bool:
    """Whether a type is [N, C, ...] in a plain or a blocked layout."""
    return t.rank in PLAIN and (t.layout == PLAIN[t.rank] or t.block > 1)


def check_type(t: TensorType, what: str) -> None:
    """Raises `InferenceError` (E0503, E0504) for a layout that the rank has not, and for sizes that nothing holds."""
    if t.rank > AXES:
        raise InferenceError(f"{what} has {t.rank} axes, {AXES} are the limit", code="E0504")
    if t.layout not in (None, PLAIN.get(t.rank), WEIGHTS.get(t.rank)) and not (t.block > 1 and is_activation(t)):
        raise InferenceError(f"{what} has no layout {shown(t.layout)} with {t.rank} axes", code="E0503")
    if t.bytes(1) >= LARGEST:
        raise InferenceError(f"{what} is {t}: more than 2^63 bytes for one image", code="E0504")


def check_attributes(op: Op, given: dict[str, Any]) -> None:
    """Raises `InferenceError` (E0502) for an attribute of another kind than its default, or one that is no number."""
    for name, value in given.items():
        default, whole = op.attributes[name], isinstance(value, int) and not isinstance(value, bool)
        number = whole or isinstance(value, float)
        if isinstance(default, bool):
            good, wanted = isinstance(value, bool), "true or false"
        elif isinstance(default, float):
            good, wanted = number and -FLOAT32 <= value <= FLOAT32, "a number that float32 holds"
        elif isinstance(default, int):
            good, wanted = whole, "a whole number"
        elif name in ("layout", "epilogue"):
            good, wanted = isinstance(value, str), "a text"
        elif name in ("value", "p") and default is REQUIRED:
            good, wanted = number, "a number"
        else:
            continue
        if not good:
            raise InferenceError(f"{name} is {shown(value)}, not {wanted}", name, "E0502")


def check_operands(op: Op, types: Sequence[TensorType | None]) -> None:
    """Raises `InferenceError` (E0503, E0504) for operands whose layout or element type an op does not read."""
    for i, t in enumerate(types):
        if t is None:
            continue
        name = op.operands[min(i, len(op.operands) - 1)].rstrip("?*")
        weights = op.layout == "window" and i == 1
        if t.dtype.startswith("i") and name not in INTEGERS:
            raise InferenceError(f"its operand {name} is {t}; whole numbers are labels and seeds", name, "E0504")
        if op.layout == "plain" and t.block > 1:
            raise InferenceError(f"its operand {name} is {t}, which is not in a plain layout", name, "E0503")
        if weights and t.layout != WEIGHTS.get(t.rank):
            raise InferenceError(f"its weights are {t}; their layout is {WEIGHTS.get(t.rank)}", name, "E0503")
        if op.layout in ("window", "weight_gradient") and i == 0 and not is_activation(t):
            raise InferenceError(
                f"its operand {name} is {t}, which is not in the layout of an activation", name, "E0503"
            )
