"""What the arguments of layers and the attributes of ops are checked for, and how errors show a type.

Each check gives the value as it is used, and raises `InferenceError` where it is none.
"""

from __future__ import annotations

from typing import Any

from cnnc.ir.op import InferenceError, Types
from cnnc.ir.types import Dim, TensorType

LIMIT = 2**31  # every dimension stays below


def show(type: TensorType | None) -> str:
    """A shape: `[N, 3, 32, 32]`."""
    return "nothing" if type is None else "[" + ", ".join(map(str, type.shape)) + "]"


def flag(value: Any, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InferenceError(f"{name} is true or false, not {value!r}", name, "E0203")
    return value


def number(value: Any, name: str, least: float, below: float = float("inf")) -> float:
    """A number as a float in [least, below)."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < below:
        limit = f"at least {least:g}" + (f" and below {below:g}" if below != float("inf") else "")
        raise InferenceError(f"{name} is {value!r}; it must be a number, {limit}", name, "E0203")
    return float(value)


def integers(value: Any, name: str, rank: int, least: int) -> tuple[int, ...]:
    """A number for every axis, or one number for all of them."""
    items = tuple(value) if isinstance(value, list | tuple) else (value,) * rank
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int):
            raise InferenceError(f"{name} is a whole number or a list of {rank}, not {item!r}", name, "E0203")
        if item < least:
            raise InferenceError(f"{name} is {item}; it must be at least {least}", name, "E0203")
        if item >= LIMIT:
            raise InferenceError(f"{name} is {item}; it must be below 2^31", name, "E0402")
    if len(items) != rank:
        raise InferenceError(f"{name} has {len(items)} numbers for {rank} axes of space", name, "E0203")
    return items


def integer(value: Any, name: str, least: int) -> int:
    """One number, which may stand in a list."""
    return integers(value, name, 1, least)[0]


def one_axis(axis: Any, rank: int, name: str = "axis") -> int:
    """An axis counted from the front."""
    if isinstance(axis, bool) or not isinstance(axis, int):
        raise InferenceError(f"{name} is a whole number, not {axis!r}", name, "E0203")
    if not -rank <= axis < rank:
        raise InferenceError(f"{name} is {axis}; the tensor has axes 0 to {rank - 1}", name, "E0203")
    return axis % rank


def all_axes(axes: Any, rank: int, name: str = "axis") -> tuple[int, ...]:
    """One axis or several, each once, counted from the front and in order."""
    items = tuple(axes) if isinstance(axes, list | tuple) else (axes,)
    result = tuple(sorted({one_axis(a, rank, name) for a in items}))
    if len(result) != len(items) or not items:
        raise InferenceError(f"{name} {axes!r} names no axis, or one twice", name, "E0203")
    return result


def check_bias(types: Types, count: Dim, what: str) -> None:
    """A third operand, where there is one, is a number for each of what a layer gives."""
    if len(types) > 2 and types[2] is not None and types[2].shape != (count,):
        raise InferenceError(f"bias {types[2]} does not fit {count} {what}", "bias", "E0204")
