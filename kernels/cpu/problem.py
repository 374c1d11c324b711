"""What a planner is told of a convolution or a pooling, and of what comes behind it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

Pair = tuple[int, int]
Padding = tuple[Pair, ...]

# The weight between channels of different groups, where kernels multiply by it because lanes next to it need the product: a zero
# that its sign tells from a group's own. Own weights that are -0 are taken for it where a sum is not finite, and nowhere else.
FOREIGN = -0.0


def output_size(size: int, kernel: int, stride: int, padding: Pair, dilation: int) -> int:
    """The number of outputs along an axis."""
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


@dataclass(frozen=True)
class Epilogue:
    """`expression` is applied to `y`, and to a0, a1, ... whose kinds are `operands`: "full", a tensor like y, "channel", a vector
    with a float for each channel of y, or "scalar".
    """

    expression: Any = None
    operands: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(f"a{i}" for i in range(len(self.operands)))

    @property
    def vectors(self) -> int:
        """Vectors of channels that a kernel has at hand for a block: the bias's, and the operands'."""
        return 1 + len(self.operands)

    @property
    def parameters(self) -> tuple[tuple[str, object], ...]:
        """Those of a kernel."""
        return ("expression", self.expression), ("operands", tuple(self.operands))


BARE = Epilogue()  # nothing comes behind


@dataclass(frozen=True)
class Conv:
    """x [images, channels, *size], w [filters, channels / groups, *kernel] -> y [images, filters, *out], over one to three axes.

    Padding is (before, after) an axis, and may be negative.
    """

    images: int
    channels: int
    size: tuple[int, ...]
    filters: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...] = (1, 1)
    padding: Padding = ((0, 0), (0, 0))
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1

    @property
    def out(self) -> tuple[int, ...]:
        """ValueError where the kernel exceeds the padded input."""
        axes = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        out = tuple(output_size(*axis) for axis in axes)
        if min(out) < 1:
            raise ValueError(f"kernel {self.kernel} exceeds the padded input {self.size}")
        return out

    @property
    def pointwise(self) -> bool:
        """Whether outputs meet the pixel where they are themselves, of all channels."""
        ones = (*self.kernel, *self.stride, *self.dilation, self.groups)
        return all(n == 1 for n in ones) and not any(sum(self.padding, ()))

    @property
    def depthwise(self) -> bool:
        """Whether every channel is a group, with one filter."""
        return self.groups == self.channels == self.filters > 1

    @property
    def turned(self) -> Conv:
        """The convolution of dy that is the gradient of the input of this one, whose stride is 1."""
        reach = [d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True)]
        padding = tuple((r - before, r - after) for r, (before, after) in zip(reach, self.padding, strict=True))
        return replace(self, channels=self.filters, size=self.out, filters=self.channels, padding=padding)

    @property
    def of_group(self) -> Conv:
        """The convolution of one group's channels."""
        return replace(self, channels=self.channels // self.groups, filters=self.filters // self.groups, groups=1)


@dataclass(frozen=True)
class Pool:
    """Windows over x [N, C, *size] that give y [N, C, *out]; padding is (before, after) an axis."""

    shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    blocked: bool
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
