"""The Plans of networks that use every family of kernels, each as a digest of its text: what no change of the compiler's own
structure may change.

    python -m tests.lowering.digests             compare all with digests.json
    python -m tests.lowering.digests --write     the Plans are to be others: write them anew

A digest for each network, mode, instruction set, batch and number of workers. Estimates decide in place of timed runs, so that
the Plans are the same on all machines.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator
from itertools import product
from pathlib import Path

import cnnc
from cnnc import driver
from cnnc.backends.cpu import CpuBackend
from cnnc.kernels.cpu.target import TARGETS
from cnnc.lowering.lower import lower
from cnnc.passes.optimizer import SGD
from cnnc.passes.training import training_graph
from tests.networks import EXAMPLES

FILE = Path(__file__).with_suffix(".json")
BATCHES, WORKERS = (1, 7, 16), (1, 2)
FEW, WIDTHS = ((1, 1), (7, 2)), ("avx512", "neon")  # (batch, workers), and instruction sets, of what the tests compare

GROUPS = """
model groups() {
  input x: f32[N, 48, 20, 20]
  y = x -> conv(48, 3, groups=16, padding=1) -> relu -> conv(96, 1, groups=3)
  y = y -> conv(96, 3, groups=32, padding=1, stride=2) -> conv(60, 5, groups=12, padding=2)
  return y -> global_avgpool -> flatten -> linear(10)
}
"""
VOLUME = """
model volume() {
  input x: f32[N, 3, 8, 20, 20]
  y = x -> conv(32, 3, padding=1) -> batchnorm -> relu -> conv(32, [3, 1, 1], padding=[1, 0, 0])
  y = y -> conv(64, 3, stride=2, padding=1) -> conv(64, 3, groups=64, padding=1) -> relu
  return y -> global_avgpool -> flatten -> linear(10)
}
"""
LINE = """
model line() {
  input x: f32[N, 8, 200]
  y = x -> conv(32, 5, padding=2) -> relu -> conv(48, 3, dilation=2) -> maxpool(2) -> conv(48, 3, groups=48)
  return y -> global_avgpool -> flatten -> linear(7)
}
"""
DILATED = """
model dilated() {
  input x: f32[N, 3, 33, 35]
  y = x -> conv(40, 3, stride=2, padding=1) -> silu -> conv(40, 3, dilation=3, padding=3) -> avgpool(2)
  return y -> conv(24, 5, padding=2) -> elu -> flatten -> linear(9)
}
"""
FILES = (
    ("lenet5", {}),
    ("lenet5_relu", {}),
    ("alexnet", {}),
    ("vgg", {"depth": 11}),
    ("vgg", {"depth": 16}),
    ("resnet", {"depth": 18}),
    ("resnet", {"depth": 50}),
    ("mobilenetv2", {}),
)


def networks() -> Iterator[tuple[str, cnnc.Network]]:
    for file, parameters in FILES:
        yield file + "".join(map(str, parameters.values())), cnnc.load(EXAMPLES / f"{file}.cnn", **parameters)
    for text in (GROUPS, VOLUME, LINE, DILATED):
        network = cnnc.parse(text)
        yield network.graph.name, network


def digests(
    cases: Iterable[tuple[int, int]] = tuple(product(BATCHES, WORKERS)), sets: Iterable[str] = tuple(TARGETS)
) -> Iterator[tuple[str, str]]:
    """(which Plan, the first 16 digits of its text's SHA-256), for these batches and workers, and instruction sets."""
    cases = list(cases)
    for name, network in networks():
        for mode in ("infer", "train"):
            source = network.graph if mode == "infer" else training_graph(network.graph, optimizer=SGD(momentum=0.9))
            optimized = {}
            for isa in sets:
                target, backend = TARGETS[isa], CpuBackend(isa)
                if target.lanes not in optimized:
                    optimized[target.lanes] = driver.optimize(source, backend.layouts())[0]
                for batch, workers in cases:
                    plan = str(lower(optimized[target.lanes], batch, backend, workers))
                    key = f"{name} {mode} {isa} batch {batch} workers {workers}"
                    yield key, hashlib.sha256(plan.encode()).hexdigest()[:16]


def stored() -> dict[str, str]:
    return dict(json.loads(FILE.read_text()))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lowering.digests", description=__doc__.split("\n")[0])
    parser.add_argument("--write", action="store_true", help="write digests.json anew")
    options = parser.parse_args(arguments)
    found = dict(digests())
    if options.write:
        FILE.write_text(json.dumps(found, indent=0) + "\n")
        print(f"{len(found)} digests written")
        return 0
    known = stored()
    other = [key for key in {**known, **found} if known.get(key) != found.get(key)]
    print(f"{len(found)} Plans, {len(other)} other than before")
    for key in other:
        print(f"  {key}")
    return 1 if other else 0


if __name__ == "__main__":
    sys.exit(main())
