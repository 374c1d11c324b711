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
from cnnc.data.dataset import ArraySamples, Dataset, FileSamples
from cnnc.files import escaped
from cnnc.frontend.recipes import Recipe
from cnnc.frontend.values import show
from cnnc.ir.objective import written
from cnnc.network import Network
from cnnc.passes.optimizer import Optimizer
from cnnc.train.optimizers import describe

SHOWN = 6
LISTED = 1000  # files of a data set that a recipe names one by one
MAY_DIFFER = ("versions", "files")  # of a run that is resumed
PACKAGES = ("numpy", "numba", "llvmlite", "pillow")


def provenance(
    network: Network,
    recipe: Recipe,
    dataset: Dataset,
    data: str | Path | Dataset,
    seed: int,
    weights: tuple[Path, Mapping[str, str]] | None,
    optimizer: Optimizer,
    target: str = "cpu",
    classes: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The recipe of a run: the model's text by its hash and its parameters, the data by its hash, all settings, seed,
    versions. weights: the file that it starts from, and the map of its names.
    """
    program = network.program
    record = {
        "model": {
            "name": program.model,
            "sha256": _text_hash(program.source.text),
            "graph_sha256": _text_hash(str(program.graph)),
            "parameters": {k: _plain(v) for k, v in program.arguments.items()},
        },
        "data": {**_fingerprint(dataset), "classes": None if classes is None else list(classes)},
        "weights": None
        if weights is None
        else {"sha256": _file_hash(weights[0]), **({"map": dict(weights[1])} if weights[1] else {})},
        "loss": written(recipe.losses),
        "optimizer": dict(describe(optimizer)),
        "schedule": str(recipe.schedule),
        "epochs": recipe.epochs,
        "batch": recipe.batch,
        "augment": [str(c) for c in recipe.augment],
        "freeze": list(recipe.freeze),
        **({"freeze_statistics": list(recipe.freeze_statistics)} if recipe.freeze_statistics else {}),
        **{k: str(v) for k, v in (("init", recipe.init), ("bias_init", recipe.bias_init)) if v is not None},
        "groups": {k: dict(v) for k, v in recipe.groups.items()},
        "seed": seed,
        "target": target,
        "files": {
            "model": escaped(program.path) if program.path else None,
            "data": None if isinstance(data, Dataset) else escaped(data),
            "weights": None if weights is None else escaped(weights[0]),
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


def _file_hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(1 << 22):
            digest.update(piece)
    return digest.hexdigest()


def _fingerprint(data: Dataset) -> dict[str, Any]:
    """A digest of what is read, and of each file: of images by their names and sizes, of arrays by their bytes. Of many
    files, one of each folder.
    """
    source = data.source
    if source is None:
        return {"sha256": _array_hash(data)}
    if not source.files:
        return {"sha256": _file_hash(source.root)}
    images = isinstance(data.train.samples, FileSamples)
    files = {
        escaped(f.relative_to(source.root).as_posix()): f"{f.stat().st_size} bytes" if images else _file_hash(f)
        for f in source.files
    }
    if len(files) > LISTED:
        groups: dict[str, list[str]] = {}
        for name, content in files.items():
            groups.setdefault(name.rpartition("/")[0] or ".", []).append(f"{name}\0{content}")
        files = {name: f"{len(g)} files, {_text_hash(chr(10).join(g))[:12]}" for name, g in groups.items()}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode())
    for split in (data.train, data.test):
        digest.update(split.numbers.tobytes())
    return {"sha256": digest.hexdigest(), "files": files}


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
    found: list[str] = []
    for key in now:
        if key in free or before.get(key) == now[key]:
            continue
        found += (_changed_files(before.get(key), now[key]) if key == "data" else []) or _changed(
            key, before.get(key), now
        )
    return found[:SHOWN]


def _changed(key: str, old: Any, now: Mapping[str, Any]) -> list[str]:
    """What of a setting differs, in words; a digest says no more than that there is a difference."""
    new = now[key]
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [f"{key}: {_short(old)} then, {_short(new)} now"]
    name = now.get("files", {}).get(key)
    content = f"{key}: the content of {name} is another one" if name else f"{key}: its content is another one"
    words = [
        content if sub.endswith("sha256") else f"{key}.{sub}: {_short(old.get(sub))} then, {_short(new.get(sub))} now"
        for sub in {**old, **new}
        if old.get(sub) != new.get(sub)
    ]
    return list(dict.fromkeys(words))


def _changed_files(before: Any, now: Mapping[str, Any]) -> list[str]:
    """Which files of the data differ, in words; none where that is not known."""
    old, new = before.get("files") if isinstance(before, dict) else None, now.get("files")
    if not isinstance(old, dict) or not isinstance(new, dict):
        return []
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    words = [
        f"data: {name} is new"
        if name not in old
        else f"data: {name} is gone"
        if name not in new
        else f"data: {name} is another one: {_short(old[name])} then, {_short(new[name])} now"
        for name in names
    ]
    more = len(words) - SHOWN + 1
    return words if more <= 1 else [*words[: SHOWN - 1], f"data: {more} more files differ"]


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
