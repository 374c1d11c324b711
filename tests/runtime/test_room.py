"""Memory that is not there is refused before it is used: limits of control groups, of address space, of the machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import cnnc
from cnnc.diagnostics import CnncError
from cnnc.runtime import cgroup, device, room

ROOT = Path(__file__).parent.parent.parent
MIB = 2**20
NET = "model m(width=4) { input x: f32[N, 3, 32, 32] return x -> conv(width, 3, padding=1) -> relu -> flatten -> linear(10) }"


@pytest.fixture
def group(tmp_path, monkeypatch):
    """Puts this process into a group /a/b of a version, with files by name for each of the two."""

    def make(new, outer, inner):
        mount = tmp_path / "mount"
        for folder, files in ((mount / "a", outer), (mount / "a" / "b", inner)):
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in files.items():
                (folder / name).write_text(text)
        kind = f"cgroup2 cgroup {'rw'}" if new else "cgroup cgroup rw,memory"
        (tmp_path / "mountinfo").write_text(f"1 0 0:1 / {mount} rw - {kind}\n")
        (tmp_path / "cgroup").write_text("0::/a/b\n" if new else "4:memory:/a/b\n")
        monkeypatch.setattr(cgroup, "PROC", tmp_path)
        cgroup.folders.cache_clear()
        return mount

    yield make
    cgroup.folders.cache_clear()


def two(limit, used, idle=0):
    return {"memory.max": f"{limit}\n", "memory.current": f"{used}\n", "memory.stat": f"anon 5\ninactive_file {idle}\n"}


def one(limit, used, idle=0):
    stat = f"total_inactive_file {idle}\nhierarchical_memory_limit 7\n"
    return {"memory.limit_in_bytes": f"{limit}\n", "memory.usage_in_bytes": f"{used}\n", "memory.stat": stat}


@pytest.mark.parametrize(("new", "files"), [(True, two), (False, one)], ids=["version 2", "version 1"])
def test_the_group_that_leaves_the_least(group, new, files):
    unlimited = "max" if new else 2**63 - 4096
    mount = group(new, files(100 * MIB, 40 * MIB, 10 * MIB), files(90 * MIB, 40 * MIB))
    assert cgroup.memory() == (50 * MIB, mount / "a" / "b")
    group(new, files(80 * MIB, 40 * MIB, 5 * MIB), files(90 * MIB, 40 * MIB))
    assert cgroup.memory() == (45 * MIB, mount / "a")
    group(new, files(80 * MIB, 90 * MIB), files(unlimited, 40 * MIB))
    assert cgroup.memory() == (0, mount / "a")
    group(new, files(unlimited, 1), files(unlimited, 1))
    assert cgroup.memory() is None
    group(new, {next(iter(files(1, 1))): "nonsense"}, files(90 * MIB, 40 * MIB))
    assert cgroup.memory() == (50 * MIB, mount / "a" / "b")


def refused(call):
    with pytest.raises(CnncError, match="control group") as e:
        call()
    assert (e.value.diagnostics[0].code, e.value.exit_code) == ("E0410", 5)
    assert e.value.diagnostics[0].help


def test_everything_that_asks_for_memory(group, tmp_path):
    net = cnnc.parse(NET, width=64)  # 3 MiB of weights
    net.save_weights(tmp_path / "w.safetensors")
    x = np.zeros((64, 3, 32, 32), np.float32)
    exe, small = cnnc.compile(net), cnnc.compile(cnnc.parse(NET))
    group(True, two("max", 1), two(100 * MIB, 98 * MIB + MIB // 2))
    refused(lambda: exe(x))
    refused(lambda: exe(x[:1]))
    refused(lambda: cnnc.compile(net, batch=1))
    refused(lambda: net.load_weights(tmp_path / "w.safetensors"))
    refused(lambda: cnnc.Trainer(net))
    refused(lambda: cnnc.value_and_grad(net)(x, np.zeros(64, np.int64)))
    refused(lambda: device.aligned_empty(2 * MIB))
    assert small(x[:1]).shape == (1, 10)
    assert cnnc.compile(net, batch=None).memory(64).total > 2 * MIB  # planning takes none
    group(True, two("max", 1), two(1000 * MIB, 0))
    assert exe(x).shape == (64, 10)


def test_measuring_and_timed_runs_make_do_with_what_is_left(group, tmp_path, monkeypatch):
    """A small network runs where what measures the machine would not."""
    monkeypatch.setenv("CNNC_CACHE_DIR", str(tmp_path / "cache"))
    group(True, two("max", 1), two(100 * MIB, 60 * MIB))
    exe = cnnc.compile(cnnc.parse(NET, width=16), tune=True)
    assert exe(np.zeros((1, 3, 32, 32), np.float32)).shape == (1, 10)


def test_what_is_left_of_the_machine(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    10240 kB\nSwapFree:  2048 kB\n")
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "meminfo")
    room.check(12 * MIB)
    with pytest.raises(CnncError, match="12 MiB are left by this machine"):
        room.check(13 * MIB)
    monkeypatch.setattr(room, "MEMINFO", tmp_path / "nothing")
    room.check(13 * MIB)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="address space is limited on Linux")
def test_a_limit_of_address_space(tmp_path):
    (tmp_path / "wide.cnn").write_text(NET)
    program = (
        "import resource, sys\nfrom cnnc.cli.main import main\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({1500 * MIB}, {1500 * MIB}))\n"
        "sys.argv = ['cnnc', 'run', sys.argv[1], '-p', 'width=40000', '--input', sys.argv[2]]\nsys.exit(main())"
    )
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 32, 32), np.float32))
    run = [sys.executable, "-c", program, str(tmp_path / "wide.cnn"), str(tmp_path / "x.npy")]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=100, env=environment, check=False)
    assert done.returncode == 5, done.stderr
    assert "error[E0410]" in done.stderr
