"""What the machine can do: measured, remembered, and never taken from a file that cannot be trusted."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from cnnc.backends import backend
from cnnc.backends.cpu import machine
from cnnc.lowering.plan import KernelName
from cnnc.runtime import cache


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The CPU with its kernels loaded, and an empty folder to remember in."""
    found = backend("cpu").code
    found.address(KernelName("peak", (("chains", found.target.registers - 4),)))
    found.address(KernelName("stream"))
    found.driver()
    monkeypatch.setenv("CNNC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(machine, "AGREE", 1e9)  # however busy the machine is
    return found


def test_what_runs_disagree_on_is_not_remembered(host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "AGREE", 0.0)
    monkeypatch.setattr(machine, "RUN", 0.0005)
    assert machine.figures(host).peak_one > 0
    assert machine.remembered(host) is None


@pytest.mark.alone
def test_measured_and_remembered(host) -> None:
    assert machine.remembered(host) is None
    start = time.perf_counter()
    figures = machine.figures(host)
    assert time.perf_counter() - start < 10  # below a second on a quiet machine
    assert machine.remembered(host) == figures
    assert machine.figures(host) == figures
    assert figures.target == host.name
    assert 0.1 < figures.peak_one < 2000
    assert 0 < figures.peak_all
    assert figures.levels[-1].name == "memory"
    assert all(0 < level.one < 20_000 and 0 < level.all for level in figures.levels)
    assert figures.peak(1) == figures.peak_one
    assert machine.remembered(host, figures.threads + 1) is None


def test_what_was_once_faster_stays(host) -> None:
    first = machine.measure(host, 1)
    fast = dataclasses.replace(
        first, peak_one=1e6, levels=tuple(dataclasses.replace(level, all=1e6) for level in first.levels)
    )
    machine._write(machine._path(host, 1), fast)
    again = machine.measure(host, 1)
    assert (again.peak_one, again.peak_all < 1e6) == (1e6, True)
    assert all((level.all, level.one < 1e6) == (1e6, True) for level in again.levels)
    assert machine.remembered(host, 1) == again


def test_a_file_that_cannot_be_trusted_is_not_read(host) -> None:
    machine.measure(host, 1)
    (path,) = (Path(p) for p in machine.folder().glob("machine-*.json"))
    record = json.loads(path.read_text())
    for wrong in ("", "[]", "{}", json.dumps({**record, "format": 0}), json.dumps({**record, "levels": [1]})):
        path.write_text(wrong)
        assert machine.remembered(host, 1) is None
    path.write_text(json.dumps(record))
    assert machine.remembered(host, 1) is not None
    path.chmod(0o666)
    assert machine.remembered(host, 1) is None
    cache.clear()
    assert not path.exists()


def test_a_folder_that_cannot_be_written_costs_another_measurement(host, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CNNC_CACHE_DIR", str(tmp_path / "file"))
    assert machine.measure(host, 1).threads == 1
    assert machine.remembered(host, 1) is None


def test_caches(tmp_path, monkeypatch) -> None:
    for i, (level, kind, size, cores) in enumerate(
        [
            ("1", "Data", "48K", "0"),
            ("1", "Instruction", "32K", "0"),
            ("3", "Unified", "32M", "0-3,8"),
            ("x", "", "", ""),
        ]
    ):
        folder = tmp_path / f"index{i}"
        folder.mkdir()
        for name, text in (("level", level), ("type", kind), ("size", size), ("shared_cpu_list", cores)):
            (folder / name).write_text(text + "\n")
    monkeypatch.setattr(machine, "_SYSFS", tmp_path)
    assert machine.caches() == (machine.Cache("L1", 48 * 2**10, 1), machine.Cache("L3", 32 * 2**20, 5))
    monkeypatch.setattr(machine, "_SYSFS", tmp_path / "none")
    assert machine.caches() == ()


def test_without_caches_memory_alone_is_measured(host, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(machine, "_SYSFS", tmp_path / "none")
    assert [level.name for level in machine.measure(host, 1).levels] == ["memory"]
