"""Values of images that are probably not what is meant: floats that look like pixels, and bytes that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import Diagnostic

PEEK = 256  # samples that are looked at
PIXELS = 64  # from here on, values that are not negative look like those of pixels


def unlikely(array: NDArray[Any]) -> Diagnostic | None:
    """A warning (W0643) about images [n, ...] as they were given, by the first of them."""
    seen = array[:PEEK]
    if not seen.size or seen.dtype.kind not in "fiu" or not np.all(np.isfinite(seen)):
        return None  # NaN shows in what the network says
    least, most = float(seen.min()), float(seen.max())
    if seen.dtype == np.uint8 and most == 1:
        return _warning(
            "the images are bytes of 0 and 1: divided by 255, as pixels are, they are all but black",
            "save them as floats, which are taken as they are, or set `scale = 1` at the model's input",
        )
    if seen.dtype.kind == "f" and least >= 0 and PIXELS < most <= 255 and seen.ndim == 4:
        return _warning(
            f"the images are floats of {least:g} to {most:g}, which are taken as they are",
            "save pixels as bytes (x.astype(np.uint8)): they are divided by 255; or divide them before",
        )
    return None


def same(array: NDArray[Any]) -> Diagnostic | None:
    """A warning (W0643) where all values of images to train on are alike."""
    seen = array[:PEEK]
    if not seen.size or np.isnan(seen.flat[0]) or not np.all(seen == seen.flat[0]):
        return None
    return _warning(f"every value of the images is {float(seen.flat[0]):g}", "is it the right array?")


def _warning(message: str, help: str) -> Diagnostic:
    return Diagnostic("W0643", message, help=help, severity="warning")
