"""What is said of an error code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """title: one line. text: what happened and why it is an error. example: what gives the error. fix: the way out."""

    title: str
    text: str
    example: str = ""
    fix: str = ""


def model(body: str, head: str = "", parameters: str = "") -> str:
    """A model file around a body."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return f"{head}\n\n" * bool(head) + f"model m({parameters}) {{\n    input x: f32[N, 3, 32, 32]\n{lines}\n}}"
