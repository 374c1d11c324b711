"""How much of the input a value sees.

After Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural Networks" (2019): along a path, a window
of reach k over pixels that lie j input pixels apart adds (k - 1) * j, and a stride s multiplies j by s; where paths join,
the largest counts. Padding is not cut off, so the field of a deep layer may be larger than the input.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cnnc.ir.types import TensorType


@dataclass(frozen=True)
class Field:
    """Along each axis: input pixels that a value sees, pixels between neighbors, and values that lie side by side."""

    size: tuple[int, ...]
    jump: tuple[int, ...]
    extent: tuple[int, ...]

    @classmethod
    def of_input(cls, type: TensorType) -> Field:
        """Every pixel sees itself."""
        space = space_of(type)
        return cls((1,) * len(space), (1,) * len(space), space)

    @classmethod
    def join(cls, fields: Sequence[Field]) -> Field:
        """What a value sees that is made of several: the largest of each axis, over those of the most axes."""
        rank = max(len(f.size) for f in fields)
        same = [f for f in fields if len(f.size) == rank]
        sizes, jumps, extents = zip(*((f.size, f.jump, f.extent) for f in same), strict=True)
        return cls(*(tuple(map(max, zip(*part, strict=True))) for part in (sizes, jumps, extents)))

    def window(self, reach: Sequence[int], stride: Sequence[int], extent: Sequence[int]) -> Field:
        """What is seen through a window; all of space where it slides along other axes than these, behind a reshape."""
        if len(reach) != len(self.size):
            return self.whole()
        size = tuple(r + (k - 1) * j for r, k, j in zip(self.size, reach, self.jump, strict=True))
        return Field(size, tuple(j * s for j, s in zip(self.jump, stride, strict=True)), tuple(extent))

    def whole(self) -> Field:
        """What a value sees that reads all of space."""
        ones = (1,) * len(self.extent)
        return self.window(self.extent, ones, ones)

    def over(self, axes: Collection[int]) -> Field:
        """What a value sees that reads all there is along some axes of space, and no more than before along others."""
        whole = self.whole()
        pairs = ((self.size, whole.size), (self.jump, whole.jump), (self.extent, whole.extent))
        return Field(*(tuple(w if i in axes else s for i, (s, w) in enumerate(zip(*p, strict=True))) for p in pairs))


def space_of(type: TensorType) -> tuple[int, ...]:
    """The sizes behind the batch and the channels."""
    return tuple(int(d) for d in type.shape[2:])
