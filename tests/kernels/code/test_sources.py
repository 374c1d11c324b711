"""The digest of a family's sources changes with what decides its code, and with nothing else."""

from __future__ import annotations

import shutil

import pytest

from cnnc.backends.cpu import decisions
from cnnc.kernels.cpu import FAMILIES
from cnnc.kernels.cpu.code import sources
from cnnc.kernels.cpu.steps import threads

CACHES = (sources._sources, sources.homes, sources._imported, sources._of_file, sources.digest)


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """The sources in a folder of their own, to be changed."""
    folder = tmp_path / "cpu"
    shutil.copytree(sources.ROOT, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "ROOT", folder)
    forget()
    yield folder
    monkeypatch.undo()
    forget()


def forget():
    for kept in CACHES:
        kept.cache_clear()


def digests():
    forget()
    return {family: sources.digest(family) for family in sources.homes()} | {
        "timed": sources.digest(*decisions.FAMILIES)
    }


def changed(file):
    before = digests()
    file.write_text(file.read_text() + ("\n; more\n" if file.suffix == ".ll" else "\n# more\n"))
    after = digests()
    return {family for family in before if before[family] != after[family]}


def test_every_family_and_part_has_a_home():
    assert set(sources.homes()) == {*FAMILIES, "driver", *threads.PARTS}
    assert set(decisions.FAMILIES) <= set(FAMILIES)
    for family, made in FAMILIES.items():
        assert made.make.__module__.endswith(sources.homes()[family].removesuffix(".py").replace("/", "."))


def test_the_same_sources_have_the_same_digest():
    assert digests() == digests()
    assert all(len(found) == 64 for found in digests().values())
    assert sources.digest("unknown") != sources.digest("map")


def test_a_change_reaches_its_own_family_alone(copy):
    pools = {name for name, home in sources.homes().items() if home == "pool/windows.py"}
    assert changed(copy / "pool" / "windows.py") == pools
    assert changed(copy / "pool" / "unrolled.py") == pools
    assert changed(copy / "elementwise" / "loss.py") <= {
        "cross_entropy",
        "cross_entropy_gradient",
        "accuracy",
        "softmax",
        "softmax_gradient",
    }


def test_a_change_reaches_what_imports_it(copy):
    assert {"conv_direct", "conv_depthwise", "timed"} <= changed(copy / "conv" / "tile.py")
    assert {"winograd", "timed"} <= changed(copy / "winograd" / "transforms.py")
    assert changed(copy / "steps" / "driver.ll") == {"driver", *threads.PARTS}


def test_the_compiler_reaches_all(copy):
    assert changed(copy / "code" / "compile.py") == {*digests()}
