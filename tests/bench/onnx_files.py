"""Any ONNX files: whether cnnc agrees with ONNX Runtime on them, and how long both take.

    python -m tests.bench.onnx_files net.onnx more/*.onnx
    python -m tests.bench.onnx_files detector.onnx --input-shape image=1,3,480,640 --batch 1 4

Inputs are normal random numbers. Where a file leaves sizes open, those of `--size` are tried, or what `--input-shape` says.
The difference is relative to the largest value of each output (at least 1); times are medians over blocks that take turns.
Needs `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import cnnc
from cnnc.bench.timing import alternate
from cnnc.diagnostics import CnncError
from cnnc.ir.types import BATCH
from cnnc.runtime.threads import cores

Array = np.ndarray[Any, Any]


def shapes(
    network: cnnc.Network, batches: list[int], sizes: list[int], given: Mapping[str, list[int]]
) -> Iterator[dict[str, list[int]]]:
    """The inputs' shapes, one after the other."""
    wanted = {n: list(s) for n, s in cnnc.compile(network, target="reference").input_shapes.items()}
    opened = any(isinstance(d, str) and d not in (BATCH, "batch") for s in wanted.values() for d in s)
    for batch in batches:
        for size in sizes if opened and not given else sizes[:1]:
            yield {n: given.get(n) or [_size(d, batch, size) for d in s] for n, s in wanted.items()}


def _size(d: int | str, batch: int, size: int) -> int:
    return d if isinstance(d, int) else batch if d in (BATCH, "batch") else size


def compare(
    path: Path, inputs: Mapping[str, Array], call: Any, threads: int, rounds: int, block: float
) -> tuple[float, float, float]:
    """The difference, our time and ONNX Runtime's in milliseconds."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    feed = dict(zip((i.name for i in session.get_inputs()), inputs.values(), strict=True))
    try:
        theirs = session.run(None, feed)
    except Exception as e:
        raise ValueError(
            f"ONNX Runtime refuses {[a.shape for a in feed.values()]}: {str(e).splitlines()[0][:60]}"
        ) from None
    ours = list(call(dict(inputs)).values())
    pairs = zip(ours, theirs, strict=True)
    difference = max(float(np.abs(a - b).max(initial=0) / max(1.0, np.abs(b).max(initial=0))) for a, b in pairs)
    times = alternate(
        {"cnnc": lambda: call(dict(inputs)), "onnxruntime": lambda: session.run(None, feed)}, rounds, block
    )
    return difference, times["cnnc"].median, times["onnxruntime"].median


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.onnx_files",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="NET.onnx")
    parser.add_argument("--batch", nargs="*", type=int, default=[1])
    parser.add_argument("--size", nargs="*", type=int, default=[224, 320])
    parser.add_argument("--input-shape", nargs="*", default=[], metavar="NAME=1,3,64,64")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", type=float, default=0.3)
    arguments = parser.parse_args()
    given = {n: [int(v) for v in s.split(",")] for n, _, s in (t.partition("=") for t in arguments.input_shape)}
    worst, rng = 0.0, np.random.default_rng(0)
    print(f"{'file':32} {'input':20} {'difference':>10} {'cnnc':>9} {'ORT':>9} {'ratio':>6}")
    for path in arguments.files:
        try:
            network = cnnc.load(path)
            executable = cnnc.compile(network, threads=arguments.threads)
            for shape in shapes(network, arguments.batch, arguments.size, given):
                inputs = {n: rng.standard_normal(s).astype(np.float32) for n, s in shape.items()}
                d, a, b = compare(path, inputs, executable.run, arguments.threads, arguments.rounds, arguments.block)
                shown = "x".join(map(str, next(iter(shape.values()))))
                print(f"{path.stem[:32]:32} {shown:20} {d:10.1e} {a:9.3f} {b:9.3f} {b / a:6.2f}", flush=True)
                worst = max(worst, d)
        except CnncError as e:
            print(f"{path.stem[:32]:32} {str(e).splitlines()[0]}", flush=True)
            worst = np.inf
        except ValueError as e:
            print(f"{path.stem[:32]:32} {e}", flush=True)
    return 0 if worst <= 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
