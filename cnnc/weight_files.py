"""Files of weights by name: safetensors, and NumPy's .npz. Shapes are known before anything is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnc.arguments import wrong
from cnnc.data import arrays
from cnnc.diagnostics import error
from cnnc.foreign import NPZ, recognize
from cnnc.interop import safetensors
from cnnc.untrusted import Malformed, read_json

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
CLASSES = "cnnc.classes"  # the names of the classes, in the metadata of weights and of ONNX models
CLASS_LIMIT = 100_000
IGNORED = "num_batches_tracked"  # PyTorch's counter beside running statistics, of no use here
DATA = 3


@dataclass(frozen=True)
class WeightFile:
    """A file whose names and shapes have been read and checked. read: the arrays of these names, one after the other;
    it raises `CnncError` (E0610, E0613, E0620, E0625, E0626). classes: names of classes that came with the weights.
    """

    path: Path
    shapes: Mapping[str, Shape]
    read: Callable[[Collection[str]], Iterator[tuple[str, Array]]]
    classes: tuple[str, ...] | None = None


def open_weights(path: Path, map: Mapping[str, str] | None = None) -> WeightFile:
    """A file of weights, its names mapped. map: how names begin in the file, and how in the network, {"backbone.":
    "features."}; the first that fits counts, and "" begins every name. Raises `CnncError` (E0601, E0604, E0610, E0611,
    E0612, E0620, E0625, E0626, E0706).
    """
    file = _npz(path) if recognize(path) is NPZ else _tensors(path)
    return file if not map else _mapped(file, _prefixes(map))


def _tensors(path: Path) -> WeightFile:
    file = safetensors.open_file(path, "weights")
    file.verify()
    shapes = {name: entry.shape for name, entry in file.entries.items()}
    return WeightFile(path, shapes, lambda names: ((n, file.read(n)) for n in names), class_names(file))


def _npz(path: Path) -> WeightFile:
    return WeightFile(path, arrays.shapes_of(path), lambda names: arrays.each_array(path, names))


def _prefixes(map: Mapping[str, str]) -> Mapping[str, str]:
    if not isinstance(map, Mapping) or not all(isinstance(t, str) for pair in map.items() for t in pair):
        raise wrong("map", map, 'a mapping of texts such as {"backbone.": "features."}')
    return map


def renamed(name: str, map: Mapping[str, str]) -> str:
    """A file's name as the network's: another beginning in place of the first that it has."""
    for before, after in map.items():
        if name.startswith(before):
            return after + name.removeprefix(before)
    return name


def _mapped(file: WeightFile, map: Mapping[str, str]) -> WeightFile:
    theirs: dict[str, str] = {}
    for name in file.shapes:
        ours = renamed(name, map)
        if ours in theirs:
            what = f"'{theirs[ours]}' and '{name}' of {file.path} would both be '{ours}'"
            raise error("E0611", what, help="map longer beginnings, those that differ", exit_code=DATA)
        theirs[ours] = name
    if not any(name.startswith(before) for name in file.shapes for before in map):
        begin = next(iter(map))
        what = f"no name in {file.path} begins with '{begin}'"
        raise error("E0611", what, f"they are {', '.join(list(file.shapes)[:4])}, ...", exit_code=DATA)

    def read(names: Collection[str]) -> Iterator[tuple[str, Array]]:
        ours = {theirs[n]: n for n in names}
        return ((ours[name], array) for name, array in file.read(ours))

    return WeightFile(file.path, {n: file.shapes[t] for n, t in theirs.items()}, read, file.classes)


def class_names(file: safetensors.File) -> tuple[str, ...] | None:
    """The names of the classes that weights were trained on, where the file has them. Raises `CnncError` (E0610)."""
    if CLASSES not in file.metadata:
        return None
    try:
        names = read_json(file.metadata[CLASSES], CLASSES).items(0, CLASS_LIMIT)
        return tuple(name.text() for name in names)
    except Malformed as e:
        raise error("E0610", f"{file.path} is damaged: {e}", exit_code=DATA) from None
