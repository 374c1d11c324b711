"""From a network to a `Report`: build the engines, compare, time in turns, look at the layers."""

from __future__ import annotations

from dataclasses import replace

from cnnc.bench import engines
from cnnc.bench.report import Report
from cnnc.bench.timing import alternate
from cnnc.diagnostics import error
from cnnc.runtime import profile
from cnnc.runtime.compiled import Compiled
from cnnc.runtime.load import Watch

CHECK = 4  # exit code: a check failed


def run(
    setting: engines.Setting,
    name: str | None = None,
    layers: bool = False,
    rounds: int = 5,
    block: float = 0.5,
    progress: engines.Progress = engines.silent,
) -> Report:
    """Time a network. layers: also step by step, beside what the machine can do.

    Raises `CnncError`: E0811 (exit code 4) where results differ, E0810 and E0650 for engines that are not there.
    """
    setting = replace(setting, against=engines.known(setting.against))
    network, mode, batch, threads = setting.network, setting.mode, setting.batch, setting.threads
    made = engines.training if mode == "train" else engines.inference
    differences: dict[str, float] = {}
    random = mode == "train" and bool(setting.against) and bool(network.graph.of("dropout"))
    case = made(replace(setting, network=engines.without_dropout(network)) if random else setting, progress)
    if len(case.engines) > 1:
        progress("comparing" + (" without dropout" if random else ""))
        differences = case.compare()
        wrong = [f"{e} by {d:.1e}" for e, d in differences.items() if not d <= case.bound]
        if wrong:
            raise error(
                "E0811",
                f"the engines disagree: {', '.join(wrong)} of the largest value",
                f"at most {case.bound:g} is explained by rounding",
                exit_code=CHECK,
            )
    if random:
        case = made(setting, progress)
    watch = Watch()
    timings = alternate(case.engines, rounds, block, progress=progress)
    load = watch.load()
    rows: list[profile.LayerTime] = []
    figures = None
    if layers:
        progress("timing the layers")
        compiled = case.executable.runner
        assert isinstance(compiled, Compiled)
        figures = compiled.backend.speed(threads, again=True)  # it takes half a second and the best stays
        timed = profile.steps(compiled, case.inputs, max(3, min(25, int(200 / timings[engines.OURS].median))))
        rows = profile.layers(case.executable.graph, timed, batch)
    name = name or network.name
    name_of = case.executable.runner.backend.name
    return Report(name, mode, batch, threads, name_of, timings, differences, case.left_out, rows, figures, load)
