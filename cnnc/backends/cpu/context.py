"""What the processor's rules work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cnnc.backends.cpu.decisions import Decision
from cnnc.kernels.cpu.target import Target
from cnnc.lowering import context
from cnnc.lowering.plan import Ref


@dataclass(frozen=True)
class Part:
    """A place in each image of a larger value, and the floats from one image to the next."""

    ref: Ref
    image: int


@dataclass(kw_only=True)
class Lowering(context.Lowering):
    """target: the instruction set, at the machine's pace. exact: only algorithms that round like the direct ones. decisions:
    what timed runs said, by problem. written: nodes whose values a step of an earlier node writes along. parts: where a
    value may be written instead of a place of its own; divided: those that are.
    """

    target: Target
    exact: bool
    decisions: Mapping[str, Decision]
    written: set[str] = field(default_factory=set)
    parts: dict[str, Part] = field(default_factory=dict)
    divided: set[str] = field(default_factory=set)
