"""What was measured of this machine and decided by timed runs, remembered in the cache folder.

Algorithms and the parts of sums decide how results are rounded, so what was decided once stays: by processor and kernels, whatever the
number of threads, until the folder is cleared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from cnnc.backends.cpu import machine
from cnnc.backends.cpu.code import Code
from cnnc.kernels.cpu.target import Pace
from cnnc.storage import folder, get, put
from cnnc.untrusted import Field, Malformed, read_json

FORMAT = 3
# The kernels whose times decide: of direct and of Winograd's convolution, what packs their weights, what measures the pace.
FAMILIES = (
    "conv_direct", "conv_pack_weights", "conv_weight_gradient", "conv_pixel_weight_gradient", "conv_weight_gradient_nchw",
    "winograd", "winograd_pack_weights", "winograd_weight_gradient", "peak", "stream",
)  # fmt: skip
MOST = 4096  # decisions that are kept
MANY, NAME = 64, 100  # algorithms of a problem, and characters of one's name
PACES = (0.01, 100.0)  # no machine is further from another

_tunings: dict[Path, Tuning] = {}


@dataclass(frozen=True)
class Decision:
    """What timed runs said: the algorithm by name, and the least microseconds of those that ran; of none, where the estimate
    decides. settled: whether that holds for later processes too; otherwise they try again.
    """

    algorithm: str
    microseconds: Mapping[str, float]
    settled: bool = True


@dataclass
class Tuning:
    """What a machine was found to be: its pace, None while it is unknown, and the decisions by problem. settled: whether the pace was
    measured, rather than assumed since measurements disagreed.
    """

    pace: Pace | None = None
    decisions: dict[str, Decision] = field(default_factory=dict)
    settled: bool = True

    def to_json(self) -> dict[str, Any]:
        pace = None if self.pace is None else asdict(self.pace)
        decisions = {
            key: {"algorithm": d.algorithm, "microseconds": d.microseconds} for key, d in self.decisions.items()
        }
        return {"pace": pace, "decisions": decisions}


@lru_cache(maxsize=16)
def _file(place: Path, target: str) -> Path:
    key = f"{machine.processor()}\n{target}"
    return place / f"decisions-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def path_of(code: Code) -> Path:
    return _file(folder(), code.name)


def remembered(code: Code) -> Tuning:
    """What was decided: by this process, which begins with what is in the folder."""
    path = path_of(code)
    if path not in _tunings:
        _tunings.setdefault(path, _read(path, code))
    return _tunings[path]


def _read(path: Path, code: Code) -> Tuning:
    """What a file says; nothing where it is damaged, of other kernels, or of somebody else."""
    data = get(path)
    if data is None:
        return Tuning()
    try:
        record = read_json(data, path.name)
        given = record.record((*_whose(code), "pace", "decisions"))
        if {name: given[name].value for name in _whose(code)} != _whose(code):
            return Tuning()
        return parse(record)
    except Malformed:
        return Tuning()


def _whose(code: Code) -> dict[str, Any]:
    """What a file must say for its decisions to be of this machine and these kernels."""
    return {"format": FORMAT, "kernels": code.version(*FAMILIES), "processor": machine.processor()}


def parse(record: Field) -> Tuning:
    """What `to_json` made, or an earlier version: decisions alone. Raises `Malformed`."""
    given = record.entries()
    pace = Field(None, "pace")
    if "decisions" in given:
        pace, decisions = given.get("pace", pace), given["decisions"].entries(2 * MOST)
    else:
        decisions = record.entries(2 * MOST)
    names = [f.name for f in fields(Pace)]
    speeds = None if pace.value is None else pace.record(names)
    return Tuning(
        None if speeds is None else Pace(**{name: speeds[name].number(*PACES) for name in names}),
        {key: _decision(d) for key, d in decisions.items()},
    )


def _decision(field: Field) -> Decision:
    d = field.record(("algorithm", "microseconds"))
    runs = d["microseconds"].entries(MANY, NAME)
    return Decision(d["algorithm"].text(NAME), {name: run.number(0, 1e12) for name, run in runs.items()})


def remember(code: Code, found: Tuning) -> None:
    """Keep what was decided; where another process was first, its decision stays."""
    path, here = path_of(code), remembered(code)
    elsewhere, new = _read(path, code), found.decisions
    first = {
        k: d for k, d in elsewhere.decisions.items() if k in new and d.algorithm in (*new[k].microseconds, "direct")
    }
    if here.pace is None:
        here.pace = elsewhere.pace or found.pace
        here.settled = elsewhere.pace is not None or found.settled
    here.decisions = {**elsewhere.decisions, **here.decisions, **new, **first}  # others may be reading those of before
    lasting = [(key, d) for key, d in here.decisions.items() if d.settled]
    kept = Tuning(here.pace if here.settled else elsewhere.pace, dict(lasting[-MOST:]))
    put(path, json.dumps({**_whose(code), **kept.to_json()}, indent=0).encode())
