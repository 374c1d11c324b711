"""The folder of a run: its files, each written whole or not at all, and again later where the disk does not take them."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from cnnc.diagnostics import CnncError, error
from cnnc.files import sweep, write_text
from cnnc.network import Network
from cnnc.streams import say
from cnnc.train import checkpoint
from cnnc.train.checkpoint import Checkpoint

WEIGHTS, METRICS, RECIPE = "weights.safetensors", "metrics.jsonl", "recipe.json"
WITHIN_SECONDS = 60.0  # between checkpoints within an epoch, at least
WITHIN_SHARE = 50  # and as many times what the last one took: 2% of the time at most
LAST_SECONDS = 60.0  # for which the last write of a run is tried again
_UNWRITTEN = ("E0601", "E0644")  # what trying again may help against


def run_folder(out: str | Path | None, name: str, resume: bool) -> Path:
    """The folder of a run; it need not be there."""
    if out is not None:
        folder = Path(out)
    else:
        taken = [
            p for p in (Path("runs") / (name if i == 1 else f"{name}-{i}") for i in range(1, 10_000)) if p.exists()
        ]
        new = Path("runs") / (name if not taken else f"{name}-{len(taken) + 1}")
        folder = taken[-1] if resume and taken else new
    return folder


def check_unused(folder: Path) -> None:
    """Raises `CnncError` (E0645) where a run is in the folder: no training is lost to a name given twice."""
    there = [name for name in (checkpoint.NAME, WEIGHTS, METRICS, RECIPE) if (folder / name).is_file()]
    if there:
        raise error(
            "E0645",
            f"{folder} has a run already",
            f"it holds {', '.join(there)}",
            help="--resume goes on with it, --force replaces it, --out names another folder",
            exit_code=2,
        )


def make_folder(folder: Path) -> None:
    """Make it, and sweep what killed runs left in it. Raises `CnncError` (E0644) where it cannot be made or written
    to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (WEIGHTS, METRICS, RECIPE, checkpoint.NAME):
            sweep(folder / name)
        with TemporaryFile(dir=folder):
            pass
    except (OSError, ValueError) as e:
        reason = e.strerror if isinstance(e, OSError) else str(e)
        raise error(
            "E0644", f"cannot write to the run folder {folder}: {reason}", help="choose another with --out", exit_code=3
        ) from e


class Keeper:
    """Writes what a run keeps. A write that fails is said and tried again later: training goes on, for what it has
    done is in memory."""

    def __init__(self, folder: Path, network: Network, record: Mapping[str, Any]) -> None:
        self.folder, self.network, self.record = folder, network, record
        self._saved = self._tried = time.monotonic()
        self._took = 0.0
        self._whole = True  # whether the metrics on disk have a line for each epoch

    def since(self) -> float:
        """Seconds since the last checkpoint that was written."""
        return time.monotonic() - self._saved

    def due(self) -> bool:
        """Whether it is time for a checkpoint within an epoch."""
        return time.monotonic() - self._tried >= max(WITHIN_SECONDS, WITHIN_SHARE * self._took)

    def save(self, point: Checkpoint) -> bool:
        """Everything that the folder holds; whether it could be written."""
        try:
            self._write(point)
        except CnncError as e:
            self._say(e, "training goes on, and this is tried again later")
            return False
        return True

    def finish(self, point: Checkpoint, seconds: float | None = None) -> None:
        """`save` at the end of a run: tried again for some seconds. Raises `CnncError` (E0601, E0644)."""
        seconds = LAST_SECONDS if seconds is None else seconds
        end, said = time.monotonic() + seconds, False
        while True:
            try:
                return self._write(point)
            except CnncError as e:
                if e.diagnostics[0].code not in _UNWRITTEN or time.monotonic() >= end:
                    raise
                if not said:
                    self._say(e, f"this is tried again for {seconds:.0f} s")
                    said = True
            time.sleep(min(1.0, seconds / 10))

    def describe(self, history: Sequence[Mapping[str, Any]]) -> None:
        """The recipe and the metrics of the weights that are in the folder: a run that ends before it has any leaves
        those of the run before it as they are. A failure is said, no more."""
        try:
            self._describe(history)
        except CnncError as e:
            self._say(e, "training goes on, and this is tried again later")

    def add(self, history: Sequence[Mapping[str, Any]]) -> None:
        """The metrics of one more epoch, the last of the history. A failure is said, no more."""
        try:
            if self._whole:
                self._whole = False
                with (self.folder / METRICS).open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(history[-1]) + "\n")
                self._whole = True
            else:
                self._metrics(history)
        except OSError as e:
            self._say(_unwritten(self.folder / METRICS, e), "training goes on, and this is tried again later")
        except CnncError as e:
            self._say(e, "training goes on, and this is tried again later")

    def _write(self, point: Checkpoint) -> None:
        self._tried = time.monotonic()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise _unwritten(self.folder, e) from e
        point.save(self.folder / checkpoint.NAME)
        self.network.save_weights(self.folder / WEIGHTS)
        self._describe(point.history)
        self._saved = time.monotonic()
        self._took = self._saved - self._tried

    def _describe(self, history: Sequence[Mapping[str, Any]]) -> None:
        try:
            write_text(self.folder / RECIPE, json.dumps(self.record, indent=2, ensure_ascii=False) + "\n")
        except OSError as e:
            raise _unwritten(self.folder / RECIPE, e) from e
        self._metrics(history)

    def _metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        try:
            write_text(self.folder / METRICS, "".join(json.dumps(r) + "\n" for r in history))
        except OSError as e:
            raise _unwritten(self.folder / METRICS, e) from e
        self._whole = True

    def _say(self, e: CnncError, what: str) -> None:
        say(f"{e.diagnostics[0].message}; {what}")


def _unwritten(path: Path, e: OSError) -> CnncError:
    return error("E0644", f"cannot write {path}: {(e.strerror or str(e)).lower()}", exit_code=3)
