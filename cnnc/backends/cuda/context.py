"""What rules for GPUs work with."""

from __future__ import annotations

from dataclasses import dataclass

from cnnc.kernels.cuda.target import Chip
from cnnc.lowering import context


@dataclass(kw_only=True)
class Lowering(context.Lowering):
    """chip: what steps are chosen for."""

    chip: Chip
