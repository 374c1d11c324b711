"""Arrays, data sets and images: each with good files, a way to forge one of their fields, and another reader."""

from __future__ import annotations

import gzip
import io
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cnnc.data.arrays import read_arrays
from cnnc.data.binary import read_folder
from cnnc.data.dataset import Dataset
from cnnc.data.images import load_image
from cnnc.data.inputs import open_input
from cnnc.diagnostics import CnncError
from cnnc.frontend.inputs import Preprocess
from tests.malformed.fields import PYTHON_JUNK, change, damage, put, write_python
from tests.random_networks.reference import Mismatch

ZIP_END = ((4, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2))
ZIP_CENTRAL = tuple((at, 2) for at in (4, 6, 8, 10, 28, 30, 32, 34)) + tuple((at, 4) for at in (16, 20, 24, 38, 42))
ZIP_LOCAL = ((4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2))
RNG = np.random.default_rng(0)


def same(what: str, got: Any, want: Any) -> None:
    if got.shape != want.shape or not np.array_equal(got, want, equal_nan=got.dtype.kind == "f"):
        raise Mismatch(f"{what} is {got.dtype}{got.shape}, not {want.dtype}{want.shape}, or has other values")


@contextmanager
def refusing() -> Iterator[None]:
    """A later reader may refuse what an earlier one took, as data."""
    try:
        yield
    except CnncError as e:
        if e.exit_code not in (3, 5):
            raise


class Format:
    """A kind of file. `read` may raise `CnncError` alone; what it gives, `judge` compares with what is right and raises
    `Mismatch`.
    """

    name = ""
    seconds = 5.0  # of processor time that reading a file may take

    def forge(self, draw: random.Random, folder: Path) -> Path:
        raise NotImplementedError

    def read(self, path: Path) -> Any:
        raise NotImplementedError

    def judge(self, path: Path, found: Any) -> None:
        """Nothing is known of what is right, unless a format knows it."""


# ------------------------------------------------------------------------------------------------ arrays


def npy(array: Any, draw: random.Random | None = None) -> bytes:
    """A .npy file, forged where there is a `draw`."""
    stream = io.BytesIO()
    np.save(stream, array)
    data = stream.getvalue()
    if draw is None:
        return data
    length = struct.unpack_from("<H", data, 8)[0]
    if draw.random() < 0.7:
        tree = {"descr": array.dtype.str, "fortran_order": False, "shape": list(array.shape)}
        text = (write_python(change(tree, draw, PYTHON_JUNK)) + "\n").encode("utf-8", "surrogatepass")
        return data[:8] + struct.pack("<H", len(text) % 2**16) + text + data[10 + length :]
    if draw.random() < 0.5:
        return put(data, *draw.choice(((0, 1), (5, 1), (6, 1), (7, 1), (8, 2))), draw)
    return damage(data, draw)


ARRAYS = (
    RNG.integers(0, 256, (3, 6, 6), np.uint8),
    RNG.random((3, 1, 6, 6), np.float32),
    RNG.random((3, 1, 6, 6)).astype(">f8"),
    RNG.random((3, 6, 6)) < 0.5,
    RNG.integers(-9, 9, (2, 3)).astype(np.int16),
)


class Npy(Format):
    name = "npy"

    def forge(self, draw: random.Random, folder: Path) -> Path:
        path = folder / "x.npy"
        path.write_bytes(npy(draw.choice(ARRAYS), draw))
        return path

    def read(self, path: Path) -> Any:
        array = read_arrays(path)["x"]
        with refusing():
            given = open_input(path, Preprocess(resize=6), (1, 6, 6))
            given.take(0, given.count)
        return array

    def judge(self, path: Path, found: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers as Python 2 wrote them
            want = np.load(path, allow_pickle=False)
        same("the array", found, want != 0 if want.dtype.kind == "b" else want)


def archive(arrays: dict[str, Any], draw: random.Random) -> bytes:
    """A forged .npz file of arrays: an array, its name or packing, a field of the archive, or any byte."""
    chosen = draw.choice(list(arrays))
    stream, kind = io.BytesIO(), draw.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    how = draw.randrange(4)
    with zipfile.ZipFile(stream, "w", kind) as z:
        for name, array in arrays.items():
            forged = how == 0 and name == chosen
            member = "../" + name if how == 1 and name == chosen and draw.random() < 0.5 else name
            packing = draw.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)) if how == 1 and name == chosen else kind
            z.writestr(f"{member}.npy", npy(array, draw if forged else None), packing)
    data = stream.getvalue()
    if how == 2:
        mark, fields = draw.choice(((b"PK\5\6", ZIP_END), (b"PK\1\2", ZIP_CENTRAL), (b"PK\3\4", ZIP_LOCAL)))
        at = draw.choice([i for i in range(len(data) - 3) if data[i : i + 4] == mark])
        offset, size = draw.choice(fields)
        return put(data, at + offset, size, draw)
    return damage(data, draw) if how == 3 else data


class Npz(Format):
    name = "npz"

    def forge(self, draw: random.Random, folder: Path) -> Path:
        arrays = {
            "x_train": draw.choice((ARRAYS[0], ARRAYS[1])).repeat(4, 0),
            "y_train": np.arange(12) % 3,
            "x_test": ARRAYS[0],
            "y_test": np.array([0, 1, 2]),
        }
        path = folder / "d.npz"
        path.write_bytes(archive(arrays, draw))
        return path

    def read(self, path: Path) -> Any:
        arrays = read_arrays(path)
        with refusing():
            data = Dataset.open(path, Preprocess(), (1, 6, 6))
            data.check_labels(3)
            for x, y in data.batches(4, 0, 0):
                if x.shape != (len(y), 1, 6, 6):
                    raise Mismatch(f"a batch is {x.shape}")
        return arrays

    def judge(self, path: Path, found: Any) -> None:
        with np.load(path, allow_pickle=False) as other, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, array in found.items():
                same(name, array, other[name])


class Idx(Format):
    name = "idx"

    def forge(self, draw: random.Random, folder: Path) -> Path:
        def idx(array: Any) -> bytes:
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            return head + array.tobytes()

        packed = draw.random() < 0.5
        images, labels = ARRAYS[0].repeat(4, 0), (np.arange(12) % 3).astype(np.uint8)
        files = {f"{part}-images-idx3-ubyte": images for part in ("train", "t10k")}
        files |= {f"{part}-labels-idx1-ubyte": labels for part in ("train", "t10k")}
        chosen = draw.choice(list(files))
        for name, array in files.items():
            data = idx(array)
            if name == chosen:
                at = draw.choice(
                    ((0, 1), (1, 1), (2, 1), (3, 1), (4, 4), *([(8, 4), (12, 4)] if array.ndim == 3 else []))
                )
                data = put(data, *at, draw, ">") if draw.random() < 0.7 else damage(data, draw)
            data = gzip.compress(data, 1) if packed else data
            if name == chosen and packed and draw.random() < 0.2:
                data = damage(data, draw)
            (folder / (name + ".gz" * packed)).write_bytes(data)
        return folder

    def read(self, path: Path) -> Any:
        found = read_folder(path)
        Dataset.open(path, Preprocess(), (1, 6, 6)).check_labels(256)
        return {} if found is None else found.arrays

    def judge(self, path: Path, found: Any) -> None:
        for name, file in (
            (("x_train", "train-images-idx3-ubyte"), ("y_test", "t10k-labels-idx1-ubyte")) if found else ()
        ):
            plain = path / file
            data = plain.read_bytes() if plain.exists() else gzip.decompress((path / f"{file}.gz").read_bytes())
            kinds = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
            shape = struct.unpack_from(f">{data[3]}I", data, 4)
            same(name, found[name], np.frombuffer(data, kinds[data[2]], offset=4 + 4 * data[3]).reshape(shape))


class Cifar(Format):
    name = "cifar"

    def forge(self, draw: random.Random, folder: Path) -> Path:
        rows = RNG.integers(0, 256, (4, 3073), np.uint8)
        rows[:, 0] %= 10
        chosen = draw.choice(("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"))
        for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
            data = rows.tobytes()
            if name == chosen:
                data = put(data, 3073 * draw.randrange(4), 1, draw) if draw.random() < 0.4 else damage(data, draw)
            (folder / name).write_bytes(data)
        return folder

    def read(self, path: Path) -> Any:
        data = Dataset.open(path, Preprocess(), (3, 32, 32))
        data.check_labels(10)
        return data

    def judge(self, path: Path, found: Any) -> None:
        sizes = [(path / f"data_batch_{i}.bin").stat().st_size // 3073 for i in (1, 2)]
        if len(found.train) != sum(sizes):
            raise Mismatch(f"{len(found.train)} images of {sizes}")


# ------------------------------------------------------------------------------------------------ images


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(RNG.integers(0, 256, (9, 7, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {"exif": exif} if kind in ("PNG", "JPEG", "WEBP") else {}
    image.save(stream, kind, **options)
    return stream.getvalue()


FIELDS: dict[str, tuple[tuple[bytes, tuple[tuple[int, int], ...], str], ...]] = {
    "PNG": (
        (b"IHDR", ((-4, 4), (4, 4), (8, 4), (12, 1), (13, 1), (14, 1), (15, 1), (16, 1)), ">"),
        (b"IDAT", ((-4, 4), (4, 1), (5, 1)), ">"),
        (b"eXIf", ((-4, 4), (4, 2), (6, 2), (8, 4), (12, 2), (14, 2), (16, 2), (18, 4), (22, 2)), ">"),
    ),
    "JPEG": (
        (b"\xff\xc0", ((2, 2), (4, 1), (5, 2), (7, 2), (9, 1), (10, 1), (11, 1)), ">"),
        (b"Exif", ((-2, 2), (6, 2), (8, 2), (10, 4), (14, 2), (16, 2), (18, 2), (20, 4), (24, 2)), ">"),
        (b"\xff\xc4", ((2, 2), (4, 1), (5, 1), (6, 1)), ">"),
    ),
    "BMP": ((b"BM", ((2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (46, 4)), "<"),),
    "WEBP": ((b"RIFF", ((4, 4), (12, 4), (16, 4), (20, 4), (24, 4), (26, 2), (28, 2)), "<"),),
}


class Images(Format):
    name = "image"

    def __init__(self) -> None:
        self.good = {kind: picture(kind) for kind in FIELDS}

    def forge(self, draw: random.Random, folder: Path) -> Path:
        kind = draw.choice(list(FIELDS))
        data = self.good[kind]
        if draw.random() < 0.7:
            mark, fields, order = draw.choice([f for f in FIELDS[kind] if f[0] in data])
            at = data.index(mark)
            offset, size = draw.choice(fields)
            data = put(data, at + offset, size, draw, order)
            if kind == "PNG" and offset >= 0:  # with the sum that belongs to it
                (length,) = struct.unpack_from(">I", self.good[kind], at - 4)
                end = at + 4 + length
                data = data[:end] + struct.pack(">I", zlib.crc32(data[at:end])) + data[end + 4 :]
        else:
            data = damage(data, draw)
        path = folder / f"p.{draw.choice((kind.lower(), kind.lower(), 'png'))}"
        path.write_bytes(data)
        return path

    def read(self, path: Path) -> Any:
        return load_image(path, Preprocess(), (3, 6, 6))

    def judge(self, path: Path, found: Any) -> None:
        if found.shape != (3, 6, 6) or not ((found >= 0) & (found <= 1)).all():
            raise Mismatch(f"{found.shape}, {found.min()} to {found.max()}")
