"""`.npy`, `.npz` and binary data files, good and bad."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cnnc.data.arrays import read_arrays
from cnnc.data.binary import read_cifar, read_folder, read_idx
from cnnc.data.inputs import open_input
from cnnc.diagnostics import CnncError
from cnnc.frontend.inputs import Preprocess

RNG = np.random.default_rng(0)


def refused(path: Path) -> str:
    with pytest.raises(CnncError) as e:
        read_arrays(path)
    assert e.value.exit_code in (3, 5)
    return e.value.diagnostics[0].code


@pytest.mark.parametrize(
    "array",
    [
        RNG.random((3, 4, 5)),
        RNG.random((3, 4)).astype(">f4"),
        np.asfortranarray(RNG.random((4, 6, 2))),
        np.arange(5, dtype=np.uint8),
        np.array(3),
        np.zeros((0, 4)),
        np.array([True, False]),
    ],
)
def test_arrays_come_back(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "plain.npz", a=array)
    np.savez_compressed(tmp_path / "small.npz", a=array, b=array)
    for read in (
        read_arrays(tmp_path / "a.npy")["x"],
        read_arrays(tmp_path / "plain.npz")["a"],
        read_arrays(tmp_path / "small.npz")["b"],
    ):
        np.testing.assert_array_equal(read, array)
        assert read.dtype.isnative


def test_pickles_and_texts_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}, None]), allow_pickle=True)
    np.save(tmp_path / "b.npy", np.array(["text"]))
    np.save(tmp_path / "c.npy", np.zeros(2, [("a", "i4")]))
    np.save(tmp_path / "d.npy", np.zeros(2, np.complex64))
    (tmp_path / "e.npy").write_bytes(b"not an array")
    (tmp_path / "f.npz").write_bytes(b"not an archive")
    (tmp_path / "g.npy").write_bytes(b"")
    for name in ("a.npy", "b.npy", "c.npy", "d.npy", "e.npy", "f.npz", "g.npy"):
        assert refused(tmp_path / name) == "E0625", name


def header(shape: str, descr: str = "'<f8'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "shape",
    [
        *(
            "(1000000000000,)",
            "(1 << 62,)",
            "(99999, 99999, 99999, 99999)",
            "(-1,)",
            "(2, -3)",
            "10",
            "[3]",
            "(" * 2000,
        ),
        *(
            "(0, 10**30)",
            f"(0, {10**30})",
            f"({'1,' * 65})",
            "(True, 4)",
            "(0, 9223372036854775807, 3)",
            "(1.0,)",
            "('2',)",
        ),
        *(
            "(1, None)",
            "((1,),)",
            "{}",
            f"({'9' * 5000},)",
            "(0, 4294967296, 4294967296)",
            "(4,), 'shape': (5,), 'x': (6,)",
        ),
    ],
)
def test_headers_are_not_believed(tmp_path: Path, shape: str) -> None:
    data = header(shape) + b"\0" * 64
    (tmp_path / "a.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as z:
        z.writestr("x.npy", data)
    assert refused(tmp_path / "a.npy") in ("E0625", "E0626")
    assert refused(tmp_path / "a.npz") in ("E0625", "E0626")


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnc.data.arrays.memory_limit", lambda: 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1 << 18), y=np.zeros(3))
    assert refused(tmp_path / "a.npz") == "E0626"
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as z:
        for i in range(10_001):
            z.writestr(f"{i}.npy", b"")
    assert refused(tmp_path / "b.npz") == "E0626"


def test_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{"ü": np.arange(3)})
    path.write_bytes(path.read_bytes().replace("ü".encode(), b"\xff\xff", 1))
    assert refused(path) == "E0625"


def test_cut_and_changed_files(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=RNG.random((20, 20)), y=np.arange(20))
    whole, codes = stream.getvalue(), set()
    path = tmp_path / "a.npz"
    for i in range(200):
        data = bytearray(whole)
        if i % 2:
            data = data[: len(data) * i // 200]
        else:
            for at in RNG.integers(0, len(data), 3):
                data[at] = RNG.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            read_arrays(path)
        except CnncError as e:
            codes.add(e.exit_code)
    assert codes <= {3, 5}


def test_missing(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.npz") == "E0620"
    assert refused(tmp_path) == "E0620"


def idx(array: np.ndarray, code: int = 8) -> bytes:
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def test_idx(tmp_path: Path) -> None:
    x, y = RNG.integers(0, 256, (7, 5, 4), dtype=np.uint8), RNG.integers(0, 10, 7, dtype=np.uint8)
    for stem in ("train-images-idx3", "t10k-images-idx3"):
        (tmp_path / f"{stem}-ubyte.gz").write_bytes(gzip.compress(idx(x)))
    for stem in ("train-labels-idx1", "t10k-labels-idx1"):
        (tmp_path / f"{stem}-ubyte").write_bytes(idx(y))
    found = read_folder(tmp_path)
    assert found is not None
    arrays = found.arrays
    np.testing.assert_array_equal(arrays["x_train"], x)
    np.testing.assert_array_equal(arrays["y_test"], y)
    wide = np.array([[1, -2, 300]], ">i4")
    (tmp_path / "w").write_bytes(idx(wide, 12))
    np.testing.assert_array_equal(read_idx(tmp_path / "w"), wide)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\0\x08", idx(np.zeros((2, 2), np.uint8))[:-1], b"\0\0\x08\xff" + b"\xff" * 200, b"\0\0\x07\x01\0\0\0\0"],
)
def test_bad_idx(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b.gz").write_bytes(gzip.compress(data))
    (tmp_path / "c.gz").write_bytes(gzip.compress(data)[:-3])
    for name in ("a", "b.gz", "c.gz"):
        with pytest.raises(CnncError) as e:
            read_idx(tmp_path / name)
        assert e.value.diagnostics[0].code == "E0625"


def test_cifar(tmp_path: Path) -> None:
    x, y = RNG.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8), RNG.integers(0, 10, 6, dtype=np.uint8)
    rows = np.concatenate([y[:, None], x.reshape(6, -1)], axis=1)
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        (tmp_path / name).write_bytes(rows.tobytes())
    found = read_folder(tmp_path)
    assert found is not None
    arrays = found.arrays
    np.testing.assert_array_equal(arrays["x_train"], np.concatenate([x, x]))
    np.testing.assert_array_equal(arrays["y_test"], y)
    (tmp_path / "test_batch.bin").write_bytes(b"abc")
    with pytest.raises(CnncError):
        read_cifar(tmp_path / "test_batch.bin")


@pytest.mark.parametrize(
    "descr", ["3", "None", "'|O'", "'<f3'", "'f'", "'<f4,<f4'", "'<M8[s]'", "[('a', '<f4')]", "'<V8'", "''"]
)
def test_element_types_are_not_believed(tmp_path: Path, descr: str) -> None:
    (tmp_path / "a.npy").write_bytes(header("(2,)", descr) + bytes(64))
    assert refused(tmp_path / "a.npy") == "E0625"


def test_truth_values_are_0_or_1(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(header("(3,)", "'|b1'") + b"\0\1\7")
    assert read_arrays(tmp_path / "a.npy")["x"].astype(np.float32).tolist() == [0, 1, 1]


def test_headers_of_python_2(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(header("(2L, 1L)", "'<i2'") + bytes(4))
    assert read_arrays(tmp_path / "a.npy")["x"].shape == (2, 1)


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_numpy_does_not_write(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", kind) as z:
        z.writestr("x.npy", header("(2,)") + bytes(16))
    assert refused(path) == "E0625"
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(20)
    path.write_bytes(data)
    assert refused(path) == "E0625"


def test_members_that_lie_over_each_other(tmp_path: Path) -> None:
    """Two names for the bytes of one member, a name that comes twice, and a size that no such packing gives."""
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(1000), y=np.ones(1000))
    with zipfile.ZipFile(tmp_path / "a.npz") as z:
        x = z.infolist()[0].header_offset
    data = (tmp_path / "a.npz").read_bytes()
    central = data.rindex(b"PK\1\2")
    packed = int.from_bytes(data[central + 20 : central + 24], "little")
    forged = {
        "over": data[: central + 42] + struct.pack("<I", x) + data[central + 46 :],
        "dense": data[: central + 24] + struct.pack("<I", 2000 * packed) + data[central + 28 :],
        "twice": data.replace(b"y.npy", b"x.npy"),
        "encrypted": data[: central + 8] + b"\1" + data[central + 9 :],
    }
    for name, content in forged.items():
        (tmp_path / f"{name}.npz").write_bytes(content)
        assert refused(tmp_path / f"{name}.npz") == "E0625", name


@pytest.mark.parametrize(
    "head",
    [
        *(b"", b"\0\0", b"\0\0\x08", b"\0\0\x07\1\0\0\0\1", b"\1\0\x08\0", b"\0\0\x08\x46" + b"\0\0\0\1" * 70),
        *(
            b"\0\0\x0e\3" + b"\xff" * 12,
            b"\0\0\x08\1\0\0\0\3ab",
            b"\0\0\x08\1\0\0\0\1ab",
        ),
        b"\0\0\x0e\4" + b"\0" * 4 + b"\xff" * 12,
    ],
)
def test_idx_headers_are_not_believed(tmp_path: Path, head: bytes) -> None:
    (tmp_path / "a").write_bytes(head)
    (tmp_path / "a.gz").write_bytes(gzip.compress(head))
    for name in ("a", "a.gz"):
        with pytest.raises(CnncError) as e:
            read_idx(tmp_path / name)
        assert (e.value.exit_code, e.value.diagnostics[0].code) == (3, "E0625")


def test_idx_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\0\0\x08\2\0\0\0\0\0\0\0\x1c")
    assert read_idx(tmp_path / "a").shape == (0, 28)


@pytest.mark.parametrize("shape", [(3, 0, 6), (3, 6, 0), (2, 0, 0, 3)])
def test_pictures_without_pixels(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
    given = open_input(tmp_path / "a.npy", Preprocess(resize=6), (1, 6, 6))
    with pytest.raises(CnncError, match="E0628") as e:
        given.take(0, given.count)
    assert e.value.exit_code == 3


@pytest.mark.filterwarnings("error")
def test_what_float32_does_not_hold_is_infinite(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.full((2, 1, 6, 6), 1e300))
    given = open_input(tmp_path / "a.npy", Preprocess(resize=6), (1, 6, 6))
    assert np.isinf(given.take(0, 2)).all()
