"""How many threads there are by default: affinity, and the quotas of control groups as systems and containers show them."""

from __future__ import annotations

import os

import pytest

from cnnc.runtime import cgroup, threads

TWO = "30 24 0:26 {root} {mount} rw,nosuid - cgroup2 cgroup2 rw"
ONE = "33 24 0:29 {root} {mount} rw - cgroup cgroup rw,cpu,cpuacct"
OTHER = "24 1 0:22 / /sys rw,nosuid - sysfs sysfs rw\n31 24 0:27 / /sys/memory rw - cgroup cgroup rw,memory"


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Makes what the system says: group paths, mounts, and files of groups."""
    cgroup.folders.cache_clear()
    monkeypatch.setattr(cgroup, "PROC", tmp_path / "proc")

    def make(groups: str, mounts: str, files: dict[str, str], root: str = "/") -> None:
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc" / "cgroup").write_text(groups)
        mount = str(tmp_path / "groups").replace(" ", "\\040")
        (tmp_path / "proc" / "mountinfo").write_text(f"{OTHER}\n{mounts.format(root=root, mount=mount)}\n")
        for name, text in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    yield make
    cgroup.folders.cache_clear()


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{folder}cpu.cfs_quota_us": f"{quota}\n", f"{folder}cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("groups", "mounts", "root", "files", "expected"),
    [
        ("0::/a/b\n", TWO, "/", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", TWO, "/", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000"}, 3),
        ("0::/a/b\n", TWO, "/", {"a/b/cpu.max": "800000 100000\n", "a/cpu.max": "50000 100000"}, 0.5),
        ("0::/a/b\n", TWO, "/", {"a/b/cpu.max": "max 100000\n"}, None),
        ("0::/\n", TWO, "/", {"cpu.max": "200000 100000\n"}, 2),  # a namespace of its own
        ("0::/docker/7\n", TWO, "/docker/7", {"cpu.max": "200000 100000\n"}, 2),  # only its own group is mounted
        ("0::/docker/7\n", TWO, "/", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/../other\n", TWO, "/", {"cpu.max": "200000 100000\n"}, 2),
        ("4:cpu,cpuacct:/x\n1:name=systemd:/y\n0::/\n", ONE, "/", v1("x/", 250_000), 2.5),
        ("4:cpu,cpuacct:/x\n", ONE, "/", v1("x/", -1) | v1("", 100_000), 1),
        ("4:cpu,cpuacct:/docker/7\n", ONE, "/docker/7", v1("", 100_000, 50_000), 2),
        ("4:cpu:/x\n", ONE, "/", {}, None),
        ("4:cpu:/x\n", ONE, "/", v1("x/", 0), None),
        ("0::/a\n", TWO, "/", {"a/cpu.max": "nonsense\n"}, None),
        ("0::/a\n", TWO, "/", {"a/cpu.max": "100000 0\n"}, None),
        ("nonsense\n", "nonsense", "/", {}, None),
        ("", "", "/", {}, None),
    ],
)
def test_quotas(system, groups, mounts, root, files, expected):
    system(groups, mounts, files, root)
    assert cgroup.quota() == expected


@pytest.mark.usefixtures("system")
def test_where_there_are_no_groups():
    assert cgroup.folders("cpu") == ()
    assert threads.cores() == threads.affinity()


@pytest.mark.parametrize(
    ("quota", "cores"),
    [(None, 8), (0.1, 1), (0.5, 1), (1, 1), (1.4, 1), (1.5, 2), (2, 2), (2.4, 2), (7.6, 8), (64, 8)],
)
def test_cores_of_a_quota(monkeypatch, quota, cores):
    monkeypatch.setattr(threads, "quota", lambda: quota)
    monkeypatch.setattr(threads, "affinity", lambda: 8)
    assert threads.cores() == cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_affinity():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert threads.cores() == threads.affinity() == 1
    finally:
        os.sched_setaffinity(0, before)
