"""Image files to network inputs."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from cnnc.data import images
from cnnc.data.dataset import Dataset
from cnnc.data.images import label_names, load_image
from cnnc.data.inputs import open_input
from cnnc.diagnostics import CnncError
from cnnc.frontend.inputs import Preprocess

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (8, 8), dtype=np.uint8)


def save(folder: Path, pixels: np.ndarray[Any, Any], name: str = "a.png", **options: Any) -> Path:
    Image.fromarray(pixels).save(folder / name, **options)
    return folder / name


def load_input(path: Path, preprocess: Preprocess, shape: tuple[int, ...]) -> tuple[list[str], np.ndarray[Any, Any]]:
    """All of the names and of the samples."""
    inputs = open_input(path, preprocess, shape)
    return [inputs.name(i) for i in range(inputs.count)], inputs.take(0, inputs.count)


def code(error: pytest.ExceptionInfo[CnncError]) -> str:
    assert error.value.exit_code == 3
    return error.value.diagnostics[0].code


def test_pixels_become_floats(tmp_path: Path) -> None:
    x = load_image(save(tmp_path, RGB), Preprocess(), (3, 40, 60))
    assert x.dtype == np.float32
    assert x.flags.c_contiguous
    np.testing.assert_array_equal(x, RGB.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def test_normalization(tmp_path: Path) -> None:
    p = Preprocess(scale=1.0, mean=(1.0, 2.0, 3.0), std=(2.0,))
    x = load_image(save(tmp_path, RGB), p, (3, 40, 60))
    np.testing.assert_allclose(x, (RGB.transpose(2, 0, 1) - np.array([1, 2, 3]).reshape(3, 1, 1)) / 2, rtol=1e-6)


def test_bgr(tmp_path: Path) -> None:
    x = load_image(save(tmp_path, RGB), Preprocess(channels="bgr", scale=1.0), (3, 40, 60))
    np.testing.assert_array_equal(x, RGB[:, :, ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(40, 60), (60, 40), (51, 51), (300, 20)])
def test_resize_and_crop_are_torchvisions(tmp_path: Path, size: tuple[int, int]) -> None:
    """Resize(24) and CenterCrop(17), written out as torchvision calculates them."""
    pixels = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    x = load_image(save(tmp_path, pixels), Preprocess(resize=24, crop=(17, 17), scale=1.0), (3, 17, 17))
    h, w = size
    nh, nw = (24, int(24 * w / h)) if h <= w else (int(24 * h / w), 24)
    resized = np.asarray(Image.fromarray(pixels).resize((nw, nh), Image.Resampling.BILINEAR))
    top, left = round((nh - 17) / 2.0), round((nw - 17) / 2.0)
    np.testing.assert_array_equal(x, resized[top : top + 17, left : left + 17].transpose(2, 0, 1))


@pytest.mark.parametrize("size", [(8, 8), (5, 9), (9, 5), (100, 30), (28, 28), (1, 1)])
def test_without_settings_an_image_covers_the_input(tmp_path: Path, size: tuple[int, int]) -> None:
    x = load_image(save(tmp_path, RNG.integers(0, 256, size, dtype=np.uint8)), Preprocess(), (1, 28, 28))
    assert x.shape == (1, 28, 28)


def test_resize_to_both_sides(tmp_path: Path) -> None:
    assert load_image(save(tmp_path, RGB), Preprocess(resize=(10, 20)), (3, 10, 20)).shape == (3, 10, 20)


def test_channels(tmp_path: Path) -> None:
    grey = load_image(save(tmp_path, GREY), Preprocess(scale=1.0), (3, 8, 8))
    np.testing.assert_array_equal(grey, np.stack([GREY] * 3))
    luma = load_image(save(tmp_path, RGB), Preprocess(scale=1.0), (1, 40, 60))
    np.testing.assert_allclose(luma[0], RGB @ np.array([0.299, 0.587, 0.114]), atol=1)


def test_transparency_is_laid_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, :, 3] = 255
    path = save(tmp_path, pixels)
    x = load_image(path, Preprocess(scale=1.0), (3, 2, 2))
    assert x[:, 0].tolist() == [[0, 0]] * 3
    assert x[:, 1].tolist() == [[255, 255]] * 3
    assert load_image(path, Preprocess(scale=1.0), (4, 2, 2))[3].tolist() == [[255, 255], [0, 0]]


def test_palettes_bits_and_wide_samples(tmp_path: Path) -> None:
    palette = Image.fromarray(RGB).quantize(16)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(
        load_image(tmp_path / "p.png", Preprocess(scale=1.0), (3, 40, 60)),
        np.asarray(palette.convert("RGB")).transpose(2, 0, 1),
    )
    Image.fromarray(GREY > 100).save(tmp_path / "b.png")
    np.testing.assert_array_equal(load_image(tmp_path / "b.png", Preprocess(), (1, 8, 8))[0], GREY > 100)
    wide = GREY.astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "w.png")
    np.testing.assert_array_equal(load_image(tmp_path / "w.png", Preprocess(scale=1.0), (1, 8, 8))[0], GREY)


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown after a quarter turn
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    assert load_image(tmp_path / "a.png", Preprocess(), (3, 60, 40)).shape == (3, 60, 40)


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp", "a.webp", "a.png"])
def test_formats(tmp_path: Path, name: str) -> None:
    assert load_image(save(tmp_path, RGB, name), Preprocess(), (3, 40, 60)).shape == (3, 40, 60)


def test_other_formats_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.gif")
    os.rename(tmp_path / "a.gif", tmp_path / "a.png")
    with pytest.raises(CnncError) as e:
        load_image(tmp_path / "a.png", Preprocess(), (3, 40, 60))
    assert code(e) == "E0621"


def test_too_many_pixels(tmp_path: Path) -> None:
    """The header alone is believed: nothing is decoded."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    for side in (9000, 40_000):
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        path = tmp_path / f"{side}.png"
        chunks = chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"\0" * 100)), chunk(b"IEND", b"")
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
        with pytest.raises(CnncError) as e:
            load_image(path, Preprocess(), (3, 40, 60))
        assert code(e) == "E0622"


@pytest.mark.parametrize("name", ["a.jpg", "a.bmp", "a.webp", "a.png"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    """Cut at many places and with bytes changed: an image or a diagnostic, never anything else."""
    whole = save(tmp_path, RGB, name).read_bytes()
    refused = []
    for i in range(60):
        if i % 2:
            data = whole[: len(whole) * i // 60]
        else:
            changed = bytearray(whole)
            for at in RNG.integers(0, min(len(whole), 200), 4):
                changed[at] = RNG.integers(0, 256)
            data = bytes(changed)
        (tmp_path / name).write_bytes(data)
        try:
            assert load_image(tmp_path / name, Preprocess(), (3, 40, 60)).shape == (3, 40, 60)
        except CnncError as e:
            refused.append((e.exit_code, e.diagnostics[0].code))
    assert set(refused) <= {(3, "E0621"), (3, "E0622")}
    assert len(refused) > 10


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "none.png", tmp_path / "pipe.png", Path("/dev/zero"), Path("a\0b.png")):
        with pytest.raises(CnncError) as e:
            load_image(path, Preprocess(), (3, 40, 60))
        assert code(e) == "E0620"


def test_what_does_not_fit(tmp_path: Path) -> None:
    path = save(tmp_path, RGB)
    cases = [
        ((2, 8, 8), Preprocess()),
        ((10,), Preprocess()),
        ((3, 40, 40), Preprocess(resize=20)),
        ((3, 40, 60), Preprocess(mean=(0.5, 0.5))),
    ]
    for shape, preprocess in cases:
        with pytest.raises(CnncError) as e:
            load_image(path, preprocess, shape)
        assert code(e) == "E0623"


@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1), (1, 5000), (2, 40_000)])
@pytest.mark.parametrize("settings", [Preprocess(), Preprocess(resize=60_000), Preprocess(resize=300, crop=(28, 28))])
def test_strips_are_let_in(tmp_path: Path, size: tuple[int, int], settings: Preprocess) -> None:
    pixels = RNG.integers(0, 256, size, dtype=np.uint8)
    x = load_image(save(tmp_path, pixels), settings, (1, 28, 28))
    assert x.shape == (1, 28, 28)
    y, z = (s // 2 for s in size)
    near = pixels[max(y - 20, 0) : y + 20, max(z - 20, 0) : z + 20] / 255
    assert near.min() - 0.01 <= x.min() <= x.max() <= near.max() + 0.01


@pytest.mark.parametrize("settings", [Preprocess(resize=97), Preprocess(resize=(200, 30)), Preprocess(resize=64)])
def test_a_window_is_the_window_of_the_whole(
    tmp_path: Path, settings: Preprocess, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path, RGB)
    whole = load_image(path, settings, (3, 28, 28))
    monkeypatch.setattr(images, "PIXEL_LIMIT", 1000)
    monkeypatch.setenv("CNNC_MAX_PIXELS", "10000")
    np.testing.assert_allclose(load_image(path, settings, (3, 28, 28)), whole, atol=1.01 / 255)


def test_the_pixel_limit_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, RGB)
    for limit, expected in (("2399", "E0622"), ("2400", None), ("", None), ("many", "E0622"), ("0", "E0622")):
        monkeypatch.setenv("CNNC_MAX_PIXELS", limit)
        if expected is None:
            load_image(path, Preprocess(), (3, 28, 28))
            continue
        with pytest.raises(CnncError, match="CNNC_MAX_PIXELS") as e:
            load_image(path, Preprocess(), (3, 28, 28))
        assert e.value.diagnostics[0].code == expected


def test_pillows_limit_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = save(tmp_path, RGB)
    monkeypatch.setenv("CNNC_MAX_PIXELS", "10000")
    assert load_image(path, Preprocess(), (3, 28, 28)).shape == (3, 28, 28)


def test_folder_of_images(tmp_path: Path) -> None:
    for name in ("b.png", "a.PNG", ".hidden.png", "c.txt"):
        (tmp_path / name).write_bytes(save(tmp_path, GREY, "x.png").read_bytes())
    (tmp_path / "x.png").unlink()
    names, x = load_input(tmp_path, Preprocess(), (1, 8, 8))
    assert names == ["a.PNG", "b.png"]
    assert x.shape == (2, 1, 8, 8)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CnncError) as e:
        load_input(tmp_path / "empty", Preprocess(), (1, 8, 8))
    assert code(e) == "E0630"


def test_arrays_as_input(tmp_path: Path) -> None:
    floats = RNG.random((5, 3, 4, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", floats)
    names, x = load_input(tmp_path / "a.npy", Preprocess(mean=(9.0,)), (3, 4, 4))
    np.testing.assert_array_equal(x, floats)
    assert names[4] == "a.npy[4]"
    np.savez(tmp_path / "b.npz", x=floats[0], y=1)
    assert load_input(tmp_path / "b.npz", Preprocess(), (3, 4, 4))[1].shape == (1, 3, 4, 4)
    np.savez(tmp_path / "c.npz", p=floats, q=floats)
    with pytest.raises(CnncError) as e:
        load_input(tmp_path / "c.npz", Preprocess(), (3, 4, 4))
    assert code(e) == "E0627"
    with pytest.raises(CnncError) as e:
        load_input(tmp_path / "a.npy", Preprocess(), (3, 5, 5))
    assert code(e) == "E0628"


SETTINGS = [
    (Preprocess(), (16, 16)),
    (Preprocess(), (64, 32)),
    (Preprocess(), (32, 64)),
    (Preprocess(resize=64), (64, 32)),
    (Preprocess(resize=64), (32, 64)),
    (Preprocess(resize=32), (32, 32)),
    (Preprocess(resize=(64, 32)), (64, 32)),
    (Preprocess(resize=(32, 64)), (32, 32)),
    (Preprocess(crop=(32, 32)), (32, 32)),
    (Preprocess(resize=20, mean=(0.5,), std=(0.25,)), (16, 16)),
    (Preprocess(resize=(30, 19), crop=(17, 18)), (16, 16)),
    (Preprocess(resize=64, crop=(32, 32)), (32, 32)),
]


@pytest.mark.parametrize("size", [(64, 32), (32, 64), (32, 32), (16, 16), (70, 33), (5, 90)])
@pytest.mark.parametrize(("preprocess", "wanted"), SETTINGS)
def test_a_picture_is_the_same_as_a_file_and_in_an_array(
    tmp_path: Path, preprocess: Preprocess, wanted: tuple[int, int], size: tuple[int, int]
) -> None:
    """Whatever its form and its channels, for `cnnc run` and for a data set."""
    rgb = RNG.integers(0, 256, (*size, 3), dtype=np.uint8)
    rgba = RNG.integers(0, 256, (*size, 4), dtype=np.uint8)
    grey = RNG.integers(0, 256, size, dtype=np.uint8)
    forms = {
        "rgb": (rgb, [rgb, rgb[None], rgb.transpose(2, 0, 1)[None], rgb.astype(np.int64)[None], np.stack([rgb, rgb])]),
        "rgba": (rgba, [rgba, rgba[None], rgba.transpose(2, 0, 1)[None]]),
        "grey": (grey, [grey, grey[None, :, :, None], grey[None, None], np.stack([grey, grey])[:, None]]),
    }
    for channels, (picture, arrays) in [(c, f) for c in (1, 3, 4) for f in forms.values()]:
        shape = (channels, *wanted)
        expected = load_image(save(tmp_path, picture), preprocess, shape)
        more = {1: [grey[None], np.stack([grey, grey])], 3: [rgb.transpose(2, 0, 1)], 4: [rgba.transpose(2, 0, 1)]}
        native = {1: grey, 3: rgb, 4: rgba}[channels] is picture
        for array in [*arrays, *(more[channels] if native else [])]:
            np.save(tmp_path / "a.npy", array)
            found = load_input(tmp_path / "a.npy", preprocess, shape)[1]
            np.testing.assert_array_equal(found[0], expected, err_msg=f"{channels} of {array.shape}")
            np.testing.assert_array_equal(found[-1], expected)
            if array.ndim == 4:
                data = Dataset.from_arrays(
                    array, np.zeros(len(array), int), preprocess=preprocess, shape=shape, hold_out=False
                )
                np.testing.assert_array_equal(next(data.batches(1, 0, 0))[0][0], expected)


def test_floats_have_the_inputs_shape(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", RNG.random((2, 9, 9, 3)))
    with pytest.raises(CnncError, match="floats are taken as they are") as e:
        load_input(tmp_path / "a.npy", Preprocess(), (3, 9, 9))
    assert code(e) == "E0628"


def test_label_names(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n", encoding="utf-8")
    model = tmp_path / "m.cnn"
    assert label_names(Preprocess(), model) is None
    assert label_names(Preprocess(labels="names.txt"), model) == ["cat", "dog"]
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\x80")
    for name, expected in (
        ("../names.txt", "E0624"),
        ("/etc/passwd", "E0624"),
        ("bad.txt", "E0624"),
        ("none.txt", "E0620"),
    ):
        with pytest.raises(CnncError) as e:
            label_names(Preprocess(labels=name), model)
        assert code(e) == expected


def test_large_side_limit_is_consistent() -> None:
    assert images.PIXEL_LIMIT < 89_478_485, "Pillow's own limit comes after ours"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["a.png", "a.jpg", "a.webp"])
def test_pictures_are_turned_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "a.webp" else {"quality": 100} if kind == "a.jpg" else {}
    path = save(tmp_path, RGB, kind, exif=exif, **options)
    size = (40, 60) if orientation < 5 else (60, 40)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image)).transpose(2, 0, 1)
    np.testing.assert_array_equal(load_image(path, Preprocess(scale=1.0), (3, *size)), expected)


@pytest.mark.parametrize(
    "text",
    [
        "\nexif\n     10\nnot hexadecimal",
        "\nexif\n",
        "",
        "\nexif\n      8\n4578696600004d4d",
        "\nexif\n     30\n45786966000049492a0008000000ffff",
        "\nexif\n     32\n4578696600004d4d002a00000008000101120002000000ff7fffffff",
    ],
)
def test_malformed_exif_is_taken_as_upright(tmp_path: Path, text: str) -> None:
    info = PngInfo()
    info.add_text("Raw profile type exif", text)
    path = save(tmp_path, RGB, pnginfo=info)
    x = load_image(path, Preprocess(scale=1.0), (3, 40, 60))
    np.testing.assert_array_equal(x, RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xff" * 40, b"x"])
@pytest.mark.parametrize("kind", ["a.png", "a.jpg", "a.webp"])
def test_malformed_exif_bytes(tmp_path: Path, exif: bytes, kind: str) -> None:
    path = save(tmp_path, RGB, kind, exif=exif)
    assert load_image(path, Preprocess(), (3, 40, 60)).shape == (3, 40, 60)
