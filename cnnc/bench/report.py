"""What is said of a run: tables and JSON."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cnnc import __version__
from cnnc.backends.cpu.machine import processor
from cnnc.bench.engines import OURS
from cnnc.bench.timing import Timing
from cnnc.lowering.figures import Figures
from cnnc.runtime.load import Load
from cnnc.runtime.profile import LayerTime
from cnnc.table import Column, Table

PACKAGES = ("onnxruntime", "openvino", "torch", "numba", "llvmlite", "numpy")


def versions() -> dict[str, str]:
    found = {"cnnc": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(frozen=True)
class Report:
    """One network, mode and batch. differences: of each peer's results from ours."""

    network: str
    mode: str
    batch: int
    threads: int
    target: str
    timings: Mapping[str, Timing]
    differences: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    layers: Sequence[LayerTime] = ()
    figures: Figures | None = None
    load: Load | None = None

    @property
    def busy(self) -> bool:
        """Whether other programs took what the engines needed."""
        return self.load is not None and self.load.busy(self.threads)

    @property
    def verdict(self) -> str:
        """What is to be said below the table; nothing without a peer on a quiet machine."""
        if self.busy:
            return f"the machine is busy: {self.load}; these times say little of the programs"
        return "" if self.ratio is None else f"the best peer, {self.best}, takes {self.ratio:.2f} times our time"

    @property
    def best(self) -> str | None:
        """The fastest peer."""
        peers = {name: t.median for name, t in self.timings.items() if name != OURS}
        return min(peers, key=peers.__getitem__, default=None)

    @property
    def ratio(self) -> float | None:
        """The best peer's time over ours."""
        best = self.best
        return None if best is None else self.timings[best].median / self.timings[OURS].median

    def to_json(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "mode": self.mode,
            "batch": self.batch,
            "threads": self.threads,
            "target": self.target,
            "processor": processor(),
            "versions": versions(),
            "machine": None if self.figures is None else self.figures.to_json(),
            "engines": [
                {
                    "name": name,
                    "median_ms": t.median,
                    "least_ms": t.least,
                    "mean_ms": t.mean,
                    "p10_ms": t.low,
                    "p90_ms": t.high,
                    "calls": t.calls,
                    "images_per_second": 1e3 * self.batch / t.median,
                    "difference": self.differences.get(name),
                }
                for name, t in self.timings.items()
            ],
            "best_peer": self.best,
            "ratio": self.ratio,
            "busy": self.busy,
            "others_cores": None if self.load is None else self.load.others,
            "left_out": dict(self.left_out),
            "layers": [self._layer(r) for r in self.layers],
        }

    def share_of_peak(self, row: LayerTime) -> float | None:
        if self.figures is None or not row.flops:
            return None
        return row.gflops / self.figures.peak(self.threads)

    def _layer(self, row: LayerTime) -> dict[str, Any]:
        return {
            "layer": row.layer,
            "op": row.op,
            "algorithm": row.algorithm,
            "why": row.why,
            "ms": 1e3 * row.seconds,
            "flops": row.flops,
            "bytes": row.bytes,
            "gflops": row.gflops,
            "share_of_peak": self.share_of_peak(row),
            "gigabytes_per_second": row.gigabytes,
        }

    @property
    def title(self) -> str:
        what = "inference" if self.mode == "infer" else "a training step"
        return f"{self.network}, {what} at batch {self.batch}, {self.threads} thread{'s' * (self.threads > 1)}"

    def engines_table(self) -> Table:
        """A row per engine; the ratio is its time over ours."""
        rows = []
        for name, t in self.timings.items():
            ratio = "" if name == OURS else f"{t.median / self.timings[OURS].median:.2f}"
            difference = f"{self.differences[name]:.1e}" if name in self.differences else ""
            rows.append(
                (
                    name,
                    significant(t.median),
                    f"{significant(t.low)} - {significant(t.high)}",
                    significant(t.least),
                    f"{1e3 * self.batch / t.median:.1f}",
                    ratio,
                    difference,
                )
            )
        columns = (
            Column("engine"),
            Column("median, ms", True),
            Column("p10 - p90", True, leaves=2),
            Column("least", True, leaves=5),
            Column("images/s", True, leaves=4),
            Column("time / ours", True, leaves=1),
            Column("difference", True, leaves=3),
        )
        return Table(columns, rows, self.title)

    def layers_table(self) -> Table:
        total = sum(r.seconds for r in self.layers) or 1.0
        rows = []
        for r in self.layers:
            share = self.share_of_peak(r)
            rows.append(
                (
                    r.layer,
                    r.op,
                    r.algorithm,
                    f"{1e3 * r.seconds:.3f}",
                    f"{100 * r.seconds / total:.1f}%",
                    f"{r.gflops:.1f}" if r.flops else "",
                    "" if share is None else f"{100 * share:.0f}%",
                    f"{r.gigabytes:.1f}",
                )
            )
        columns = (
            Column("layer"),
            Column("op", leaves=2),
            Column("algorithm", leaves=1),
            Column("ms", True),
            Column("share", True, leaves=5),
            Column("GFLOP/s", True, leaves=3),
            Column("of\npeak", True, leaves=4),
            Column("GB/s", True, leaves=6),
        )
        peak = "" if self.figures is None else f", peak {self.figures.peak(self.threads):.0f} GFLOP/s"
        note = (
            f"{1e3 * sum(r.seconds for r in self.layers):.2f} ms in all, each step launched by itself{peak}. "
            "Operations are those of direct computation; bytes those that must move."
        )
        return Table(columns, rows, notes=[note])

    def reasons(self) -> list[str]:
        """Why each layer runs as it does."""
        return [f"{r.layer} ({r.op}): {r.why}" for r in self.layers if r.why]


def significant(value: float) -> str:
    """Three digits that count."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
