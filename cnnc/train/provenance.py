"""What a run was made of: everything that its weights follow from, as plain data."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cnnc import __version__
from cnnc.data.dataset import ArraySamples, Dataset
from cnnc.frontend.recipes import Recipe
from cnnc.frontend.values import show
from cnnc.network import Network
from cnnc.passes.optimizer import Optimizer
from cnnc.train.optimizers import describe

SHOWN = 6
MAY_DIFFER = ("versions", "files")  # of a run that is resumed
PACKAGES = ("numpy", "numba", "llvmlite", "pillow")


def provenance(
    network: Network,
    recipe: Recipe,
    data: str | Path | Dataset,
    seed: int,
    weights: str | Path | None,
    optimizer: Optimizer,
    target: str = "cpu",
    classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The recipe of a run: the model's text by its hash and its parameters, the data by its hash, all settings, seed,
    versions.
    """
    program = network.program
    record = {
        "model": {
            "name": program.model,
            "sha256": _text_hash(program.source.text),
            "graph_sha256": _text_hash(str(program.graph)),
            "parameters": {k: _plain(v) for k, v in program.arguments.items()},
        },
        "data": {
            "sha256": _array_hash(data) if isinstance(data, Dataset) else _path_hash(Path(data)),
            "classes": None if classes is None else list(classes),
        },
        "weights": None if weights is None else {"sha256": _path_hash(Path(weights))},
        "loss": str(recipe.loss),
        "optimizer": dict(describe(optimizer)),
        "schedule": str(recipe.schedule),
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "augment": [str(c) for c in recipe.augment],
        "freeze": list(recipe.freeze),
        "groups": {k: dict(v) for k, v in recipe.groups.items()},
        "seed": seed,
        "target": target,
        "files": {
            "model": str(program.path) if program.path else None,
            "data": None if isinstance(data, Dataset) else str(data),
            "weights": None if weights is None else str(weights),
        },
        "versions": {
            "cnnc": __version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            **dict(_versions()),
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(record))  # lists for tuples, as it is read back
    return plain


def _plain(value: Any) -> Any:
    """A model's parameter as JSON: layers and blocks by their names."""
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, bool | int | float | str) else show(value)


def _text_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _path_hash(path: Path) -> str:
    """Of a file's bytes; of a folder, of its files' names and sizes."""
    digest = hashlib.sha256()
    if path.is_dir():
        for file in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def _array_hash(data: Dataset) -> str:
    digest = hashlib.sha256()
    for split in (data.train, data.test):
        digest.update(split.labels.tobytes())
        digest.update(split.numbers.tobytes())
        if isinstance(split.samples, ArraySamples):
            digest.update(np.ascontiguousarray(split.samples.array).tobytes())
    return digest.hexdigest()


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, metadata.version(package)
        except metadata.PackageNotFoundError:
            continue


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Settings of two runs that differ, in words; `epochs` may grow where the schedule does not depend on it."""
    longer = not now["schedule"].startswith("cosine") and now["epochs"] >= before.get("epochs", 0)
    free = (*MAY_DIFFER, "epochs") if longer else MAY_DIFFER
    found = [
        f"{key}: {_short(before.get(key))} then, {_short(now.get(key))} now"
        for key in now
        if key not in free and before.get(key) != now[key]
    ]
    return found[:SHOWN]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
