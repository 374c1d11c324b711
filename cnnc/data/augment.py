"""Augmentation: random changes of the training images, on pixels [n, C, H, W] before they are normalized.

What happens to an image follows from (seed, epoch, its index in the data set), so it depends neither on the batch it is
in nor on the order. Every change works on bytes and on floats alike; what comes in from outside of the image is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from cnnc.data.random import AUGMENT, uniform
from cnnc.diagnostics import CnncError, Diagnostic, Span, did_you_mean

Images = NDArray[Any]
Draws = NDArray[np.float64]  # [n, draws] in [0, 1)


@dataclass(frozen=True)
class Augmentation:
    """`apply(images [n, C, H, W], draws [n, self.draws], size) -> images`; `size` is what the network takes, (H, W)."""

    draws: ClassVar[int] = 1

    def check(self, size: tuple[int, int]) -> None:
        """Raises ValueError where the arguments make no sense for images of this size."""

    def apply(self, x: Images, draws: Draws, size: tuple[int, int]) -> Images:
        raise NotImplementedError


def _windows(x: Images, tops: NDArray[np.int64], lefts: NDArray[np.int64], size: tuple[int, int]) -> Images:
    """Image i cut at (tops[i], lefts[i])."""
    views = np.lib.stride_tricks.sliding_window_view(x, size, axis=(2, 3))
    cut: Images = views[np.arange(len(x)), :, tops, lefts]
    return cut


def _padded(x: Images, pixels: int) -> Images:
    return np.pad(x, [(0, 0), (0, 0), (pixels, pixels), (pixels, pixels)])


def _below(draws: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Whole numbers 0 to count - 1."""
    return (draws * count).astype(np.int64)


@dataclass(frozen=True)
class RandomShift(Augmentation):
    """Moved by up to `pixels` in each direction."""

    pixels: int
    draws: ClassVar[int] = 2

    def check(self, size: tuple[int, int]) -> None:
        _whole(self.pixels, "pixels", 0, min(size))

    def apply(self, x: Images, draws: Draws, size: tuple[int, int]) -> Images:
        steps = 2 * self.pixels + 1
        return _windows(_padded(x, self.pixels), _below(draws[:, 0], steps), _below(draws[:, 1], steps), x.shape[2:])


@dataclass(frozen=True)
class RandomFlip(Augmentation):
    """Mirrored, left to right, with probability `p`."""

    p: float = 0.5

    def check(self, size: tuple[int, int]) -> None:
        _number(self.p, "p", 0, 1)

    def apply(self, x: Images, draws: Draws, size: tuple[int, int]) -> Images:
        return np.where((draws[:, 0] < self.p)[:, None, None, None], x[..., ::-1], x)


@dataclass(frozen=True)
class RandomCrop(Augmentation):
    """A random window of `size` (the network's input, unless told), after `padding` zeros on each side."""

    size: int | tuple[int, int] | None = None
    padding: int = 0
    draws: ClassVar[int] = 2

    def window(self, size: tuple[int, int]) -> tuple[int, int]:
        return (
            size
            if self.size is None
            else (self.size, self.size)
            if isinstance(self.size, int)
            else (self.size[0], self.size[1])
        )

    def check(self, size: tuple[int, int]) -> None:
        for d in self.window(size):
            _whole(d, "size", 1, 1 << 16)
        _whole(self.padding, "padding", 0, 1 << 12)
        if self.window(size) != size:
            raise ValueError(f"size is {_show(self.window(size))}, the network takes {_show(size)}")

    def apply(self, x: Images, draws: Draws, size: tuple[int, int]) -> Images:
        x = _padded(x, self.padding) if self.padding else x
        height, width = self.window(size)
        return _windows(
            x,
            _below(draws[:, 0], x.shape[2] - height + 1),
            _below(draws[:, 1], x.shape[3] - width + 1),
            (height, width),
        )


@dataclass(frozen=True)
class ColorJitter(Augmentation):
    """Brightness, contrast and saturation, each multiplied by a number within 1 - v and 1 + v (Krizhevsky et al., 2012,
    and since).

    Contrast moves away from the image's mean grey, saturation from each pixel's grey (ITU-R 601 luma).
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    draws: ClassVar[int] = 3

    def check(self, size: tuple[int, int]) -> None:
        for name in ("brightness", "contrast", "saturation"):
            _number(getattr(self, name), name, 0, 1)

    def apply(self, x: Images, draws: Draws, size: tuple[int, int]) -> Images:
        spread = np.array([self.brightness, self.contrast, self.saturation])
        brightness, contrast, saturation = (1 + spread * (2 * draws - 1)).astype(np.float32).T[:, :, None, None, None]
        y = x.astype(np.float32) * brightness
        weights = np.array([0.299, 0.587, 0.114] if x.shape[1] == 3 else [1 / x.shape[1]] * x.shape[1], np.float32)
        grey = np.einsum("nchw,c->nhw", y, weights)[:, None]
        mean = grey.mean((2, 3), keepdims=True)
        y, grey = (y - mean) * contrast + mean, (grey - mean) * contrast + mean
        y = (y - grey) * saturation + grey
        jittered: Images = np.clip(np.rint(y), 0, 255).astype(np.uint8) if x.dtype == np.uint8 else y
        return jittered


def _whole(value: Any, name: str, least: int, greatest: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= greatest:
        raise ValueError(f"{name} is {value!r}; it must be a whole number, {least} to {greatest}")


def _number(value: Any, name: str, least: float, greatest: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= greatest:
        raise ValueError(f"{name} is {value!r}; it must be a number, {least} to {greatest}")


def _show(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


AUGMENTATIONS: dict[str, type[Augmentation]] = {
    "random_shift": RandomShift,
    "random_flip": RandomFlip,
    "horizontal_flip": RandomFlip,
    "random_crop": RandomCrop,
    "color_jitter": ColorJitter,
}


def build(name: str, arguments: Mapping[str, Any], size: tuple[int, int], span: Span | None = None) -> Augmentation:
    """The augmentation of a recipe's `name(arguments)` for images of a size. Raises `CnncError` (E0631)."""

    def wrong(message: str, *notes: str, help: str | None = None) -> CnncError:
        return CnncError(Diagnostic("E0631", message, span, notes, help))

    kind = AUGMENTATIONS.get(name)
    if kind is None:
        raise wrong(
            f"there is no augmentation '{name}'",
            f"there are {', '.join(AUGMENTATIONS)}",
            help=did_you_mean(name, AUGMENTATIONS),
        )
    known = [f.name for f in fields(kind)]
    for key in arguments:
        if key not in known:
            raise wrong(
                f"{name} has no argument '{key}'", f"it takes {', '.join(known)}", help=did_you_mean(key, known)
            )
    try:
        made = kind(**arguments)
        made.check(size)
    except TypeError as e:
        raise wrong(f"{name} needs {', '.join(known)}") from e
    except ValueError as e:
        raise wrong(f"{name}: {e}") from e
    return made


def augment(
    x: Images,
    augmentations: Sequence[Augmentation],
    seed: int,
    epoch: int,
    samples: NDArray[Any],
    size: tuple[int, int],
) -> Images:
    """The images of `samples` (their indices in the data set), changed for one epoch."""
    total = sum(a.draws for a in augmentations)
    if not total or not len(x):
        return x
    draws, first = uniform(seed, AUGMENT, epoch, samples, total), 0
    for a in augmentations:
        x = a.apply(x, draws[:, first : first + a.draws], size)
        first += a.draws
    return x
