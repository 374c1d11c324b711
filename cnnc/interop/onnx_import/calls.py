"""The records of a model that is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cnnc.untrusted import Malformed


@dataclass(frozen=True)
class Call:
    """One node of a model: an operator on values by name, "" for one that is left out."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    domain: str = ""

    def __str__(self) -> str:
        return f"{self.operator} '{self.name or (self.outputs[0] if self.outputs else '')}'"

    def has(self, position: int) -> bool:
        return len(self.inputs) > position and self.inputs[position] != ""

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def integer(self, name: str, default: int) -> int:
        value = self.attributes.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise Malformed(f"{name} is {value!r}, not a whole number")
        return value

    def number(self, name: str, default: float) -> float:
        value = self.attributes.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Malformed(f"{name} is {value!r}, not a number")
        return float(value)

    def text(self, name: str, default: str) -> str:
        value = self.attributes.get(name, default)
        if not isinstance(value, str):
            raise Malformed(f"{name} is {value!r}, not a text")
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """A list of whole numbers; None where it is left out."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
            raise Malformed(f"{name} is {value!r}, not a list of whole numbers")
        return value


class Unsupported(Exception):
    """What a model asks for and a network of ours does not say: at which call, and why not."""

    def __init__(self, call: Call, why: str) -> None:
        super().__init__(call, why)
        self.call, self.why = call, why

    def __str__(self) -> str:
        return f"{self.call}: {self.why}"
