"""Compiled kernels on disk: used when they are what they say, rebuilt when not, and never needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from cnnc import storage
from cnnc.runtime import cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    path = tmp_path / "kernels"
    monkeypatch.setenv("CNNC_CACHE_DIR", str(path))
    return path


def code(name="k{}", built=b"code"):
    calls = []
    result = cache.object_code(name, "avx512", "id", lambda: calls.append(1) or built)
    return result, bool(calls)


def test_built_once(folder):
    assert code() == (b"code", True)
    assert code() == (b"code", False)
    assert code("other{}") == (b"code", True)
    assert [e.kernel for e in cache.entries()] == ["k{}", "other{}"]
    assert cache.clear() == 2
    assert code() == (b"code", True)


def test_only_the_owner_may_touch_it(folder):
    code()
    (path,) = folder.glob("*.o")
    assert folder.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.write_bytes(p.read_bytes()[:-1]),
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"x" * 500),
        lambda p: p.write_bytes(p.read_bytes()[:-1] + b"!"),
        lambda p: p.chmod(0o666),
    ],
)
def test_what_cannot_be_trusted_is_rebuilt(folder, damage):
    code()
    (path,) = folder.glob("*.o")
    damage(path)
    assert code() == (b"code", True)
    assert code() == (b"code", False)


def other_name(path):
    """The kernel's file under another's name."""
    cache.object_code("other{}", "avx512", "id", lambda: b"other")
    other = next(p for p in path.parent.glob("*.o") if p != path)
    path.write_bytes(other.read_bytes())


def link(path):
    path.rename(path.with_suffix(".x"))
    path.symlink_to(path.with_suffix(".x"))


def instead(make):
    def damage(path):
        path.unlink()
        make(path)

    return damage


@pytest.mark.parametrize(
    "damage",
    [other_name, link, instead(os.mkfifo), instead(os.mkdir), instead(lambda p: p.symlink_to("/dev/zero"))],
    ids=["other name", "link", "pipe", "folder", "device"],
)
def test_what_is_something_else_is_not_opened(folder, damage):
    """None of it hangs, and every kind of file of the folder is read so."""
    code()
    path = next(folder.glob("*.o"))
    damage(path)
    assert not cache.known("k{}", "avx512", "id")
    assert code() == (b"code", True)
    assert cache.entries()
    cache.clear()


def test_no_kernel_is_another(folder):
    """Whatever decides its code is in the file: a file answers to one name, target and identity alone."""
    keys = [(n, t, i) for n in ("a{}", "b{}") for t in ("avx512", "avx2") for i in ("1", "2")]
    for key in keys:
        cache.keep(*key, repr(key).encode())
    files = {key: cache._path(*key).read_bytes() for key in keys}
    for mine in keys:
        for theirs in keys:
            cache._path(*mine).write_bytes(files[theirs])
            assert cache.known(*mine) is (mine == theirs)


def test_damaged_files_are_listed_as_such(folder):
    code()
    (folder / "x.o").write_bytes(b"cnnc kernel 2\n\x1b[31mred\n\x00\xff\n\n\n" * 9)
    os.mkfifo(folder / "y.o")
    assert [(e.kernel, e.target) for e in cache.entries()] == [("damaged", ""), ("damaged", ""), ("k{}", "avx512")]


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda p: p.symlink_to("/dev/zero"), lambda p: p.write_bytes(b"x" * 999)]
)
def test_grammars_decisions_and_figures_are_read_alike(folder, make):
    from cnnc.backends.cpu import BACKEND, decisions, machine

    folder.mkdir(mode=0o700)
    tables = storage.grammar("ir.lark", propagate_positions=True).parse
    assert [p.name for p in folder.iterdir()] == ["ir.lark.tables"]
    for path in (folder / "ir.lark.tables", decisions.path_of(BACKEND.code), machine._path(BACKEND.code, 2)):
        path.unlink(missing_ok=True)
        make(path)
    again = storage.grammar("ir.lark", propagate_positions=True).parse
    text = "graph @g(%x: f32[N,3]) {\n  return %x\n}\n"
    assert decisions._read(decisions.path_of(BACKEND.code), BACKEND.code) == decisions.Tuning()
    assert machine.remembered(BACKEND.code, 2) is None
    assert again(text) == tables(text)
    assert storage.grammar("ir.lark", propagate_positions=True).parse(text) == tables(text)


def test_what_was_decided_elsewhere_is_of_another_machine(folder, monkeypatch):
    from cnnc.backends.cpu import BACKEND, decisions
    from cnnc.kernels.cpu.target import Pace

    path = decisions.path_of(BACKEND.code)
    decisions.remember(BACKEND.code, decisions.Tuning(Pace(2, 1, 1)))
    assert decisions._read(path, BACKEND.code).pace == Pace(2, 1, 1)
    monkeypatch.setattr("cnnc.backends.cpu.machine.processor", lambda: "another")
    assert decisions._read(path, BACKEND.code) == decisions.Tuning()


def test_the_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CNNC_CACHE_DIR", "~/x")
    assert storage.folder() == tmp_path / "x"
    monkeypatch.delenv("CNNC_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert storage.folder() == tmp_path / "c" / "cnnc"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no users here")
def test_a_user_without_a_home(tmp_path):
    """Nor a name: a folder of their own among the temporary ones, and nothing where somebody else has it."""
    program = """
import os, pwd
def nobody(*_): raise KeyError("no such user")
pwd.getpwuid = pwd.getpwnam = nobody
from cnnc import storage
storage.put(storage.folder() / "file", b"kept")
print(storage.folder(), storage.get(storage.folder() / "file"))
"""

    def said():
        run = [sys.executable, "-c", program]
        environment = {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        done = subprocess.run(run, env=environment, capture_output=True, text=True, cwd=tmp_path, check=True)
        return done.stdout.strip()

    mine = tmp_path / f"cnnc-{os.getuid()}"
    assert said() == f"{mine} b'kept'"
    assert mine.stat().st_mode & 0o077 == 0
    mine.chmod(0o777)
    assert said() == f"{mine} None"
    assert [p.name for p in tmp_path.iterdir()] == [mine.name]


def test_a_folder_of_others_is_not_used(folder):
    folder.mkdir(mode=0o777)
    os.chmod(folder, 0o777)
    assert code() == (b"code", True)
    assert code() == (b"code", True)
    assert not list(folder.glob("*.o"))


def test_a_full_disk_leaves_nothing_behind(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert code() == (b"code", True)
    assert not list(folder.iterdir())


def test_without_a_folder_it_works_all_the_same(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CNNC_CACHE_DIR", str(tmp_path / "file" / "kernels"))
    assert code() == (b"code", True)
