"""The same networks beside other programs that take the processor's time, with one thread and with two, and beside ONNX Runtime.

    python -m tests.bench.busy
    python -m tests.bench.busy lenet --spinning 0 1 --pause 0.005 --seconds 2
    python -m tests.bench.busy --markdown

Engines take turns in blocks while so many processes do nothing but spin. Each cell has the mean and the 90th percentile of whole calls
at batch 1, in ms; the last column those of our two threads over the better of our one thread and ONNX Runtime's two. With a line below
where programs of others ran as well.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from cnnc import driver
from cnnc.bench import engines, timing
from cnnc.bench.report import significant
from cnnc.interop import onnx
from cnnc.runtime.load import Load, Watch
from cnnc.table import Column, Table
from tests.bench import table

NETWORKS = ("lenet", "mobilenetv2", "resnet18")
ONE, TWO, PEER = "1 thread", "2 threads", "ONNX Runtime"
# A process that spins until this one is gone.
SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(10**6): pass"


@contextmanager
def spinning(count: int) -> Iterator[tuple[int, ...]]:
    """So many processes that take all the time they are given; their ids."""
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(count):
            processes.append(subprocess.Popen([sys.executable, "-I", "-S", "-c", SPIN]))
        time.sleep(0.3)  # until they spin
        yield tuple(p.pid for p in processes)
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def engines_of(name: str) -> dict[str, Callable[[], object]]:
    """Calls of one network by engine."""
    network = table.build(name)
    inputs = engines.random_inputs(network.graph, 1)
    calls: dict[str, Callable[[], object]] = {}
    for title, threads in ((ONE, 1), (TWO, 2)):
        executable = driver.compile(network, threads=threads)
        calls[title] = lambda executable=executable: executable.run(inputs)
    if all(find_spec(package) for package in engines.PACKAGES["onnxruntime"]):
        content = onnx.model(network.graph, network.weights, 1).SerializeToString()
        calls[PEER] = engines._onnxruntime(content, 2, inputs)
    return calls


def measure(
    calls: dict[str, Callable[[], object]], seconds: float, rounds: int, pause: float
) -> dict[str, timing.Timing]:
    """Each engine's calls over so many seconds, in blocks, the engines in one order and then in the other."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for name in list(calls)[:: 1 if turn % 2 == 0 else -1]:
            time.sleep(0.1)  # the threads of others go to sleep
            for _ in range(timing.WARM):
                calls[name]()
            end = time.perf_counter() + seconds / rounds
            while True:
                if pause:
                    time.sleep(pause)
                start = time.perf_counter()
                calls[name]()
                stop = time.perf_counter()
                times[name].append(1e3 * (stop - start))
                if stop > end:
                    break
    return {name: timing.timing(t) for name, t in times.items()}


def ratios(found: dict[str, timing.Timing]) -> tuple[float, float]:
    """Mean and 90th percentile of our two threads over the better of our one and the peer's two."""
    others = [found[name] for name in (ONE, PEER) if name in found]
    ours = found[TWO]
    return ours.mean / min(t.mean for t in others), ours.high / min(t.high for t in others)


def row(name: str, count: int, found: dict[str, timing.Timing]) -> tuple[str, ...]:
    cells = [f"{significant(t.mean)} / {significant(t.high)}" if (t := found.get(e)) else "" for e in (ONE, TWO, PEER)]
    return name, str(count), *cells, "{:.2f} / {:.2f}".format(*ratios(found))


TITLES = ("network", "spinning", "cnnc, 1 thread", "2 threads", "ONNX Runtime, 2", "ratio")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.busy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", default=NETWORKS, metavar="NETWORK", help=", ".join(table.NETWORKS))
    parser.add_argument("--spinning", nargs="+", type=int, default=[0, 1, 2, 4], metavar="N", help="processes")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each engine beside each number")
    parser.add_argument("--rounds", type=int, default=6, help="blocks of each engine")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds before each call")
    parser.add_argument("--markdown", action="store_true", help="as the README has it")
    given = parser.parse_args(arguments)
    for name in given.networks:
        if name not in table.NETWORKS:
            parser.error(f"no network '{name}': {', '.join(table.NETWORKS)}")
    if min(given.spinning) < 0 or given.rounds < 1:
        parser.error("there are 0 processes or more, and 1 round or more")
    rows, loads = [], list[Load]()
    for name in given.networks:
        calls = engines_of(name)
        for count in given.spinning:
            print(f"{name} beside {count}", file=sys.stderr, flush=True)
            with spinning(count) as children:
                watch = Watch(children)
                rows.append(row(name, count, measure(calls, given.seconds, given.rounds, given.pause)))
                loads += [load] if (load := watch.load()) is not None else []
    if given.markdown:
        print("\n".join(f"| {' | '.join(r)} |" for r in (TITLES, ("---", *["--:"] * 5), *rows)))
    else:
        print(Table([Column(title, i > 0) for i, title in enumerate(TITLES)], rows), end="")
    most = max(loads, key=lambda load: load.others, default=None)
    if most is not None and most.others > 0.1:
        print(f"the machine was busy otherwise too: {most} at most", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
