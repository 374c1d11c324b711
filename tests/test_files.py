"""Files written whole or not at all, and what those leave behind who die while they write."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cnnc import files
from cnnc.files import replacing, sweep, write_text


def test_a_file_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "one")
    write_text(path, "two")
    assert path.read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_file_before(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("tw")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["1", "4711", "0123456789abcdef"])
def test_leftovers_of_the_dead_are_swept(tmp_path: Path, name: str) -> None:
    (tmp_path / f".a.txt.{name}.tmp").write_text("tw")
    for other in (".a.txt.mine.tmp", ".b.txt.1.tmp", "a.txt.1.tmp"):
        (tmp_path / other).write_text("mine")
    (tmp_path / ".a.txt.2.tmp").mkdir()
    write_text(tmp_path / "a.txt", "two")
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"a.txt", ".a.txt.mine.tmp", ".b.txt.1.tmp", "a.txt.1.tmp", ".a.txt.2.tmp"}


DIE = """
import os, sys
from cnnc.files import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("tw")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(os.name == "nt", reason="signals and locks of POSIX")
def test_who_dies_while_writing_is_found_dead(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    subprocess.run([sys.executable, "-c", DIE, str(path)], cwd=Path(__file__).parent.parent, check=False)
    assert len(list(tmp_path.iterdir())) == 1
    with replacing(path) as mine:  # swept here; who lives is left alone
        assert [p.name for p in tmp_path.iterdir()] == [mine.name]
        assert sweep(path) == 0
        write_text(path, "other")
        assert mine.exists()
    assert path.read_text() == ""


def test_without_locks_age_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "fcntl", None)
    young, old = tmp_path / ".a.txt.1.tmp", tmp_path / ".a.txt.2.tmp"
    young.write_text("")
    old.write_text("")
    os.utime(old, (0, 0))
    assert sweep(tmp_path / "a.txt") == 1
    assert young.exists()


def test_permissions_follow_the_mask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "")
        with replacing(tmp_path / "b", mode=0o600):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600


def test_only_files_are_replaced(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        write_text(tmp_path, "")
    write_text(os.devnull, "lost")
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    (tmp_path / "link").symlink_to("a")
    write_text(tmp_path / "link", "text")
    assert (tmp_path / "a").read_text() == "text"
    assert (tmp_path / "link").is_symlink()
