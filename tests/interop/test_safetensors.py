"""Reading and writing safetensors files: what is written is what is read, and nothing in a file is believed."""

from __future__ import annotations

import json
import pickle
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc.diagnostics import CnncError
from cnnc.interop.safetensors import DTYPES, HEADER_LIMIT, open_file, write_file

RAW = {
    "a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "b": {"dtype": "F32", "shape": [1], "data_offsets": [16, 20]},
}


def file_of(path: Path, header: Any, data: int = 20, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + bytes(data))
    return path


def code(path: Path) -> str:
    with pytest.raises(CnncError) as e:
        open_file(path)
    assert e.value.exit_code == 3
    return e.value.diagnostics[0].code


def test_round_trip(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    tensors: dict[str, Any] = {
        "w": generator.standard_normal((3, 4)).astype(np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "scalar": np.float32(2.5).reshape(()),
        "i": np.arange(5),
        "half": np.ones((2, 1), np.float16),
        "flag": np.array([True]),
    }
    write_file(tmp_path / "t.safetensors", tensors, {"key": "wert ü"})
    file = open_file(tmp_path / "t.safetensors")
    assert list(file.entries) == list(tensors)
    assert file.metadata == {"key": "wert ü"}
    library = safetensors.numpy.load_file(tmp_path / "t.safetensors")
    for name, value in tensors.items():
        for found in (file.read(name), library[name]):
            np.testing.assert_array_equal(found, value)
            assert found.shape == value.shape
    assert list(tmp_path.iterdir()) == [tmp_path / "t.safetensors"]


@pytest.mark.parametrize("strange", ["fortran", "strided", "reversed", "big-endian", "read-only"])
def test_strange_arrays_are_stored_as_what_they_hold(tmp_path: Path, strange: str) -> None:
    a = np.arange(24, dtype=np.float32).reshape(4, 6)
    given: Any = {
        "fortran": np.asfortranarray(a),
        "strided": a[::2, 1::2],
        "reversed": a[::-1],
        "big-endian": a.astype(">f4"),
        "read-only": a,
    }[strange]
    given.flags.writeable = strange != "read-only"
    write_file(tmp_path / "t.safetensors", {"a": given})
    np.testing.assert_array_equal(open_file(tmp_path / "t.safetensors").read("a"), given)


def test_what_the_library_writes(tmp_path: Path) -> None:
    tensors = {"b": np.arange(6, dtype=np.float64).reshape(2, 3), "a": np.arange(3, dtype=np.int8)}
    safetensors.numpy.save_file(tensors, tmp_path / "t.safetensors", {"format": "np"})
    file = open_file(tmp_path / "t.safetensors")
    for name, value in tensors.items():
        np.testing.assert_array_equal(file.read(name), value)


def test_bfloat16(tmp_path: Path) -> None:
    header = {"a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}
    path = file_of(tmp_path / "t.safetensors", header, 0)
    bits = np.array([0x3F80, 0xC020, 0x7F80], "<u2")
    path.write_bytes(path.read_bytes() + bits.tobytes())
    np.testing.assert_array_equal(open_file(path).read("a"), np.array([1, -2.5, np.inf], np.float32))


@pytest.mark.parametrize("length", [0x180, 0x280, 0x380, 0x480, 0x580])
def test_a_header_is_not_taken_for_a_pickle(tmp_path: Path, length: int) -> None:
    """The header's length of these files has the first bytes of a pickle."""
    header = json.dumps({"a": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).ljust(length).encode()
    assert open_file(file_of(tmp_path / "t.safetensors", header, 4)).read("a").shape == (4,)


def test_complex_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CnncError, match="E0613"):
        write_file(tmp_path / "t.safetensors", {"a": np.ones(3, np.complex64)})
    assert list(tmp_path.iterdir()) == []
    path = file_of(tmp_path / "c.safetensors", {"a": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}}, 8)
    with pytest.raises(CnncError, match="E0613"):
        open_file(path).read("a")


def changed(name: str, **fields: Any) -> dict[str, Any]:
    return {**RAW, name: {**RAW[name], **fields}}


HOSTILE: dict[str, Any] = {
    "overlap": changed("b", data_offsets=[12, 16]),
    "gap": changed("b", data_offsets=[17, 20], dtype="U8", shape=[3]),
    "beyond": changed("b", data_offsets=[16, 24], shape=[2]),
    "backwards": changed("b", data_offsets=[20, 16]),
    "negative": changed("b", data_offsets=[-4, 0]),
    "wrong size": changed("a", shape=[2, 3]),
    "huge": changed("a", shape=[2**62, 2**62]),
    "zero times huge": changed("a", shape=[0, 2**62]),
    "negative shape": changed("a", shape=[-2, -2]),
    "float shape": changed("a", shape=[2.0, 2]),
    "true shape": changed("b", shape=[True]),
    "rank": changed("b", shape=[1] * 100),
    "dtype": changed("a", dtype="F33"),
    "dtype list": changed("a", dtype=["F32"]),
    "extra key": changed("a", code="import os"),
    "no offsets": {"a": {"dtype": "F32", "shape": []}},
    "three offsets": changed("b", data_offsets=[16, 18, 20]),
    "unused bytes": {"a": RAW["a"]},
    "list": [1, 2],
    "number": 7,
    "text": b"not json at all",
    "not utf8": b"\xff\xfe{}",
    "deep": b"[" * 100_000,
    "digits": b'{"a": ' + b"9" * 10_000 + b"}",
    "nan": b'{"a": NaN}',
    "twice": b'{"a": 1, "a": 2}',
    "metadata": {**RAW, "__metadata__": {"a": 1}},
    "metadata list": {**RAW, "__metadata__": ["a"]},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_headers(tmp_path: Path, case: str) -> None:
    assert code(file_of(tmp_path / "t.safetensors", HOSTILE[case])) == "E0610"


@pytest.mark.parametrize("length", [0, 1, 10**6, HEADER_LIMIT + 1, 2**63, 2**64 - 1])
def test_header_lengths(tmp_path: Path, length: int) -> None:
    assert code(file_of(tmp_path / "t.safetensors", RAW, length=length)) == "E0610"


@pytest.mark.parametrize("size", range(0, 60, 7))
def test_truncated(tmp_path: Path, size: int) -> None:
    path = file_of(tmp_path / "t.safetensors", RAW)
    path.write_bytes(path.read_bytes()[:size])
    assert code(path) == "E0610"


def test_pickles_are_refused_with_the_line_that_converts_them(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(pickle.dumps({"a": 1}))
    with zipfile.ZipFile(tmp_path / "w.anything", "w") as z:
        z.writestr("data.pkl", b"")
    (tmp_path / "w.pth").write_bytes(b"\0" * 100)
    for name in ("w.bin", "w.anything", "w.pth"):
        with pytest.raises(CnncError, match="E0612") as e:
            open_file(tmp_path / name)
        help = e.value.diagnostics[0].help or ""
        assert "weights_only=True" in help
        assert "w.safetensors" in help
        assert "\n" not in help


def test_unreadable(tmp_path: Path) -> None:
    assert code(tmp_path / "none.safetensors") == "E0601"
    assert code(tmp_path) == "E0601"
    assert code(Path("/dev/zero")) == "E0601"
    assert code(tmp_path / "nul\0byte") == "E0601"


def test_unwritable(tmp_path: Path) -> None:
    with pytest.raises(CnncError, match="does not exist"):
        write_file(tmp_path / "no" / "t.safetensors", {"a": np.ones(1)})
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "t.safetensors", tmp_path / ("a" * 300), tmp_path / "nul\0byte", "", "/"):
        with pytest.raises(CnncError, match="cannot write") as e:
            write_file(path, {"a": np.ones(1)})
        assert e.value.exit_code == 3
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["a" * 250, "\N{GRINNING FACE}" * 60])
def test_long_names(tmp_path: Path, name: str) -> None:
    write_file(tmp_path / name, {"a": np.ones(1)})
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.safetensors"
    write_file(path, {"a": np.ones(1)})
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CnncError, match="no space left"):
        write_file(path, {"a": np.zeros(1)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_byte_never_gets_past_the_checks(data: st.DataObject) -> None:
    """Either a diagnostic, or tensors that lie within the file."""
    with tempfile.TemporaryDirectory() as folder:
        path = file_of(Path(folder) / "t.safetensors", RAW)
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content)
        try:
            file = open_file(path)
        except CnncError as e:
            assert e.diagnostics[0].code in ("E0610", "E0612")  # noqa: PT017
            return
        for name, entry in file.entries.items():
            if entry.dtype in DTYPES:
                assert file.read(name).shape == entry.shape
