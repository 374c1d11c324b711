"""Runs that are killed at random moments and go on: `python -m tests.robustness.kills --runs 300`.

Each process is the first of a process namespace of its own, as in a container, so that its id comes again each time. It
is killed (SIGKILL) at a random moment, half of the time while it writes, and started again with --resume, until it gets
to its end. After each kill the checkpoint must be readable and no older than the one before; at the end the weights must
be those of a run that nobody killed, to the bit, and no other file may be left. Any exit code but 0, and any run of more
than two minutes, fails.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cnnc.train import checkpoint
from tests.train.running import FILES, TEXT, data_in

ROOT = Path(__file__).parent.parent.parent
NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
PATIENCE = 120.0  # seconds; what takes longer hangs
MODEL = TEXT.replace("lr=0.1", "lr=0.05").replace("epochs = 4", "epochs = 100")
# The command itself, with a checkpoint after every epoch: what is tried are its writes.
CHILD = """
import sys
from cnnc.train import loop
loop.DEFAULTS["checkpoint_seconds"] = 0.0
from cnnc.cli.main import cli
cli.main(sys.argv[1:])
"""


@dataclass
class Outcome:
    """kills: processes that were killed; ends: runs that got to their end; wrong: what was not as it must be."""

    kills: int
    ends: int
    wrong: list[str]


def namespaces() -> bool:
    """Whether a process may have a process namespace of its own here."""
    if shutil.which(NAMESPACE[0]) is None:
        return False
    done = subprocess.run([*NAMESPACE, sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True)
    return done.returncode == 0 and done.stdout.strip() == b"1"


def prepare(folder: Path) -> None:
    """A model and data to train it on."""
    data_in(folder)
    (folder / "tiny.cnn").write_text(MODEL)


def command(out: Path, apart: bool, epochs: int, target: str) -> list[str]:
    options = ["train", "tiny.cnn", "--data", "data.npz", "--out", str(out), "--resume", "--epochs", str(epochs)]
    return [*(NAMESPACE if apart else ()), sys.executable, "-c", CHILD, *options, "--target", target]


@dataclass(frozen=True)
class Moment:
    """When a process is killed: after some seconds; or so many seconds after it has begun to write for the n-th time."""

    seconds: float
    writes: int | None = None


def run(arguments: Sequence[str], folder: Path, out: Path, moment: Moment | None) -> tuple[int | None, str]:
    """The exit code, or None where it was killed; and what it said. Raises TimeoutExpired."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(arguments, cwd=folder, env=environment, stdout=said, stderr=said)
        seconds = PATIENCE if moment is None else moment.seconds
        if moment is not None and moment.writes is not None:
            _wait_for_writes(process, out, moment.writes)
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            if moment is None:
                raise
            code = None
        said.seek(0)
        return code, said.read().decode(errors="replace")


def _wait_for_writes(process: subprocess.Popen[bytes], out: Path, count: int) -> None:
    """Until other files are being written for the n-th time, or the process ends."""
    end, before = time.monotonic() + PATIENCE, set()
    while process.poll() is None and time.monotonic() < end:
        now = {name for name in os.listdir(out) if name.endswith(".tmp")} if out.is_dir() else set()
        count -= bool(now - before)
        if count <= 0:
            return
        before = now
        time.sleep(0.0005)


def progress(out: Path) -> tuple[int, int]:
    """Epochs and steps that the checkpoint of a run knows. Raises `CnncError` where it cannot be read."""
    path = out / checkpoint.NAME
    if not path.exists():
        return 0, 0
    found = checkpoint.load(path)
    return found.epoch, found.total


def kills(
    runs: int, seed: int = 0, epochs: int = 100, apart: bool = True, target: str = "cpu", show: bool = False
) -> Outcome:
    """Kill `runs` processes, and let every run that was begun get to its end."""
    rng, outcome = random.Random(seed), Outcome(0, 0, [])
    with tempfile.TemporaryDirectory(prefix="cnnc-kills-") as name:
        folder = Path(name)
        prepare(folder)
        for _ in range(1 if target == "reference" else 2):  # the first one compiles kernels
            shutil.rmtree(folder / "whole", ignore_errors=True)
            start = time.monotonic()
            code, said = run(command(folder / "whole", apart, epochs, target), folder, folder / "whole", None)
            takes = time.monotonic() - start
            if code != 0:
                return Outcome(0, 0, [f"the run that nobody kills ends with {code}: {said}"])
        expected = (folder / "whole" / "weights.safetensors").read_bytes()
        while outcome.kills < runs:
            out = folder / f"cut-{outcome.ends}"
            _one(outcome, command(out, apart, epochs, target), folder, out, runs, takes, rng)
            outcome.ends += 1
            if {p.name for p in out.iterdir()} != FILES:
                outcome.wrong.append(f"left behind: {sorted(p.name for p in out.iterdir())}")
            elif (out / "weights.safetensors").read_bytes() != expected:
                outcome.wrong.append(f"run {outcome.ends} ends with other weights")
            elif len((out / "metrics.jsonl").read_text().splitlines()) != epochs:
                outcome.wrong.append(f"run {outcome.ends} has metrics of other epochs")
            if show:
                print(f"{outcome.kills} kills, {outcome.ends} runs, {len(outcome.wrong)} faults", file=sys.stderr)
            shutil.rmtree(out)
    return outcome


def _one(
    outcome: Outcome, arguments: Sequence[str], folder: Path, out: Path, runs: int, takes: float, rng: random.Random
) -> None:
    """One run, killed until it gets to its end."""
    before = (0, 0)
    while True:
        moment = None
        if outcome.kills < runs:  # half of them while they write
            writing = rng.random() < 0.5
            moment = (
                Moment(rng.uniform(0, 0.01), rng.randrange(1, 20)) if writing else Moment(rng.uniform(0, 1.1 * takes))
            )
        try:
            code, said = run(arguments, folder, out, moment)
        except subprocess.TimeoutExpired:
            outcome.wrong.append(f"a run hangs after {outcome.kills} kills")
            return
        outcome.kills += code is None
        if code is not None and code != 0:
            outcome.wrong.append(f"exit code {code} after {outcome.kills} kills: {said[-500:]}")
            return
        now = progress(out)
        if now < before:
            outcome.wrong.append(f"the checkpoint went back from {before} to {now}")
        before = now
        if code == 0:
            return


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--runs", type=int, default=300, help="processes to kill")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--epochs", type=int, default=100, help="of each run")
    parser.add_argument("--target", default="cpu", help="cpu, or reference, which starts sooner")
    options = parser.parse_args()
    apart = namespaces()
    if not apart:
        print("no process namespaces here: ids are those of this machine", file=sys.stderr)
    outcome = kills(options.runs, options.seed, options.epochs, apart, options.target, show=True)
    print(json.dumps({"kills": outcome.kills, "runs": outcome.ends, "namespaces": apart, "wrong": outcome.wrong}))
    return 1 if outcome.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
