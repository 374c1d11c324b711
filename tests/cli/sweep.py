"""Every command with every state of its streams: `python -m tests.cli.sweep`; `sample` takes one state for each quick command.

Each command runs in a child forked from a process that has imported everything, so that a run takes a fraction of a second; the
child ends as an interpreter does, with all that is flushed then. Printed is a line for each pair that is wrong.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
MODEL = """\
model tiny(classes = 3) {
    input x: f32[N, 1, 6, 6]
    return x -> conv(4, 3) -> relu -> flatten -> linear(classes)
}
train { epochs = 2  batch = 8 }
"""
SLOW = {"bench", "gradcheck", "doctor", "compile", "cache"}
SAID, PRINTED = "says", "prints"  # what a command is for: its messages and files, or data on stdout
STATES = {
    "usual": {},
    "stdin closed": {0: "closed"},
    "stdout closed": {1: "closed"},
    "stdout full": {1: "full"},
    "stdout unread": {1: "unread"},
    "stderr closed": {2: "closed"},
    "stderr full": {2: "full"},
    "stderr unread": {2: "unread"},
    "both unread": {1: "unread", 2: "unread"},
    "none": {0: "closed", 1: "closed", 2: "closed"},
}


def commands(folder: Path) -> list[tuple[str, list[str], str, int]]:
    """(name, arguments, what it is for, exit code in the usual state)."""
    m, x, d = str(folder / "m.cnn"), str(folder / "x.npy"), str(folder / "d.npz")
    return [
        ("help", ["--help"], PRINTED, 0),
        ("version", ["--version"], PRINTED, 0),
        ("unknown", ["chekc"], SAID, 2),
        ("check", ["check", m], SAID, 0),
        ("check --json", ["check", m, "--json"], PRINTED, 0),
        ("check of nothing", ["check", str(folder / "no.cnn"), "--json"], SAID, 3),
        ("summary", ["summary", m], PRINTED, 0),
        ("summary --json", ["summary", m, "--json"], PRINTED, 0),
        ("ir", ["ir", m, "--all"], PRINTED, 0),
        ("ir --dump-dir", ["ir", m, "--dump-dir", str(folder / "stages")], SAID, 0),
        ("opt", ["opt", str(folder / "m.ir"), "--passes", "eliminate-dead"], PRINTED, 0),
        ("opt -o", ["opt", str(folder / "m.ir"), "-o", str(folder / "out.ir")], SAID, 0),
        ("opt -", ["opt", "-", "--list"], PRINTED, 0),
        ("graph", ["graph", m, "-o", str(folder / "m.svg")], SAID, 0),
        ("compile", ["compile", m, "-o", str(folder / "m.cnnx")], PRINTED, 0),
        ("run", ["run", m, "-i", x], PRINTED, 0),
        ("run --json -o", ["run", m, "-i", x, "--json", "-o", str(folder / "y.npz")], PRINTED, 0),
        ("train", ["train", m, "-d", d, "--out", str(folder / "run")], PRINTED, 0),
        ("train --json", ["train", m, "-d", d, "--out", str(folder / "run"), "--json"], PRINTED, 0),
        ("bench", ["bench", m, "--rounds", "1", "--block", "0", "--layers"], PRINTED, 0),
        ("gradcheck", ["gradcheck", m], PRINTED, 0),
        ("stats", ["stats", m], PRINTED, 0),
        ("cache list", ["cache", "list"], PRINTED, 0),
        ("cache warm", ["cache", "warm", m, "--mode", "infer", "--batch", "1"], SAID, 0),
        ("new", ["new", str(folder / "new"), "--force"], SAID, 0),
        ("new --list", ["new", "--list"], PRINTED, 0),
        ("explain", ["explain", "E0204"], PRINTED, 0),
        ("doctor", ["doctor", "--json"], PRINTED, -1),  # 4 where something is wrong with the machine
    ]


def expected(purpose: str, usual: int, state: str) -> set[int]:
    if purpose == PRINTED and state in ("stdout closed", "stdout full", "none"):
        return {3}
    if purpose == PRINTED and state in ("stdout unread", "both unread"):
        return {0}
    return {0, 4} if usual == -1 else {usual}


def arrange(state: str) -> None:
    """Put 0, 1 and 2 into a state, and `sys.stdin` and the others to what the interpreter makes of it."""
    for number in (0, 1, 2):
        match STATES[state].get(number, "usual"):
            case "closed":
                os.close(number)
            case "full":
                os.dup2(os.open("/dev/full", os.O_WRONLY), number)
            case "unread":
                reading, writing = os.pipe()
                os.close(reading)
                os.dup2(writing, number)
            case _:
                os.dup2(os.open(os.devnull, os.O_RDWR), number)
    closed = [STATES[state].get(number) == "closed" for number in (0, 1, 2)]
    sys.stdin = None if closed[0] else open(0, closefd=False)  # type: ignore[assignment]
    sys.stdout = None if closed[1] else open(1, "w", closefd=False)  # type: ignore[assignment]
    sys.stderr = None if closed[2] else open(2, "w", buffering=1, closefd=False)  # type: ignore[assignment]


def prepare(folder: Path) -> None:
    from cnnc.frontend import load
    from cnnc.ir.text import print_graph

    rng = np.random.default_rng(0)
    (folder / "m.cnn").write_text(MODEL)
    (folder / "m.ir").write_text(print_graph(load(folder / "m.cnn").graph))
    np.save(folder / "x.npy", rng.random((2, 1, 6, 6), np.float32))
    np.savez(folder / "d.npz", x=rng.random((30, 1, 6, 6), np.float32), y=np.arange(30) % 3)


def main() -> None:
    import cnnc.cli.train
    import cnnc.driver  # noqa: F401
    from cnnc.cli.main import COMMANDS, main

    sample = sys.argv[1:] == ["sample"]
    folder = Path(tempfile.mkdtemp())
    prepare(folder)
    table = commands(folder)
    missing = set(COMMANDS) - {arguments[0] for _, arguments, _, _ in table} - {"export", "import"}  # which need onnx
    assert not missing, missing
    wrong = count = 0
    for number, state in enumerate(STATES):
        for at, (title, arguments, purpose, usual) in enumerate(table):
            if sample and (arguments[0] in SLOW or at % (len(STATES) - 1) != number - 1):
                continue
            if arguments[0] == "train":
                arguments = [*arguments[:5], f"{arguments[5]}-{count}", *arguments[6:]]
            child = os.fork()
            if not child:
                signal.alarm(60)
                arrange(state)
                sys.argv = ["cnnc", *arguments]
                main()
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            count += 1
            if code not in expected(purpose, usual, state):
                wrong += 1
                print(f"{title}, {state}: exit code {code}, {expected(purpose, usual, state)} is right", flush=True)
            if arguments[0] == "train" and not (Path(arguments[5]) / "weights.safetensors").is_file():
                wrong += 1
                print(f"{title}, {state}: the run did not reach its end", flush=True)
    shutil.rmtree(folder)
    print(f"{count} runs, {wrong} wrong")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
