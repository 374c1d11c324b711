"""Checkpoints: everything that a run needs to go on as if it had not been stopped, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.diagnostics import CnncError, error
from cnnc.interop import safetensors
from cnnc.untrusted import FLOAT64, Field, Malformed, read_json

NAME = "checkpoint.safetensors"
VERSION = "1"
ROUNDED = 1 + 1e-9  # an accuracy of 1, as sums of float64 have it


@dataclass(frozen=True)
class Checkpoint:
    """values: params, running statistics and optimizer states by name. epoch: epochs that are done. step: steps of the
    epoch after them. total: steps of the whole run so far. sums: loss, correct answers and images of the epoch so far.
    history: the records of the epochs that are done. recipe: what the run was started with.
    """

    values: Mapping[str, NDArray[Any]] = field(repr=False)
    epoch: int
    step: int
    total: int
    sums: tuple[float, float, int]
    history: tuple[dict[str, Any], ...]
    recipe: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Write it whole or not at all. Raises `CnncError` (E0601)."""
        record = {
            "epoch": self.epoch,
            "step": self.step,
            "total": self.total,
            "sums": [float(self.sums[0]).hex(), float(self.sums[1]).hex(), self.sums[2]],
            "history": list(self.history),
            "recipe": dict(self.recipe),
        }
        safetensors.write_file(path, self.values, {"cnnc.checkpoint": VERSION, "run": json.dumps(record)})


def load(path: Path) -> Checkpoint:
    """Raises `CnncError` (E0601, E0610, E0643)."""
    file = safetensors.open_file(path, "checkpoint")
    file.verify()
    try:
        version = file.metadata.get("cnnc.checkpoint", "none")
        if version != VERSION:
            raise Malformed(f"version {version[:20]}")
        run = read_json(file.metadata.get("run", ""), "run").record(
            ("epoch", "step", "total", "sums", "history", "recipe")
        )
        epoch, step, total = run["epoch"].whole(), run["step"].whole(), run["total"].whole(0, 2**63)
        loss, right, images = run["sums"].items(3, 3)
        sums = loss.hexadecimal(-FLOAT64, FLOAT64), right.hexadecimal(0, FLOAT64), images.whole(0, 2**63)
        if (sums[2] == 0) != (step == 0) or sums[1] > sums[2] * ROUNDED:
            raise run["sums"].wrong(f"what {step} steps add up to")
        history = tuple(_epoch(f, i) for i, f in enumerate(run["history"].items(epoch, epoch)))
        recipe = run["recipe"].entries(100)
        if "epochs" in recipe and recipe["epochs"].whole() < epoch + (step > 0):
            raise run["epoch"].wrong("an epoch of this run")
    except Malformed as e:
        raise damaged(path, str(e)) from e
    values = {n: np.array(file.read(n)) for n in file.entries}
    return Checkpoint(values, epoch, step, total, sums, history, run["recipe"].value)


def _epoch(field: Field, i: int) -> dict[str, Any]:
    """The record of an epoch that is done."""
    record = field.record(("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "seconds"))
    record["epoch"].whole(i + 1, i + 2)
    record["loss"].number(-FLOAT64, FLOAT64)
    if record["accuracy"].value is not None:
        record["accuracy"].number(0, ROUNDED)
    if record["val_loss"].value is not None:
        record["val_loss"].number(-FLOAT64, FLOAT64)
    if record["val_accuracy"].value is not None:
        record["val_accuracy"].number(0, ROUNDED)
    record["seconds"].number(0, 1e9)
    return dict(field.value)


def damaged(path: Path, why: str) -> CnncError:
    return error(
        "E0643",
        f"{path} is no checkpoint that can be resumed ({why[:200]})",
        exit_code=3,
        help="start anew: leave out --resume",
    )
