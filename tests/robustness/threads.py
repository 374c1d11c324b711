"""`python -m tests.robustness.threads --runs 20`: threads that all begin at once, in processes that know no kernel yet.

Every thread compiles the same networks in another order, calls them at several batch sizes and takes training steps, with
timed runs. All must end in time, with the same bits.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = """
import sys, threading
import numpy as np, cnnc
from cnnc import driver
from cnnc.passes.optimizer import SGD

count, full = int(sys.argv[1]), sys.argv[2] == "full"
TEXTS = ["model a { input x: f32[N, 16, 9, 9] return x -> conv(16, 1) -> relu -> flatten -> linear(3) }"]
if full:
    TEXTS += ["model d { input x: f32[N, 16, 9, 9] return x -> conv(16, 3, padding=1) -> relu -> flatten -> linear(3) }",
              "model b { input x: f32[N, 16, 9, 9] return x -> conv(32, 1) -> batchnorm -> relu -> maxpool(3) -> flatten -> linear(3) }",
              "model c { input x: f32[N, 16, 9, 9] return x -> conv(48, 5, padding=2) -> relu -> global_avgpool -> flatten -> linear(3) }"]
shared = cnnc.compile(cnnc.parse(TEXTS[0]))
found, barrier = {}, threading.Barrier(count)

def images(n):
    return np.random.default_rng(n).standard_normal((n, 16, 9, 9)).astype(np.float32)

def work(me):
    barrier.wait()
    results = {}
    for i in range(len(TEXTS)):
        at = (i + me) % len(TEXTS)
        net = cnnc.parse(TEXTS[at])
        exe = cnnc.compile(net)
        for n in [(k + me) % 3 + 1 for k in range(3)] if full else [1 + me % 2, 2 - me % 2]:
            results[at, n] = exe(images(n)).tobytes()
            results["shared", n] = shared(images(n)).tobytes()
        if full:
            loss, gradients = cnnc.value_and_grad(net)(images(2), [0, 2])
            results[at, "loss"] = loss
    found[me] = results

threads = [threading.Thread(target=work, args=(me,)) for me in range(count)]
for t in threads: t.start()
for t in threads: t.join()
assert len(found) == count, "a thread failed"
whole = found[0]
assert all(whole[key] == value for each in found.values() for key, value in each.items()), "other bits"
"""


def run(threads: int, full: bool, seconds: float) -> str:
    """Run once from an empty cache; what went wrong, or nothing."""
    with tempfile.TemporaryDirectory(prefix="cnnc-threads-") as folder:
        environment = {**os.environ, "CNNC_CACHE_DIR": folder, "CNNC_TUNE": "1"}
        command = [sys.executable, "-c", PROGRAM, str(threads), "full" if full else "small"]
        root = Path(__file__).parent.parent.parent
        try:
            done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"not done after {seconds:.0f} s"
        return "" if done.returncode == 0 and not done.stderr else f"exit {done.returncode}: {done.stderr[-2000:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=300)
    options = parser.parse_args()
    failed = 0
    for i in range(options.runs):
        start = time.perf_counter()
        wrong = run(options.threads, True, options.seconds)
        failed += bool(wrong)
        print(f"run {i + 1}: {time.perf_counter() - start:.1f} s {wrong or 'ok'}", flush=True)
    print(f"{options.runs - failed} of {options.runs} runs of {options.threads} threads were right")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
