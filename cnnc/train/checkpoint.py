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

NAME = "checkpoint.safetensors"
VERSION = "1"


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
    file = safetensors.open_file(path)
    try:
        if file.metadata["cnnc.checkpoint"] != VERSION:
            raise ValueError(f"version {file.metadata['cnnc.checkpoint'][:20]}")
        record = json.loads(file.metadata["run"])
        loss, correct, images = record["sums"]
        epoch, step, total = (int(record[k]) for k in ("epoch", "step", "total"))
        if min(epoch, step, total) < 0 or not isinstance(record["recipe"], dict):
            raise ValueError("its counts make no sense")
        return Checkpoint(
            {n: np.array(file.read(n)) for n in file.entries},
            epoch,
            step,
            total,
            (float.fromhex(loss), float.fromhex(correct), int(images)),
            tuple(dict(r) for r in record["history"]),
            record["recipe"],
        )
    except (KeyError, ValueError, TypeError, RecursionError) as e:
        raise damaged(path, str(e)) from e


def damaged(path: Path, why: str) -> CnncError:
    return error(
        "E0643",
        f"{path} is no checkpoint that can be resumed ({why[:200]})",
        exit_code=3,
        help="start anew: leave out --resume",
    )
