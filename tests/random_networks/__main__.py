"""Random networks on demand: `python -m tests.random_networks --seeds 100..200`.

Each seed is checked in a process of its own, under limits of time and memory. Of one that fails, the network is shrunk
and printed, ready to be put into `tests/random_networks/cases`.

With `--log FILE` all are checked in this process, which shares what is compiled, by a few settings each, and the file has a
line for each that is done: the same command goes on where it was interrupted. Those that fail are for a second look.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cnnc.ir.graph import Graph
from cnnc.ir.text import parse_graph, print_graph
from tests.random_networks.check import Checker, Setting, check
from tests.random_networks.generate import network
from tests.random_networks.shrink import shrink

FORK = multiprocessing.get_context("fork")  # what is imported once serves all


def apart(work: Callable[[Any], None], seconds: float, gigabytes: float) -> tuple[str, list[str]]:
    """Run in a process of its own: what went wrong ("" if nothing did), and what it reported on the way."""
    here, there = FORK.Pipe(duplex=False)

    def body() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (int(gigabytes * 2**30),) * 2)
        try:
            work(lambda text: there.send(("at", str(text))))
        except BaseException as e:
            there.send(("failed", f"{type(e).__name__}: {e}"))

    process = FORK.Process(target=body)
    process.start()
    there.close()
    reports: list[str] = []
    failure, end = "", time.monotonic() + seconds
    try:
        while here.poll(max(end - time.monotonic(), 0)):
            kind, text = here.recv()
            if kind == "at":
                reports.append(text)
            else:
                failure = text
        failure = failure or f"not done within {seconds:g} seconds"
    except EOFError:
        pass
    if process.is_alive() and time.monotonic() >= end:
        process.kill()
    process.join()
    if process.exitcode and not failure:
        failure = f"ended by signal {-process.exitcode}" if process.exitcode < 0 else f"exit code {process.exitcode}"
    return failure, reports


def same_failure(setting: Setting, failure: str, seconds: float, gigabytes: float) -> Callable[[Graph], bool]:
    """Whether a network fails in a setting, in the same manner."""
    kind = failure.partition(":")[0].partition(" ")[0]

    def fails(graph: Graph) -> bool:
        found, _ = apart(lambda report: Checker(graph).check(setting), seconds, gigabytes)
        return found.startswith(kind)

    return fails


def investigate(name: str, graph: Graph, arguments: argparse.Namespace) -> bool:
    """Check a network; shrink it where it fails. True where it does not."""
    limits = (arguments.seconds, arguments.memory)
    turn = int("".join(c for c in name if c.isdigit()) or 0)
    failure, reports = apart(lambda report: check(graph, not arguments.quick, turn, report), *limits)
    if not failure:
        return True
    setting = Setting.parse(reports[-1]) if reports else None
    print(f"# {name}: {setting}: {failure.partition(chr(10))[0]}", flush=True)
    if setting is not None and arguments.shrink:
        fails = same_failure(setting, failure, *limits)
        small = shrink(graph, fails) if fails(graph) else graph
        again, _ = apart(lambda report: Checker(small).check(setting), *limits)
        print(f"# shrunk: {again.partition(chr(10))[0]}\n{print_graph(small)}", flush=True)
    return False


def sweep(seeds: Sequence[int], log: Path, until: float) -> int:
    """Check seeds that a log does not have yet; how many of all have failed."""
    known = log.read_text().splitlines() if log.exists() else []
    done = {int(line.split()[0]) for line in known}
    begin, failed = time.monotonic(), sum(line.split()[1] != "passed" for line in known)
    with log.open("a") as file:
        for seed in seeds:
            if seed in done:
                continue
            if time.monotonic() - begin > until:
                break
            setting = None

            def tell(tried: Setting) -> None:
                nonlocal setting
                setting = tried

            try:
                check(network(seed), thorough=False, turn=seed, report=tell)
                result = "passed"
            except Exception as e:  # whatever it is, it is this network's
                message = str(e).partition("\n")[0]
                result, failed = f"failed {setting}: {type(e).__name__}: {message}", failed + 1
            file.write(f"{seed} {result}\n")
            file.flush()
            done.add(seed)
    print(f"{len(done)} networks, {failed} failed", flush=True)
    return 1 if failed else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.random_networks", description=__doc__)
    parser.add_argument("--seeds", default="0..20", help="FIRST..LAST, the last not included; or one seed")
    parser.add_argument("--case", type=Path, action="append", default=[], help="a network's IR, instead of seeds")
    parser.add_argument("--quick", action="store_true", help="a few settings each, as in the test suite")
    parser.add_argument("--seconds", type=float, default=120, help="limit for each network")
    parser.add_argument("--memory", type=float, default=8, help="limit in GiB, of address space")
    parser.add_argument("--until", type=float, default=float("inf"), help="begin no network after so many seconds")
    parser.add_argument("--no-shrink", dest="shrink", action="store_false")
    parser.add_argument("--log", type=Path, help="what is done and what came of it, with all in this process")
    arguments = parser.parse_args()
    first, dots, last = arguments.seeds.partition("..")
    seeds = range(int(first), int(last) if dots else int(first) + 1)
    if arguments.log is not None:
        return sweep(seeds, arguments.log, arguments.until)
    begin, done, failed = time.monotonic(), 0, 0
    networks: Any = [(str(p), None) for p in arguments.case] or ((f"seed {s}", s) for s in seeds)
    for name, seed in networks:
        if time.monotonic() - begin > arguments.until:
            break
        graph = network(seed) if seed is not None else parse_graph(Path(name).read_text(encoding="utf-8"), name)
        failed += not investigate(name, graph, arguments)
        done += 1
    print(f"{done} networks, {failed} failed, {time.monotonic() - begin:.0f} s", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
