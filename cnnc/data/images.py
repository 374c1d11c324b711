"""Image files to network inputs: PNG, JPEG, BMP and WebP, resized, cropped and normalized as the input's settings say.

An image becomes an input in two steps, so that training can augment in between: `decode` and `fit` give bytes [C, H,
W], `normalize` makes them float32. `load_image` is both.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.arrays import regular_file, unreadable
from cnnc.diagnostics import CnncError, error
from cnnc.files import escaped

if TYPE_CHECKING:
    from PIL.Image import Image

    from cnnc.frontend.inputs import Preprocess

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Shape = tuple[int, ...]  # of one image: (C, H, W)

SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
READ = "PNG, JPEG, BMP and WebP"
PIXEL_LIMIT = 1 << 26  # 8192 x 8192, unless LIMIT_NAME says otherwise
LIMIT_NAME = "CNNC_MAX_PIXELS"
NAMES_LIMIT = 1 << 20  # bytes of a file of label names
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
_ORIENTATION = 0x0112  # of Exif, 1 to 8
# What an Exif text that is malformed makes Pillow raise: such a picture is taken as upright, as other programs do.
_MALFORMED = (SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, OSError, struct.error)


def pixel_limit() -> int:
    """Pixels that an image may have: CNNC_MAX_PIXELS, or 2^26. Raises `CnncError` (E0622)."""
    given = os.environ.get(LIMIT_NAME, "").strip()
    if not given:
        return PIXEL_LIMIT
    if not given.isdecimal() or not 0 < (limit := int(given[:20])) < 1 << 40:
        raise error("E0622", f"{LIMIT_NAME} is '{given[:40]}'; it is a number of pixels, 1 to 2^40 - 1", exit_code=2)
    return limit


def decode(path: Path, channels: int) -> Image:
    """The picture in a file, upright, as 8-bit grey (1 channel), RGB (3) or RGBA (4).

    Transparent parts are laid on white unless the input has a fourth channel. Raises `CnncError` (E0620 to E0623).
    """
    if channels not in MODES:
        raise error(
            "E0623",
            f"{path}: the input has {channels} channels, an image has 1, 3 or 4",
            exit_code=3,
            help="give the input as a .npy or .npz file",
        )
    from PIL import Image, UnidentifiedImageError

    regular_file(path)
    limit = pixel_limit()
    if Image.MAX_IMAGE_PIXELS is not None and limit > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = limit  # who lets more in means Pillow's own limit too
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures: the limit below is ours
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > limit:
                    raise too_large(f"{escaped(path)} has {image.width} x {image.height} pixels", limit)
                image.load()
                return convert(_upright(image), channels)
    except CnncError:
        raise
    except Image.DecompressionBombError as e:
        raise too_large(f"{escaped(path)} has too many pixels", limit) from e
    except UnidentifiedImageError as e:
        raise error("E0621", f"{escaped(path)} is not an image that can be read", f"{READ} are", exit_code=3) from e
    except Exception as e:  # a damaged file raises whatever the decoder stumbles over
        raise error("E0621", f"{escaped(path)}: the image is damaged ({type(e).__name__}: {e})", exit_code=3) from e


def too_large(what: str, limit: int) -> CnncError:
    return error(
        "E0622",
        f"{what}, {limit} are the limit",
        help=f"make it smaller; or let it in, where there is the memory: {LIMIT_NAME}=1000000000",
        exit_code=3,
    )


def _upright(image: Image) -> Image:
    """The picture turned as its Exif text says."""
    from PIL.Image import Transpose as T

    turns = (T.FLIP_LEFT_RIGHT, T.ROTATE_180, T.FLIP_TOP_BOTTOM, T.TRANSPOSE, T.ROTATE_270, T.TRANSVERSE, T.ROTATE_90)
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except _MALFORMED:
        return image
    if not isinstance(orientation, int) or not 2 <= orientation <= 8:
        return image
    return image.transpose(turns[orientation - 2])


def convert(image: Image, channels: int) -> Image:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a sample: Pillow's own conversion would clip
        wide = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.clip(np.round(wide / 257), 0, 255).astype(np.uint8))
    if image.mode in ("PA", "LA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA" and channels != 4:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == MODES[channels] else image.convert(MODES[channels])


def fit(image: Image, preprocess: Preprocess, size: tuple[int, int]) -> Pixels:
    """Resize and center crop to `size` (height, width): uint8 [C, H, W].

    `resize` is the length of the shorter side, or (height, width); without it the picture is made just large enough.
    `crop` cuts the middle out; what is still larger than the input is cut as well. Bilinear, over the whole area when
    it shrinks, and with torchvision's rounding. Raises `CnncError` (E0623) where the settings leave a picture smaller
    than the input.
    """
    from PIL import Image

    width, height = image.size
    target, crop = resized(height, width, preprocess, size), _pair(preprocess.crop)
    top, left, bottom, right = _middle(target, *(c for c in (crop, size) if c is not None))
    if target == (height, width):
        pixels = np.asarray(image)[top:bottom, left:right]
    elif target[0] * target[1] <= PIXEL_LIMIT:
        pixels = np.asarray(image.resize(target[::-1], Image.Resampling.BILINEAR))[top:bottom, left:right]
    else:
        pixels = np.asarray(_window(image, target, (top, left, bottom, right)))
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.shape[:2] != size:
        raise error(
            "E0623",
            f"preprocessing gives {pixels.shape[1]} x {pixels.shape[0]} pixels, the input takes {size[1]} x {size[0]}",
            exit_code=3,
            help=f"set resize = {max(size)} in the input's settings, and crop no smaller",
        )
    return np.ascontiguousarray(_order(pixels, preprocess).transpose(2, 0, 1))


def _window(image: Image, target: tuple[int, int], window: tuple[int, int, int, int]) -> Image:
    """(top, left, bottom, right) of a picture resized to `target`, where all of that is too much to make: a strip that
    covers the input.
    """
    from PIL import Image

    spans = []
    for length, new, begin, end in zip((image.height, image.width), target, window[:2], window[2:], strict=True):
        scale = length / new
        first, last = begin * scale, min(end * scale, length)
        around = 2 * math.ceil(max(scale, 1))  # what the filter sees beside them
        low, high = max(0, math.floor(first) - around), min(length, math.ceil(last) + around)
        spans.append((low, high, first - low, last - low))
    (top, bottom, y0, y1), (left, right, x0, x1) = spans
    part = image.crop((left, top, right, bottom))
    size = (window[3] - window[1], window[2] - window[0])
    return part.resize(size, Image.Resampling.BILINEAR, box=(x0, y0, x1, y1))


def resized(height: int, width: int, preprocess: Preprocess, size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) that a picture is resized to, before anything is cut."""
    resize, crop = preprocess.resize, _pair(preprocess.crop)
    if isinstance(resize, int):
        return _shorter(height, width, resize)
    if resize is not None:
        return resize[0], resize[1]
    enough = crop is not None and height >= crop[0] and width >= crop[1]
    return (height, width) if enough else _cover(height, width, crop or size)


def plain(height: int, width: int, preprocess: Preprocess, size: tuple[int, int]) -> bool:
    """Whether a picture is neither resized nor cut."""
    given = (height, width)
    return given == size == (_pair(preprocess.crop) or size) == resized(height, width, preprocess, size)


def _order(pixels: Pixels, preprocess: Preprocess) -> Pixels:
    if preprocess.channels == "bgr" and pixels.shape[2] >= 3:
        return pixels[:, :, [2, 1, 0, *range(3, pixels.shape[2])]]
    return pixels


def _pair(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _shorter(height: int, width: int, length: int) -> tuple[int, int]:
    if height <= width:
        return length, max(1, length * width // height)
    return max(1, length * height // width), length


def _cover(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """The smallest size of the same proportions that covers `size`."""
    if size[0] * width >= size[1] * height:
        return size[0], max(size[1], round(width * size[0] / height))
    return max(size[0], round(height * size[1] / width)), size[1]


def _middle(size: tuple[int, int], *cuts: tuple[int, int]) -> tuple[int, int, int, int]:
    """Top, left, bottom and right of what is left when the middle is cut out, and of that the middle again."""
    top, left, (height, width) = 0, 0, size
    for cut in cuts:
        top += max(0, round((height - cut[0]) / 2))
        left += max(0, round((width - cut[1]) / 2))
        height, width = min(height, cut[0]), min(width, cut[1])
    return top, left, top + height, left + width


def normalize(pixels: NDArray[Any], preprocess: Preprocess) -> Floats:
    """Bytes [..., C, H, W] to float32: (pixel * scale - mean) / std by channel; scale is 1/255 unless it is set."""
    scale, mean, std = preprocess.scale, preprocess.mean, preprocess.std
    x = pixels.astype(np.float32)
    with np.errstate(over="ignore"):  # settings of an absurd size give infinities
        x = np.divide(x, np.float32(255), out=x) if scale is None else np.multiply(x, np.float32(scale), out=x)
        if mean is not None:
            x -= _per_channel(mean, x.shape[-3], "mean")
        if std is not None:
            x /= _per_channel(std, x.shape[-3], "std")
    return x


def _per_channel(values: float | Sequence[float], channels: int, name: str) -> Floats:
    v = np.asarray(values, np.float32).reshape(-1, 1, 1)
    if len(v) not in (1, channels):
        raise error("E0623", f"{name} has {len(v)} values, the input has {channels} channels", exit_code=3)
    return v


def image_shape(shape: Sequence[int | str], path: Path) -> tuple[int, int, int]:
    """(C, H, W) of an input that takes images. Raises `CnncError` (E0623)."""
    sizes = [d for d in shape if isinstance(d, int)]
    if len(sizes) != 3:
        raise error(
            "E0623",
            f"{path} is an image, the input is [{', '.join(map(str, shape))}]",
            exit_code=3,
            help="give the input as a .npy or .npz file",
        )
    return sizes[0], sizes[1], sizes[2]


def load_image(path: str | Path, preprocess: Preprocess, shape: Sequence[int | str]) -> Floats:
    """An image file as the network takes it: float32 [C, H, W]. Sizes that are left open, names in `shape`, are the
    picture's own. Raises `CnncError` (E0620 to E0623).
    """
    path = Path(path)
    channels, height, width = image_shape([1 if isinstance(d, str) else d for d in shape], path)
    picture = decode(path, channels)
    if any(isinstance(d, str) for d in shape):
        own = picture.size[::-1]
        whole = own if preprocess.resize is None else resized(*own, preprocess, own)
        whole = _pair(preprocess.crop) or whole
        height, width = (o if isinstance(d, str) else d for o, d in zip(whole, shape[1:], strict=True))
    return normalize(fit(picture, preprocess, (height, width)), preprocess)


def label_names(preprocess: Preprocess, model: str | Path) -> list[str] | None:
    """The label names of an input's `labels` file, which lies beside the model file: one a line. Raises `CnncError`
    (E0624).
    """
    if not preprocess.labels:
        return None
    folder = Path(model).parent
    path = folder / preprocess.labels
    if not path.resolve().is_relative_to(folder.resolve()):
        raise error("E0624", f"the labels file {preprocess.labels} lies outside the model's folder", exit_code=3)
    regular_file(path)
    try:
        if path.stat().st_size > NAMES_LIMIT:
            raise error("E0624", f"{path} is larger than {NAMES_LIMIT} bytes", exit_code=3)
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as e:
        raise error("E0624", f"{path} is not UTF-8 text", exit_code=3) from e
    except OSError as e:
        raise unreadable(path, e) from e
