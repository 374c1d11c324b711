"""Files of other programs are recognized by what they hold, and by their name, wherever they are given."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import cnnc as package
from cnnc import foreign
from cnnc.cli.main import cli
from cnnc.diagnostics import CnncError
from cnnc.interop import safetensors

MODEL = "## A comment.\n\nmodel m() {\n    input x: f32[N, 1, 4, 4]\n    return x -> flatten -> linear(3)\n}\n"


def zipped(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return stream.getvalue()


def image(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, kind)
    return stream.getvalue()


def array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros((1, 1, 4, 4), np.float32))
    return stream.getvalue()


# what a file holds, under a name that says nothing: what it is called
CONTENTS: dict[str, tuple[bytes, str]] = {
    "onnx": (b"\x08\x0a\x12\x07pytorch\x1a\x032.0:\x10" + bytes(40), "an ONNX model"),
    "saved model": (b"\x08\x01\x12\xff\x01" + bytes(40), "a TensorFlow SavedModel"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(40), "a TensorFlow Lite model"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
    "keras": (zipped("metadata.json", "config.json", "model.weights.h5"), "a Keras model"),
    "torch": (zipped("m/data.pkl", "m/data/0"), "a PyTorch file (a pickle)"),
    "torchscript": (zipped("m/code/__torch__.py", "m/data.pkl"), "a TorchScript file"),
    **{f"pickle {p}": (pickle.dumps({"a": [1, 2]}, p), "a pickle") for p in range(2, 6)},
    "gguf": (b"GGUF\x03\0\0\0", "a GGUF file"),
    "gzip": (gzip.compress(MODEL.encode()), "a compressed file"),
    "zip": (zipped("a.txt"), "a compressed file"),
    "darknet": (b"# YOLO\n[net]\nbatch=1\n\n[convolutional]\nfilters=32\n", "a Darknet configuration"),
    "caffe": (b'name: "LeNet"\nlayer {\n  name: "data"\n}\n', "a Caffe model"),
    "openvino": (b'<?xml version="1.0"?>\n<net name="m" version="11">\n', "an OpenVINO model"),
    "html": (b"<!DOCTYPE html>\n<html><body>404</body></html>", "XML or HTML"),
    "json": (json.dumps({"layers": []}).encode(), "JSON"),
    "yaml": (b"---\nlayers:\n  - conv\n", "YAML"),
    "python": (b"# net\nimport torch\n", "a Python program"),
    "utf-16": (MODEL.encode("utf-16"), "UTF-16 text"),
    "ir": (b"graph @m {\n}\n", "IR text"),
    "npy": (array(), "a NumPy array"),
    "npz": (zipped("x.npy", "y.npy"), "NumPy arrays"),
    "empty": (b"", "empty"),
    **{kind: (image(kind), "an image") for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")},
}


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, content: bytes) -> Path:
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    return write


@pytest.mark.parametrize("name", CONTENTS)
def test_contents(name: str, files: Callable[[str, bytes], Path]) -> None:
    content, called = CONTENTS[name]
    path = files("thing", content)
    kind = foreign.recognize(path)
    assert kind is not None
    assert kind.name.startswith(called)
    for load in (package.load, package.open):
        if name == "onnx" and load is package.load:
            continue  # a model: see tests/interop/test_onnx_import.py
        with pytest.raises(CnncError) as e:
            load(path)
        (d,) = e.value.diagnostics
        assert d.code == ("E0610" if name == "empty" and load is package.open else "E0604")
        assert called in d.message
        assert d.help
        assert "{" not in d.help.partition("python -c")[0]
        assert e.value.exit_code == 3
    with pytest.raises(CnncError) as e:
        package.parse(MODEL).load_weights(path)
    assert e.value.diagnostics[0].code in ("E0604", "E0610", "E0612", "E0625")


@pytest.mark.parametrize("ending", sorted(foreign.ENDINGS))
def test_names(ending: str, files: Callable[[str, bytes], Path]) -> None:
    """Where the content says nothing the name does; a model is one under any name."""
    with pytest.raises(CnncError) as e:
        package.load(files(f"m{ending}", bytes(range(128, 200))))
    assert e.value.diagnostics[0].code in (("E0650", "E0654") if ending == ".onnx" else ("E0604",))
    assert package.load(files(f"n{ending}", MODEL.encode())).name == "m"


@pytest.mark.parametrize(
    "text", [MODEL, "const K = 3\n" + MODEL, 'include "a.cnn"\n', "\ufeff" + MODEL, MODEL.replace("\n", "\r")]
)
def test_models_are_models(text: str, files: Callable[[str, bytes], Path]) -> None:
    assert foreign.recognize(files("m", text.encode())) is foreign.CNN


def test_files_of_this_program(tmp_path: Path, files: Callable[[str, bytes], Path]) -> None:
    model, weights = files("m.cnn", MODEL.encode()), tmp_path / "w.safetensors"
    net = package.load(model)
    net.save_weights(weights)
    exe = package.compile(net)
    package.save(exe, tmp_path / "m.cnnx")
    point = tmp_path / "checkpoint.safetensors"
    safetensors.write_file(point, {"a": np.zeros(1)}, {"cnnc.checkpoint": "1", "run": "{}"})
    wrong: list[tuple[Callable[[Path], object], Path, str]] = [
        (package.load, weights, "--weights w.safetensors"),
        (package.load, tmp_path / "m.cnnx", "cnnc.open"),
        (package.load, point, "weights.safetensors beside"),
        (package.open, model, "cnnc.load"),
        (package.open, weights, "--weights"),
        (net.load_weights, model, "cnnc train"),
        (net.load_weights, tmp_path / "m.cnnx", "in place of a model"),
        (net.load_weights, point, "beside it"),
    ]
    for read, path, help in wrong:
        with pytest.raises(CnncError) as e:
            read(path)
        assert e.value.diagnostics[0].code == "E0604", path
        assert help in (e.value.diagnostics[0].help or ""), path


def test_every_command_says_it(tmp_path: Path, files: Callable[[str, bytes], Path]) -> None:
    model, onnx = files("m.cnn", MODEL.encode()), files("m.onnx", CONTENTS["onnx"][0])
    tflite = files("m.tflite", CONTENTS["tflite"][0])
    x = files("x.npy", array())
    png = files("7.png", CONTENTS["PNG"][0])
    commands: list[list[object]] = [
        *([name, tflite] for name in ("check", "summary", "ir", "opt", "bench", "gradcheck")),
        ["graph", tflite, "-o", tmp_path / "o.svg"],
        ["compile", tflite, "-o", tmp_path / "o.cnnx"],
        ["run", tflite, "-i", x],
        ["opt", onnx],
        ["run", model, "-i", onnx],
        ["run", model, "-i", x, "-w", onnx],
        ["run", png, "-i", model],
        ["run", model, "-i", model],
        ["train", tflite, "-d", x, "--out", tmp_path / "r"],
        ["train", model, "-d", onnx, "--out", tmp_path / "r"],
        ["train", model, "-d", png, "--out", tmp_path / "r"],
        ["cache", "warm", tflite],
    ]
    for command in commands:
        result = CliRunner().invoke(cli, [str(a) for a in command])
        assert result.exit_code == 3, (command, result.output)
        assert "E0604" in result.stderr, (command, result.stderr)
        assert "= help: " in result.stderr, command


def test_an_artifact_runs_under_any_name(tmp_path: Path, files: Callable[[str, bytes], Path]) -> None:
    package.save(package.compile(package.parse(MODEL)), tmp_path / "m.cnnx")
    os.rename(tmp_path / "m.cnnx", tmp_path / "m.bin")
    result = CliRunner().invoke(cli, ["run", str(tmp_path / "m.bin"), "-i", str(files("x.npy", array()))])
    assert result.exit_code == 0, result.output


def test_a_saved_model_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12")
    result = CliRunner().invoke(cli, ["check", str(tmp_path)])
    assert "a TensorFlow SavedModel" in result.stderr
    assert result.exit_code == 3


def converted(error: CnncError, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the line of the help."""
    monkeypatch.chdir(folder)
    exec((error.diagnostics[0].help or "").split('"')[1], {})


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_lines_that_convert_pytorchs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    linear = torch.nn.Linear(2, 3)
    net = package.parse("model m() {\n    input x: f32[N, 2]\n    return x -> linear(3) as l\n}")
    for write in (
        lambda p: torch.save({f"l.{k}": v for k, v in linear.state_dict().items()}, p),
        lambda p: torch.save({"epoch": 3, "state_dict": {f"l.{k}": v for k, v in linear.state_dict().items()}}, p),
        lambda p: torch.jit.save(torch.jit.script(torch.nn.Sequential()), p),
    ):
        write(tmp_path / "w.bin")
        with pytest.raises(CnncError) as e:
            net.load_weights(tmp_path / "w.bin")
        assert e.value.diagnostics[0].code == "E0612"
        converted(e.value, tmp_path, monkeypatch)
        if "jit" not in (e.value.diagnostics[0].help or ""):
            net.load_weights(tmp_path / "w.safetensors")
            np.testing.assert_array_equal(net.weights["l.bias"], linear.bias.detach().numpy())


def test_lines_that_convert_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx = pytest.importorskip("onnx")
    helper, numbers = onnx.helper, onnx.numpy_helper
    values = {"l.weight": np.ones((3, 2), np.float32), "l.bias": np.arange(3, dtype=np.float32)}
    graph = helper.make_graph([], "g", [], [], [numbers.from_array(v, k) for k, v in values.items()])
    onnx.save(helper.make_model(graph), tmp_path / "w")
    net = package.parse("model m() {\n    input x: f32[N, 2]\n    return x -> linear(3) as l\n}")
    with pytest.raises(CnncError, match="an ONNX model") as e:
        net.load_weights(tmp_path / "w")
    converted(e.value, tmp_path, monkeypatch)
    net.load_weights(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(net.weights["l.bias"], values["l.bias"])
