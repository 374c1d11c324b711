"""Files of other programs, and of this one in the wrong place: what they are, by their first bytes and then by their name, and
what to do with them."""

from __future__ import annotations

import os
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from cnnc.diagnostics import error
from cnnc.untrusted import archive_of

PEEK = 4096  # bytes
DATA = 3  # exit code
WANTED = {
    "model": "a model file (.cnn)",
    "weights": "weights (.safetensors or .npz)",
    "tensors": "a safetensors file",
    "artifact": "an artifact (.cnnx)",
    "IR": "IR text",
    "checkpoint": "a checkpoint",
    "data": "a data set",
    "input": "an image or an array",
}
WRITE = "write the network as a .cnn file (`cnnc new` begins one)"
PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".ckpt")
IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")


@dataclass(frozen=True)
class Kind:
    """A format: what a file of it is called, what it is good for where that is wanted, and what to do otherwise. `{file}` and
    `{target}` stand for the file's name and that of a .safetensors file beside it."""

    name: str
    good: tuple[str, ...] = ()
    model: str = WRITE
    weights: str = "convert them to a .safetensors file by the names that list(net.weights) shows"
    other: str = ""

    def help(self, wanted: str, path: Path) -> str:
        text = {"model": self.model, "weights": self.weights, "tensors": self.weights}.get(
            wanted, self.other
        ) or self.model
        return text.replace("{file}", path.name).replace("{target}", path.with_suffix(".safetensors").name)


def _one_line(code: str) -> str:
    return f'convert it once (it takes pip install safetensors): python -c "{code}"'


PYTORCH = Kind(
    "a PyTorch file (a pickle)",
    model=f"{WRITE}; its weights: "
    "torch.load(..., weights_only=True), then safetensors.torch.save_file(state, '{target}')",
    weights=_one_line(
        "import torch, safetensors.torch as s; d = torch.load('{file}', map_location='cpu', weights_only=True); s.save_file("
        "{k: v.contiguous().clone() for k, v in d.get('state_dict', d).items() if torch.is_tensor(v)}, '{target}')"
    ),
)
TORCHSCRIPT = Kind(
    "a TorchScript file",
    weights=_one_line(
        "import torch, safetensors.torch as s; s.save_file({k: v.contiguous().clone() for k, v in "
        "torch.jit.load('{file}', map_location='cpu').state_dict().items()}, '{target}')"
    ),
)
PICKLE = Kind("a pickle, which can run code when it is read", weights=PYTORCH.weights)
ONNX = Kind(
    "an ONNX model",
    ("model",),
    model="it goes wherever a .cnn file goes: cnnc summary {file}",
    weights=_one_line(
        "import onnx, onnx.numpy_helper as h, safetensors.numpy as s; s.save_file({t.name: h.to_array(t).copy() for t in "
        "onnx.load('{file}').graph.initializer}, '{target}')"
    ),
)
TFLITE = Kind("a TensorFlow Lite model")
SAVED_MODEL = Kind("a TensorFlow SavedModel")
TENSORFLOW = Kind("a TensorFlow graph (.pb)")
HDF5 = Kind("an HDF5 file, as Keras writes models")
KERAS = Kind("a Keras model")
DARKNET = Kind(
    "a Darknet configuration",
    model=f"{WRITE}: [convolutional] filters=32 size=3 stride=1 pad=1 activation=leaky with batch_normalize=1 "
    "is conv(32, 3, padding=1, bias=false) -> batchnorm -> leaky_relu(0.1)",
)
CAFFE = Kind("a Caffe model")
OPENVINO = Kind("an OpenVINO model")
COREML = Kind("a Core ML model")
GGUF = Kind("a GGUF file")
SAFETENSORS = Kind(
    "a file of weights (.safetensors)",
    ("weights", "tensors"),
    model="name the .cnn file of the network, and give the weights by --weights {file}",
    other="weights are given by --weights {file}",
)
CHECKPOINT = Kind(
    "a checkpoint of a training run",
    ("checkpoint", "tensors"),
    model="name the .cnn file of the network; --weights takes the weights.safetensors beside the checkpoint",
    weights="take the weights.safetensors beside it; `cnnc train --resume` reads the checkpoint",
)
ARTIFACT = Kind(
    "a compiled artifact (.cnnx)",
    ("artifact", "tensors"),
    model="`cnnc run` and cnnc.open take it; all else starts from the .cnn file that it was compiled from",
    weights="`cnnc run` takes it in place of a model; --weights takes the .safetensors file that it was compiled with",
)
CNN = Kind(
    "a model file (.cnn)",
    ("model",),
    weights="weights are a .safetensors or a .npz file; `cnnc train` writes one",
    other="the model is the argument without an option: cnnc run {file} --input ...; in Python cnnc.load",
)
IR = Kind("IR text", ("IR",), model="`cnnc opt` reads it; a model is a .cnn file", weights=CNN.weights)
IMAGE = Kind(
    "an image",
    ("input",),
    model="name the .cnn file of the network, and give the image by --input {file}",
    weights=CNN.weights,
    other="a data set is a folder with a folder of images for each class; `cnnc run --input {file}` takes one",
)
NPY = Kind(
    "a NumPy array (.npy)",
    ("input",),
    model="name the .cnn file of the network, and give the array by --input {file}",
    weights="weights have names: np.savez('weights.npz', **{'fc.weight': ...})",
    other="a data set has labels too: np.savez('data.npz', x=images, y=labels)",
)
NPZ = Kind(
    "NumPy arrays (.npz)",
    ("input", "data", "weights"),
    model="name the .cnn file of the network, and give the arrays by --data {file}, --input {file} or --weights {file}",
)
COMPRESSED = Kind(
    "a compressed file or archive",
    model="unpack it first",
    weights="unpack it first",
    other="unpack it first; a folder of MNIST's files is read as it is",
)
TEXTS = {
    "JSON": Kind("JSON", weights=CNN.weights),
    "YAML": Kind("YAML", weights=CNN.weights),
    "XML": Kind(
        "XML or HTML", model=f"was a web page saved in its place? Else {WRITE}", weights="fetch the file again"
    ),
    "Python": Kind("a Python program", weights=CNN.weights),
}
UTF16 = Kind("UTF-16 text", model="save it as UTF-8", weights=CNN.weights)
EMPTY = Kind("empty", model="was it written to its end?", weights="was it written to its end?")
OTHER = Kind("a PDF, or a program", weights=CNN.weights)

# What a file begins with. Zip archives, protocol buffers and texts are looked at further.
MARKS: tuple[tuple[bytes, Kind], ...] = (
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"\x93NUMPY", NPY),
    (b"\x89PNG", IMAGE),
    (b"\xff\xd8\xff", IMAGE),
    (b"GIF8", IMAGE),
    (b"II*\0", IMAGE),
    (b"MM\0*", IMAGE),
    (b"GGUF", GGUF),
    *((bytes((0x80, version, mark)), PICKLE) for version in range(2, 6) for mark in b"cX}]\x95(\x8a\x8c"),
    (b"\x1f\x8b", COMPRESSED),
    (b"BZh", COMPRESSED),
    (b"\xfd7zXZ\0", COMPRESSED),
    (b"\x28\xb5\x2f\xfd", COMPRESSED),
    (b"7z\xbc\xaf", COMPRESSED),
    (b"Rar!", COMPRESSED),
    (b"%PDF-", OTHER),
    (b"\x7fELF", OTHER),
    (b"\xff\xfe", UTF16),
    (b"\xfe\xff", UTF16),
)
ENDINGS = {
    **dict.fromkeys(PICKLES, PYTORCH),
    ".onnx": ONNX,
    ".tflite": TFLITE,
    ".pb": TENSORFLOW,
    ".h5": HDF5,
    ".hdf5": HDF5,
    ".keras": KERAS,
    ".cfg": DARKNET,
    ".prototxt": CAFFE,
    ".caffemodel": CAFFE,
    ".mlmodel": COREML,
    ".gguf": GGUF,
    ".yaml": TEXTS["YAML"],
    ".yml": TEXTS["YAML"],
    ".py": TEXTS["Python"],
    **dict.fromkeys(IMAGES, IMAGE),
}
_CNN = re.compile(r"(model|block)\s+[A-Za-z_]\w*\s*\(|(train\s*\{|const\s+\w+\s*=|include\s*\")")
_TEXT_MARKS = (
    (re.compile(r"graph\s+@"), IR),
    (re.compile(r"\[(net|network|convolutional|conv|maxpool|connected|yolo)\]\s*$", re.MULTILINE), DARKNET),
    (re.compile(r"<\?xml[^<]*<net\b|<net\b"), OPENVINO),
    (re.compile(r"<[!?a-zA-Z]"), TEXTS["XML"]),
    (re.compile(r"name:\s*\"|layers?\s*\{"), CAFFE),
    (re.compile(r"\{\s*(\"|\})|\[\s*[\[{\"\d-]"), TEXTS["JSON"]),
    (re.compile(r"(from\s+[\w.]+\s+)?import\s+\w|def\s+\w+\(|class\s+\w+[(:]"), TEXTS["Python"]),
    (re.compile(r"%YAML|---\s*$", re.MULTILINE), TEXTS["YAML"]),
)


def recognize(path: str | os.PathLike[str]) -> Kind | None:
    """What a file is, where it is one of a known format; None for other files, and for what is no regular file."""
    path = Path(path)
    try:
        if path.is_dir():
            return SAVED_MODEL if (path / "saved_model.pb").is_file() else None
        if not path.is_file():
            return None
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(PEEK)
    except (OSError, ValueError):
        return None
    if not head:
        return EMPTY
    return _by_bytes(path, head, size) or _by_text(head) or ENDINGS.get(path.suffix.lower())


def _by_bytes(path: Path, head: bytes, size: int) -> Kind | None:
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return _archive(path)
    if head[4:8] == b"TFL3":
        return TFLITE
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return IMAGE
    if head[:2] == b"BM" and int.from_bytes(head[2:6], "little") == size:
        return IMAGE
    if re.match(rb"P[1-6]\s+(#.*\n)*\d+\s+\d+\s", head):
        return IMAGE
    if head[257:262] == b"ustar":
        return COMPRESSED
    if head[8:9] == b"{" and 8 + int.from_bytes(head[:8], "little") <= size:
        return _tensors(head)
    if head[0] == 8 and len(head) > 2 and head[1] < 32:  # a protocol buffer that begins with a small version
        if head[1] == 1 and head[2] == 0x12:
            return ONNX if path.suffix.lower() == ".onnx" else SAVED_MODEL
        if head[2] in (0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42):
            return ONNX
    return next((kind for mark, kind in MARKS if head.startswith(mark)), None)


def _tensors(head: bytes) -> Kind:
    """Of safetensors files the metadata tell which."""
    if re.search(rb'"format"\s*:\s*"cnnx ', head):
        return ARTIFACT
    return CHECKPOINT if b'"cnnc.checkpoint"' in head else SAFETENSORS


def _archive(path: Path) -> Kind:
    try:
        with archive_of(path) as archive:
            names = archive.namelist()
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
        return ENDINGS.get(path.suffix.lower(), NPZ if path.suffix.lower() == ".npz" else COMPRESSED)
    if any(n.endswith("/data.pkl") or n == "data.pkl" for n in names):
        return TORCHSCRIPT if any("/code/" in n for n in names) else PYTORCH
    if "config.json" in names and any(n.endswith(".weights.h5") for n in names):
        return KERAS
    return NPZ if path.suffix.lower() == ".npz" or (names and all(n.endswith(".npy") for n in names)) else COMPRESSED


def _by_text(head: bytes) -> Kind | None:
    """What the first line that is no comment begins with."""
    text = head.decode("utf-8-sig", errors="ignore")
    if "\0" in text:
        return None
    body = re.sub(r"\A(\s*(#|//|;).*)*\s*", "", text.replace("\r", "\n"))
    if _CNN.match(body):
        return CNN
    return next((kind for pattern, kind in _TEXT_MARKS if pattern.match(body)), None)


def refuse(path: str | os.PathLike[str], wanted: str) -> None:
    """Nothing, unless a file is known to be something else than what is wanted (a key of `WANTED`). Raises `CnncError`
    (E0604; for pickles in place of weights E0612, for empty files of tensors E0610; exit code 3)."""
    path, kind = Path(path), recognize(path)
    if kind is None or wanted in kind.good:
        return
    if wanted == "model" and path.suffix == ".cnn" and (kind is EMPTY or kind in TEXTS.values()):
        return  # the parser says what is wrong at its place
    code = "E0604"
    if wanted in ("weights", "tensors") and kind in (PYTORCH, TORCHSCRIPT, PICKLE):
        code = "E0612"
    elif kind is EMPTY and wanted in ("weights", "tensors", "artifact", "checkpoint"):
        code = "E0610"
    raise error(
        code,
        f"{path} is {kind.name}" + ("" if kind is EMPTY else f", not {WANTED[wanted]}"),
        help=kind.help(wanted, path),
        exit_code=DATA,
    )
