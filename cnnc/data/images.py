"""Image files to network inputs: PNG, JPEG, BMP and WebP, resized, cropped and normalized as the input's settings say.

An image becomes an input in two steps, so that training can augment in between: `decode` and `fit` give bytes [C, H,
W], `normalize` makes them float32. `load_image` is both.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.arrays import INPUT_NAMES, read_arrays, regular_file, unreadable
from cnnc.diagnostics import CnncError, error

if TYPE_CHECKING:
    from PIL.Image import Image

    from cnnc.frontend.inputs import Preprocess

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Shape = tuple[int, ...]  # of one image: (C, H, W)

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
PIXEL_LIMIT = 1 << 26  # 8192 x 8192
NAMES_LIMIT = 1 << 20  # bytes of a file of label names
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def decode(path: Path, channels: int) -> Image:
    """The picture in a file, upright, as 8-bit grey (1 channel), RGB (3) or RGBA (4).

    Transparent parts are laid on white unless the input has a fourth channel. Raises `CnncError` (E0620 to E0623).
    """
    if channels not in _MODES:
        raise error(
            "E0623",
            f"{path}: the input has {channels} channels, an image has 1, 3 or 4",
            exit_code=3,
            help="give the input as a .npy or .npz file",
        )
    from PIL import Image, ImageOps, UnidentifiedImageError

    regular_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures: the limit below is ours
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > PIXEL_LIMIT:
                    raise error(
                        "E0622", f"{path}: {width} x {height} pixels, the limit is {PIXEL_LIMIT} in all", exit_code=3
                    )
                image.load()
                return _convert(ImageOps.exif_transpose(image), channels)
    except CnncError:
        raise
    except Image.DecompressionBombError as e:
        raise error("E0622", f"{path}: too many pixels, the limit is {PIXEL_LIMIT}", exit_code=3) from e
    except UnidentifiedImageError as e:
        raise error(
            "E0621", f"{path} is not an image that can be read", "PNG, JPEG, BMP and WebP are", exit_code=3
        ) from e
    except Exception as e:  # a damaged file raises whatever the decoder stumbles over
        raise error("E0621", f"{path}: the image is damaged ({type(e).__name__}: {e})", exit_code=3) from e


def _convert(image: Image, channels: int) -> Image:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":  # 16 bits a sample: Pillow's own conversion would clip
        wide = np.asarray(image).astype(np.float64)
        image = Image.fromarray(np.clip(np.round(wide / 257), 0, 255).astype(np.uint8))
    if image.mode in ("PA", "LA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode == "RGBA" and channels != 4:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == _MODES[channels] else image.convert(_MODES[channels])


def fit(image: Image, preprocess: Preprocess, size: tuple[int, int]) -> Pixels:
    """Resize and center crop to `size` (height, width): uint8 [C, H, W].

    `resize` is the length of the shorter side, or (height, width); without it the picture is made just large enough.
    `crop` cuts the middle out; what is still larger than the input is cut as well. Bilinear, over the whole area when
    it shrinks, and with torchvision's rounding. Raises `CnncError` (E0623) where the settings leave a picture smaller
    than the input.
    """
    from PIL import Image

    width, height = image.size
    target, crop = _target(height, width, preprocess, size), _pair(preprocess.crop)
    if target != (height, width):
        image = image.resize((target[1], target[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    for cut in (crop, size):
        if cut is not None:
            pixels = _center(pixels, cut)
    if pixels.shape[:2] != size:
        raise error(
            "E0623",
            f"preprocessing gives {pixels.shape[1]} x {pixels.shape[0]} pixels, the input takes {size[1]} x {size[0]}",
            exit_code=3,
            help=f"set resize = {max(size)} in the input's settings, and crop no smaller",
        )
    return np.ascontiguousarray(_order(pixels, preprocess).transpose(2, 0, 1))


def _target(height: int, width: int, preprocess: Preprocess, size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) that a picture is resized to, before anything is cut. Raises `CnncError` (E0622)."""
    resize, crop = preprocess.resize, _pair(preprocess.crop)
    if isinstance(resize, int):
        target = _shorter(height, width, resize)
    elif resize is not None:
        target = (resize[0], resize[1])
    else:
        least = crop or size
        target = (height, width) if crop and height >= crop[0] and width >= crop[1] else _cover(height, width, least)
    if max(target) > 1 << 16 or target[0] * target[1] > PIXEL_LIMIT:
        raise error(
            "E0622", f"an image of {width} x {height} pixels becomes {target[1]} x {target[0]}, too many", exit_code=3
        )
    return target


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


def _center(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    top, left = (max(0, round((have - want) / 2)) for have, want in zip(pixels.shape, size, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]


def normalize(pixels: NDArray[Any], preprocess: Preprocess) -> Floats:
    """Bytes [..., C, H, W] to float32: (pixel * scale - mean) / std by channel; scale is 1/255 unless it is set."""
    scale, mean, std = preprocess.scale, preprocess.mean, preprocess.std
    x = pixels.astype(np.float32)
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


def load_image(path: str | Path, preprocess: Preprocess, shape: Sequence[int]) -> Floats:
    """An image file as the network takes it: float32 [C, H, W]. Raises `CnncError` (E0620 to E0623)."""
    path = Path(path)
    channels, height, width = image_shape(shape, path)
    return normalize(fit(decode(path, channels), preprocess, (height, width)), preprocess)


def image_files(folder: Path) -> list[Path]:
    """The images right in a folder, by name; hidden files are passed over."""
    try:
        return sorted(
            (
                p
                for p in folder.iterdir()
                if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
            ),
            key=lambda p: p.name,
        )
    except OSError as e:
        raise unreadable(folder, e) from e


def load_images(path: str | Path, preprocess: Preprocess, shape: Sequence[int]) -> tuple[list[str], Floats]:
    """An image, or the images of a folder: their names and float32 [n, C, H, W]. Raises `CnncError` (E0620 to E0623,
    E0630).
    """
    path = Path(path)
    files = image_files(path) if path.is_dir() else [path]
    if not files:
        raise error("E0630", f"{path} has no images", f"files that end in {', '.join(SUFFIXES)} are read", exit_code=3)
    return [f.name for f in files], np.stack([load_image(f, preprocess, shape) for f in files])


def load_input(path: str | Path, preprocess: Preprocess, shape: Sequence[int]) -> tuple[list[str], NDArray[Any]]:
    """What `cnnc run --input` takes: an image, a folder of them, a .npy, or a .npz of one array (or of one named x,
    images or x_test).

    Gives names, one an image, and float32 [n, *shape]. Bytes in an array file are pixels, and are preprocessed as
    images are; floats are taken as they are. Raises `CnncError` (E0620 to E0630).
    """
    path = Path(path)
    if path.suffix.lower() not in (".npy", ".npz"):
        return load_images(path, preprocess, shape)
    arrays = read_arrays(path)
    name = next((n for n in INPUT_NAMES if n in arrays), None) or (next(iter(arrays)) if len(arrays) == 1 else None)
    if name is None:
        raise error(
            "E0627",
            f"{path} holds the arrays {', '.join(sorted(arrays)[:8])}",
            exit_code=3,
            help=f"name the one to run {INPUT_NAMES[0]}",
        )
    x = as_inputs(arrays[name], preprocess, tuple(shape), f"{path}: {name}")
    return [f"{path.name}[{i}]" for i in range(len(x))], x


def as_pixels(array: NDArray[Any], preprocess: Preprocess, shape: Shape, name: str) -> NDArray[Any]:
    """Images in an array as the network takes them, [n, C, H, W]. Bytes, and whole numbers of 0 to 255, are pixels and
    become the input as a file does (`pictures` says in which forms); floats are taken as they are, and have the
    input's shape, with or without the batch. Raises `CnncError` (E0628).
    """
    found = rows(array, shape, name)
    if is_pixels(array, shape):
        return fit_all(found, preprocess, shape, name)
    return found.copy() if np.may_share_memory(found, array) else found


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
    if array.shape[1:] != shape and shape[0] == 1 and array.shape[1:] == shape[1:]:
        array = array[:, None]
    if array.shape[1:] != shape:
        notes = ("floats are taken as they are; bytes are pixels, and are resized",) if len(shape) == 3 else ()
        raise error("E0628", _shapes(array, shape, name), *notes, exit_code=3)
    return array if array.dtype == np.uint8 else array.astype(np.float32, copy=False)


def _shapes(array: NDArray[Any], shape: Shape, name: str) -> str:
    return f"{name} is {list(array.shape)}, the input takes [N, {', '.join(map(str, shape))}]"


def as_inputs(array: NDArray[Any], preprocess: Preprocess, shape: Shape, name: str) -> Floats:
    """`as_pixels`, normalized where they are bytes: float32 [n, C, H, W]."""
    x = as_pixels(array, preprocess, shape, name)
    if x.dtype == np.uint8:
        return normalize(x, preprocess) if len(shape) == 3 else x.astype(np.float32)
    return np.ascontiguousarray(x, np.float32)


def _pictures(array: NDArray[Any], shape: Shape, name: str) -> NDArray[Any]:
    """Pixels as [n, channels, height, width]. They are given as that, or as [n, height, width, channels], or as [n,
    height, width] for an input of one channel; or one picture, without the n. What has the input's own shape is taken
    for that; else channels are looked for at the end, then in front.
    """
    channels, counts = shape[0], (shape[0], *(c for c in _MODES if c != shape[0] and shape[0] in _MODES))
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
    given, size = pixels.shape[2:], (shape[1], shape[2])
    crop = _pair(preprocess.crop)
    if (
        pixels.shape[1] == shape[0]
        and given == size == (crop or size)
        and _target(*given, preprocess, size) == given  # nothing to be done, as for most data sets
    ):
        return pixels[:, ::-1] if preprocess.channels == "bgr" and shape[0] == 3 else pixels
    from PIL import Image

    def picture(p: Pixels) -> Pixels:
        if len(p) in _MODES and shape[0] in _MODES:
            image = Image.fromarray(np.ascontiguousarray(p[0] if len(p) == 1 else p.transpose(1, 2, 0)))
            return fit(_convert(image, shape[0]), preprocess, size)
        return np.concatenate([fit(Image.fromarray(np.ascontiguousarray(c)), preprocess, size) for c in p])

    fitted = [picture(p) for p in pixels]
    return np.stack(fitted) if fitted else np.zeros((0, *shape), np.uint8)


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
