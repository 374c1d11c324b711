"""cnnc beside PyTorch, ONNX Runtime and OpenVINO on the same networks.

    python -m tests.bench infer lenet resnet18 vgg11 --batch 1
    python -m tests.bench train resnet18 --batch 16
    python -m tests.bench set --json figures.json --readme
    python -m tests.bench set --json figures.json --only resnet50 train/8

The first two forms time networks in this process. `set` goes through the whole set, each network, mode and batch in a
process of its own, and goes on where it was stopped: what the file of `--json` has is not timed again without
`--again`. `--readme` rewrites the README's table and picture from that file. How engines take turns is in `cnnc/bench/timing.py`.
Needs `pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from cnnc.bench.engines import Setting
from cnnc.bench.run import run
from cnnc.diagnostics import CnncError, did_you_mean
from cnnc.runtime.threads import cores
from tests.bench import chart, table

QUICK = {"infer": ["onnxruntime", "openvino", "torch"], "train": ["torch"]}  # without a minute of compiling


def one(name: str, arguments: argparse.Namespace) -> None:
    """Time a network and print a line; keep the record where a file is given."""
    mode, batch = arguments.mode, arguments.batch
    against = QUICK[mode] if arguments.against is None else arguments.against.split(",")
    target = f"cpu-{arguments.isa}" if arguments.isa else "cpu"
    report = run(
        Setting(table.build(name), mode, batch, arguments.threads, [a for a in against if a], target),
        name,
        rounds=arguments.rounds,
        block=arguments.block,
        progress=lambda text: print(f"{name}: {text}", file=sys.stderr),
    )
    shown = " | ".join(f"{engine} {t.median:.3g}" for engine, t in report.timings.items())
    best = "" if report.ratio is None else f" | best peer / cnnc {report.ratio:.2f}"
    busy = f" | the machine is busy: {report.load}" if report.busy else ""
    print(f"{name} {mode} batch {batch}: {shown}{best}{busy}", flush=True)
    if arguments.json:
        table.keep(arguments.json, table.key(name, mode, batch), report.to_json())


def everything(arguments: argparse.Namespace) -> int:
    """The set, a process each; how many failed."""
    failed = []
    for name, mode, batch in table.wanted(arguments.only):
        key = table.key(name, mode, batch)
        if key in table.read(arguments.json) and not arguments.again:
            print(f"{key}: done before", file=sys.stderr)
            continue
        against = ",".join(table.PEERS[mode]) if arguments.against is None else arguments.against
        command = [sys.executable, "-m", "tests.bench", mode, name, "--batch", batch, "--threads", arguments.threads]
        command += ["--rounds", arguments.rounds, "--block", arguments.block, "--json", arguments.json]
        command += ["--against", against, *(["--isa", arguments.isa] if arguments.isa else [])]
        if subprocess.run(list(map(str, command)), cwd=table.ROOT).returncode:
            failed.append(key)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return len(failed)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mode", choices=["infer", "train", "set"])
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", type=float, default=0.5, help="seconds; 3 calls at least")
    parser.add_argument("--against", help="engines, separated by commas")
    parser.add_argument("--isa", choices=["avx512", "avx2", "sse2"], help="hold all engines to narrower vectors")
    parser.add_argument("--json", type=Path, help="file of the records")
    parser.add_argument("--only", nargs="*", default=[], metavar="PART", help="of the set, such as vgg16 or infer/16")
    parser.add_argument("--again", action="store_true", help="time anew what the file has")
    parser.add_argument("--readme", action="store_true", help="rewrite the README's table from the file")
    arguments = parser.parse_args()
    for name in arguments.networks:
        if name not in table.NETWORKS:
            parser.error(did_you_mean(name, table.NETWORKS) or f"networks are {', '.join(table.NETWORKS)}")
    if arguments.mode == "set":
        if arguments.json is None:
            parser.error("set keeps its records in a file: --json FILE")
        arguments.json = arguments.json.resolve()
        code = 1 if everything(arguments) else 0
    elif not arguments.networks:
        parser.error(f"name a network: {', '.join(table.NETWORKS)}")
    else:
        if arguments.isa:
            from cnnc.cli.bench import hold

            for line in hold(arguments.isa, tuple(table.PEERS[arguments.mode])):
                print(line, file=sys.stderr)
        code = 0
        for name in arguments.networks:
            try:
                one(name, arguments)
            except CnncError as e:
                print(e, file=sys.stderr)
                code = e.exit_code
    if arguments.readme:
        if arguments.json is None:
            parser.error("the table is made from a file: --json FILE")
        table.rewrite(table.README, table.read(arguments.json))
        chart.main()
    return code


if __name__ == "__main__":
    sys.exit(main())
