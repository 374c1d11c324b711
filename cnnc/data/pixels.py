"""Arrays of images to network inputs, by the same rule as files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.images import MODES, Floats, Pixels, Shape, convert, fit, plain
from cnnc.diagnostics import error

if TYPE_CHECKING:
    from cnnc.frontend.inputs import Preprocess


def as_pixels(array: NDArray[Any], preprocess: Preprocess, shape: Shape, name: str) -> NDArray[Any]:
    """Images in an array as the network takes them, [n, C, H, W]. Bytes, and whole numbers of 0 to 255, are pixels and
    become the input as a file does (`pictures` says in which forms); floats are taken as they are, and have the
    input's shape, with or without the batch. Raises `CnncError` (E0628).
    """
    found = rows(array, shape, name)
    if is_pixels(array, shape):
        return fit_all(found, preprocess, shape, name)
    return found.copy() if found.dtype == np.uint8 else as_floats(found)


def as_floats(array: NDArray[Any]) -> Floats:
    """A copy as float32, contiguous; what float32 does not hold becomes infinite."""
    with np.errstate(over="ignore"):
        return np.array(array, np.float32, order="C")


def is_pixels(array: NDArray[Any], shape: Shape) -> bool:
    """Whether an array's values are pixels, that are resized, rather than inputs."""
    return len(shape) == 3 and array.dtype.kind in "iu"


def rows(array: NDArray[Any], shape: Shape, name: str) -> NDArray[Any]:
    """An array as one of [n, ...]: pixels of any size, n pictures of 1, 3 or 4 channels (or of the input's), channels
    first; floats of the input's shape. Raises `CnncError` (E0628).
    """
    if is_pixels(array, shape):
        return _pictures(array, shape, name)
    if array.shape == shape:
        array = array[None]
    if array.shape[1:] != shape and shape[:1] == (1,) and array.shape[1:] == shape[1:]:
        array = array[:, None]
    if array.shape[1:] != shape:
        notes = ("floats are taken as they are; bytes are pixels, and are resized",) if len(shape) == 3 else ()
        raise error("E0628", _shapes(array, shape, name), *notes, exit_code=3)
    return array


def _shapes(array: NDArray[Any], shape: Shape, name: str) -> str:
    return f"{name} is {list(array.shape)}, the input takes [N, {', '.join(map(str, shape))}]"


def _pictures(array: NDArray[Any], shape: Shape, name: str) -> NDArray[Any]:
    """Pixels as [n, channels, height, width]. They are given as that, or as [n, height, width, channels], or as [n,
    height, width] for an input of one channel; or one picture, without the n. What has the input's own shape is taken
    for that; else channels are looked for at the end, then in front.
    """
    channels, counts = shape[0], (shape[0], *(c for c in MODES if c != shape[0] and shape[0] in MODES))
    if array.ndim == 4:
        if array.shape[1:] == shape:
            return array
        for count in counts:
            if array.shape[3] == count:
                return array.transpose(0, 3, 1, 2)
            if array.shape[1] == count:
                return array
    if array.ndim == 2 and 1 in counts:
        return array[None, None]
    if array.ndim == 3:
        if array.shape == shape:
            return array[None]
        if channels == 1 and (array.shape[1:] == shape[1:] or array.shape[2] not in counts):
            return array[:, None]
        if array.shape[2] in counts:
            return array.transpose(2, 0, 1)[None]
        if array.shape[0] == channels:
            return array[None]
    raise error(
        "E0628",
        _shapes(array, shape, name),
        "pixels are [n, height, width, channels], [n, channels, height, width], or [n, height, width] where they are grey",
        exit_code=3,
    )


def fit_all(pixels: NDArray[Any], preprocess: Preprocess, shape: Shape, name: str) -> Pixels:
    """Pixels [n, channels, h, w] to [n, C, H, W] of bytes, by the same code as files. Raises `CnncError` (E0622, E0623,
    E0628).
    """
    if pixels.dtype != np.uint8:
        if pixels.size and not 0 <= int(pixels.min()) <= int(pixels.max()) <= 255:
            raise error(
                "E0628",
                f"{name} has whole numbers from {pixels.min()} to {pixels.max()}; pixels are 0 to 255",
                exit_code=3,
                help="store other values as floats, which are taken as they are",
            )
        pixels = pixels.astype(np.uint8)
    size = (shape[1], shape[2])
    if pixels.shape[1] == shape[0] and plain(
        pixels.shape[2], pixels.shape[3], preprocess, size
    ):  # as for most data sets
        return pixels[:, ::-1] if preprocess.channels == "bgr" and shape[0] == 3 else pixels
    if len(pixels) and 0 in pixels.shape[1:]:
        height, width = pixels.shape[2:]
        raise error("E0628", f"{name} has pictures of {height} x {width} pixels", exit_code=3)
    from PIL import Image

    def picture(p: Pixels) -> Pixels:
        if len(p) in MODES and shape[0] in MODES:
            image = Image.fromarray(np.ascontiguousarray(p[0] if len(p) == 1 else p.transpose(1, 2, 0)))
            return fit(convert(image, shape[0]), preprocess, size)
        return np.concatenate([fit(Image.fromarray(np.ascontiguousarray(c)), preprocess, size) for c in p])

    fitted = [picture(p) for p in pixels]
    return np.stack(fitted) if fitted else np.zeros((0, *shape), np.uint8)
