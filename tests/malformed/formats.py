"""The formats that are read, each with good files, a way to forge one of their fields, the reader, and a judge of what it
gave: an independent reader, or the reference.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import cnnc
from cnnc import artifact
from cnnc.backends.cpu import BACKEND, timed
from cnnc.data.arrays import read_arrays
from cnnc.data.binary import read_folder
from cnnc.data.dataset import Dataset
from cnnc.data.images import load_image, load_input
from cnnc.diagnostics import CnncError
from cnnc.frontend.inputs import Preprocess
from cnnc.interop import safetensors
from cnnc.ir.graph import Graph
from cnnc.ir.interpret import random_values
from cnnc.ir.text import parse_graph, print_graph
from cnnc.train import train
from tests.malformed.fields import PYTHON_JUNK, change, damage, forged_json, put, write_python
from tests.malformed.ir import forged_ir
from tests.malformed.mutate import mutate, mutate_values
from tests.random_networks.check import Setting, executable
from tests.random_networks.generate import network
from tests.random_networks.reference import Mismatch, Reference

TRAINED = """model tiny(classes = 3) {
    input image: f32[N, 1, 6, 6] {
        resize = 6
        mean = 0.5
        std = [0.25]
    }
    return image -> conv(4, 3, padding=1) -> batchnorm -> relu -> maxpool(2) -> flatten -> linear(classes)
}
train {
    optimizer = sgd(lr=0.05, momentum=0.9)
    batch = 8
    epochs = 2
}
"""
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
            load_input(path, Preprocess(resize=6), (1, 6, 6))
        return array

    def judge(self, path: Path, found: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers as Python 2 wrote them
            want = np.load(path, allow_pickle=False)
        same("the array", found, want != 0 if want.dtype.kind == "b" else want)


class Npz(Format):
    name = "npz"

    def forge(self, draw: random.Random, folder: Path) -> Path:
        arrays = {
            "x_train": draw.choice((ARRAYS[0], ARRAYS[1])).repeat(4, 0),
            "y_train": np.arange(12) % 3,
            "x_test": ARRAYS[0],
            "y_test": np.array([0, 1, 2]),
        }
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
            data = put(data, at + offset, size, draw)
        elif how == 3:
            data = damage(data, draw)
        path = folder / "d.npz"
        path.write_bytes(data)
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
        with np.load(path, allow_pickle=False) as other:
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
        arrays = read_folder(path)
        Dataset.open(path, Preprocess(), (1, 6, 6)).check_labels(256)
        return arrays

    def judge(self, path: Path, found: Any) -> None:
        for name, file in (("x_train", "train-images-idx3-ubyte"), ("y_test", "t10k-labels-idx1-ubyte")):
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


# ------------------------------------------------------------------------------------------------ safetensors


def parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the data of a good safetensors file."""
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def data_of(path: Path) -> bytes:
    """What lies behind the header."""
    data = path.read_bytes()
    return data[8 + int.from_bytes(data[:8], "little") :]


def joined(header: str, data: bytes) -> bytes:
    text = header.encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + data


def forged_tensors(data: bytes, draw: random.Random) -> bytes:
    """A safetensors file with a field of its header forged, or its length, or damaged."""
    how = draw.randrange(10)
    if how == 0:
        return put(data, 0, 8, draw)
    if how == 1:
        return damage(data, draw)
    header, rest = parts(data)
    return joined(forged_json(json.dumps(header), draw), rest)


class Tensors(Format):
    name = "safetensors"

    def __init__(self, folder: Path) -> None:
        self.network = cnnc.parse(TRAINED)
        self.network.save_weights(folder / "good.safetensors")
        self.good = (folder / "good.safetensors").read_bytes()

    def forge(self, draw: random.Random, folder: Path) -> Path:
        path = folder / "w.safetensors"
        path.write_bytes(forged_tensors(self.good, draw))
        return path

    def read(self, path: Path) -> Any:
        file = safetensors.open_file(path)
        with refusing():
            self.network.load_weights(path)
        self.network.load_weights(path, strict=False)
        return file

    def judge(self, path: Path, found: Any) -> None:
        from safetensors.numpy import load

        other = load(path.read_bytes())
        for name, entry in found.entries.items():
            if entry.dtype in ("F32", "F64", "F16", "I64", "I32", "U8"):
                same(name, found.read(name), other[name])


# ------------------------------------------------------------------------------------------------ graphs

SMALL = 200_000  # numbers in a graph that is run


def small(graph: Graph) -> bool:
    counts = [int(np.prod([d for d in t.concrete(3)], dtype=object)) for n in graph.nodes for t in n.types]
    return sum(counts) < SMALL and sum(len(n.operands) for n in graph.nodes) < 200


def agree(graph: Graph, run: Callable[[Mapping[str, Any], Mapping[str, Any]], Mapping[str, Any]]) -> None:
    """Whether what runs gives what the reference does, at a batch of 3, whole numbers and others."""
    for whole in (True, False):
        reference = Reference(graph, 3, whole)
        got = run(reference.inputs, reference.values)
        for label, value in graph.outputs:
            reference.compare(label, value, got[label])


class Ir(Format):
    """Graphs as they are written, and as the passes leave them."""

    name = "ir"

    def __init__(self) -> None:
        from cnnc.driver import optimize
        from tests.networks import MIXED

        written = [cnnc.parse(t).graph for t in (TRAINED, MIXED)] + [network(seed) for seed in range(12)]
        self.texts = [print_graph(g) for g in written]
        self.texts += [print_graph(optimize(g, BACKEND.lanes)[0]) for g in written]

    def forge(self, draw: random.Random, folder: Path) -> Path:
        path = folder / "g.ir"
        text = forged_ir(draw.choice(self.texts), draw)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return path

    def read(self, path: Path) -> Any:
        from cnnc.cli.opt import _read

        graph = parse_graph(_read(str(path)), path.name)
        if parse_graph(print_graph(graph)) != graph:
            raise Mismatch("the graph does not print and parse back")
        return graph

    def judge(self, path: Path, found: Graph) -> None:
        runs = all(t.dtype == "f32" for n in found.nodes for t in n.types) and not found.updates
        if not small(found) or not runs:
            return

        def run(inputs: Mapping[str, Any], values: Mapping[str, Any]) -> Mapping[str, Any]:
            exe = executable(found, Setting("inference", f"cpu-{BACKEND.target.name}"), values, 1)
            return exe.run(inputs)

        agree(found, run)


class Cnn(Format):
    name = "cnn"

    def __init__(self) -> None:
        from tests.networks import EXAMPLES, MIXED

        self.texts = [TRAINED, MIXED, *(p.read_text() for p in sorted(EXAMPLES.glob("*.cnn")))]

    def forge(self, draw: random.Random, folder: Path) -> Path:
        path = folder / "m.cnn"
        text = draw.choice((mutate, mutate_values))(draw.choice(self.texts), draw.getrandbits(32))
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        return path

    def read(self, path: Path) -> Any:
        net = cnnc.load(path)
        return net, str(net.summary()), print_graph(net.graph)


class Cnnx(Format):
    name = "cnnx"

    def __init__(self, folder: Path) -> None:
        from tests.networks import MIXED

        self.good, self.paths = [], []
        for i, text in enumerate((TRAINED, MIXED)):
            net, path = cnnc.parse(text), folder / f"good{i}.cnnx"
            exe = cnnc.compile(net, tune=False)
            cnnc.save(exe, path, batch=3, inputs=net.program.inputs, labels=("a", "b", "c"))
            file = safetensors.open_file(path)
            tensors = {n: np.array(file.read(n)) for n in file.entries}
            tensors |= {f"value/{n}": np.array(v) for n, v in exe.values.items()}
            safetensors.write_file(path, tensors, file.metadata)
            self.good.append(path.read_bytes())
            self.paths.append(path)

    def forge(self, draw: random.Random, folder: Path) -> Path:
        path, good = folder / "m.cnnx", draw.choice(self.good)
        if draw.random() < 0.2:
            path.write_bytes(forged_tensors(good, draw))
            return path
        header, rest = parts(good)
        meta = header["__metadata__"]
        key = draw.choice(("ir", "ir", "inputs", "inputs", "decisions", "labels", "batch", "other"))
        if key == "ir":
            meta["ir"] = forged_ir(meta["ir"], draw)
        elif key in ("inputs", "decisions", "labels"):
            meta[key] = forged_json(meta[key], draw)
        elif key == "batch":
            meta["batch"] = draw.choice(
                ("0", "-1", "1", "2", "4", "7", "1e3", "2147483647", "9" * 30, "true", "", "\u0663")
            )
        else:
            other = draw.choice(list(meta))
            meta[other] = draw.choice(("", "x", "true", "false", "null", "\0", "x" * 10**6, other))
        path.write_bytes(joined(json.dumps(header), rest))
        return path

    def read(self, path: Path) -> Any:
        opened = artifact.read(path, 1)
        graph = opened.executable.graph
        if not small(graph):
            return None
        inputs, _ = random_values(graph, 3)
        given = {n.name: np.asarray(inputs[n.name], np.float32) for n in graph.inputs}
        return opened, given, opened.executable.run(given)

    def judge(self, path: Path, found: Any) -> None:
        if found is None:
            return
        if not any(data_of(path) == data_of(good) for good in self.paths):
            return  # other weights, which are as good as any
        opened, given, got = found
        graph, values = opened.executable.graph, {}
        for name, node in ((n.name, n) for n in (*graph.parameters, *graph.states)):
            if name not in opened.executable.values:
                return
            values[name] = np.asarray(opened.executable.values[node.name])
        from cnnc.ir.interpret import run

        want = run(graph, given, values)
        for label in want:
            size = max(1.0, float(np.abs(want[label]).max(initial=0)))
            if got[label].shape != want[label].shape:
                raise Mismatch(f"{label} is {got[label].shape}, not {want[label].shape}")
            if np.isfinite(want[label]).all() and not np.allclose(got[label], want[label], rtol=1e-3, atol=1e-4 * size):
                raise Mismatch(f"{label} has other values")


# ------------------------------------------------------------------------------------------------ runs, caches


class Run(Format):
    """A checkpoint that a run goes on from: where it is taken, the run ends as it would have."""

    name = "checkpoint"

    def __init__(self, folder: Path) -> None:
        self.data = folder / "digits.npz"
        np.savez(self.data, x=ARRAYS[0].repeat(10, 0), y=np.arange(30) % 3)
        self.go(folder / "run", 1, False)
        self.path = folder / "good.checkpoint"
        self.good = (folder / "run" / "checkpoint.safetensors").read_bytes()
        self.path.write_bytes(self.good)
        self.want = self.go(folder / "run", 2, True)

    def go(self, folder: Path, epochs: int, resume: bool) -> dict[str, Any]:
        net = cnnc.parse(TRAINED)
        train(net, self.data, folder, epochs=epochs, resume=resume, quiet=True, threads=1)
        return {n: np.array(v) for n, v in net.weights.items()}

    def forge(self, draw: random.Random, folder: Path) -> Path:
        header, rest = parts(self.good)
        if draw.random() < 0.2:
            data = forged_tensors(self.good, draw)
        else:
            header["__metadata__"]["run"] = forged_json(header["__metadata__"]["run"], draw)
            data = joined(json.dumps(header), rest)
        (folder / "run").mkdir()
        (folder / "run" / "checkpoint.safetensors").write_bytes(data)
        return folder

    def read(self, path: Path) -> Any:
        good = data_of(path / "run" / "checkpoint.safetensors") == data_of(self.path)
        return self.go(path / "run", 2, True), good

    def judge(self, path: Path, found: Any) -> None:
        weights, good = found
        for name, value in weights.items() if good else ():
            same(name, value, self.want[name])


class Decisions(Format):
    """What the cache folder remembers: never an error, what is damaged is made again."""

    name = "decisions"

    def __init__(self) -> None:
        algorithm = {"algorithm": "direct", "microseconds": {"direct": 3.5, "winograd 2x2": 4}}
        pace = {"own": 1.0, "shared": 0.5, "memory": 2.0}
        record = {
            "format": timed.FORMAT,
            "kernels": BACKEND.version,
            "pace": pace,
            "decisions": {"conv 1 2 3": algorithm},
        }
        self.good = json.dumps(record)

    def forge(self, draw: random.Random, folder: Path) -> Path:
        folder.chmod(0o700)
        path = folder / "decisions-0.json"
        text = forged_json(self.good, draw).encode("utf-8", "surrogatepass")
        path.write_bytes(text if draw.random() < 0.8 else damage(text, draw))
        path.chmod(0o600)
        return path

    def read(self, path: Path) -> Any:
        return timed._read(path, BACKEND)

    def judge(self, path: Path, found: Any) -> None:
        json.dumps(found.to_json(), allow_nan=False).encode()


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


def formats(folder: Path) -> list[Format]:
    """All formats, their good files made in a folder."""
    tensors, cnnx, run = Tensors(folder), Cnnx(folder), Run(folder)
    return [Npy(), Npz(), Idx(), Cifar(), tensors, cnnx, run, Ir(), Images(), Cnn(), Decisions()]
