"""Compiled kernels on disk: used when they are what they say, rebuilt when not, and never needed."""

from __future__ import annotations

import os

import pytest

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
