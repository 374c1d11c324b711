"""What is raised where a model is asked for whose inputs leave sizes open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cnnc.ir.types import Dim


class OpenSizes(Exception):
    """A model leaves sizes open, and they are not given. shapes: of its inputs, with names for what is open."""

    def __init__(self, shapes: Mapping[str, tuple[Dim, ...]], model: str) -> None:
        super().__init__(shapes, model)
        self.shapes, self.model = shapes, model
