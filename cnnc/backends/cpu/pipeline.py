"""The processor's part of the pipelines: which layouts tensors get, and what has to happen before."""

from __future__ import annotations

from cnnc.backends.cpu.merge_groups import MergeGroups
from cnnc.passes.manager import Pass
from cnnc.passes.select_layout import SelectLayout


def layouts(lanes: int) -> tuple[Pass, ...]:
    """lanes: channels to a block; 1 keeps every layout plain."""
    return MergeGroups(lanes), SelectLayout(lanes)
