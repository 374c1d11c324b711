"""What is installed is what is in the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import cnnc

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
OUTSIDE = {"examples": "cnnc.examples", "grammars": "cnnc.grammars", "kernels": "cnnc.kernels"}


def packages() -> set[str]:
    """Every folder with Python files, under the name that it is imported by."""
    found = set()
    for top, name in (("cnnc", "cnnc"), *OUTSIDE.items()):
        for folder in [ROOT / top, *(p for p in (ROOT / top).rglob("*") if p.is_dir())]:
            if any(folder.glob("*.py")):
                found.add(".".join([name, *folder.relative_to(ROOT / top).parts]))
    return found


def test_packages_are_listed() -> None:
    assert set(SETTINGS["tool"]["setuptools"]["packages"]) == packages()
    assert SETTINGS["tool"]["setuptools"]["package-dir"] == {"cnnc": "cnnc", **{v: k for k, v in OUTSIDE.items()}}


def test_packages_have_an_init() -> None:
    for name in packages():
        parts = name.split(".")
        folder = ROOT.joinpath(*(parts[1:] if name.startswith(tuple(OUTSIDE.values())) else parts))
        assert (folder / "__init__.py").is_file(), folder


def test_version() -> None:
    assert SETTINGS["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "cnnc.__version__"}
    assert cnnc.__version__.count(".") == 2


def run_python(code: str, folder: Path, path: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORTS = """
import cnnc, cnnc.cli.main, cnnc.grammars, cnnc.kernels.cpu, pathlib, sys
from lark import Lark
Lark.open_from_package("cnnc.grammars", "cnn.lark", parser="lalr")
print(*[pathlib.Path(m.__file__).parent for m in (cnnc, cnnc.grammars, cnnc.kernels)], sep="\\n")
"""


def test_runs_from_a_checkout(tmp_path: Path) -> None:
    places = run_python(IMPORTS, tmp_path, ROOT).split()
    assert [Path(p) for p in places] == [ROOT / "cnnc", ROOT / "grammars", ROOT / "kernels"]


@pytest.mark.slow
def test_runs_from_a_wheel(tmp_path: Path) -> None:
    pytest.importorskip("setuptools")
    source, installed = tmp_path / "source", tmp_path / "installed"
    source.mkdir()
    for name in ("cnnc", *OUTSIDE):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
        str(source),
    ]
    done = subprocess.run(build, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("cnnc-*.whl"))) as wheel:
        names = wheel.namelist()
        wheel.extractall(installed)
    for name in (
        "cnnc/py.typed",
        "cnnc/grammars/cnn.lark",
        "cnnc/grammars/ir.lark",
        "cnnc/kernels/cpu/__init__.py",
        "cnnc/kernels/cpu/steps/driver.ll",
        *(
            f"cnnc/examples/{p.relative_to(ROOT / 'examples')}"
            for p in (ROOT / "examples").rglob("*.*")
            if p.suffix != ".pyc"
        ),
    ):
        assert name in names
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert not any(n.startswith(("grammars", "kernels", "tests", "examples")) for n in names)
    places = run_python(IMPORTS, tmp_path, installed).split()
    assert [Path(p) for p in places] == [installed / "cnnc", installed / "cnnc/grammars", installed / "cnnc/kernels"]
    entry = run_python(
        "from cnnc.cli.main import main; import sys; sys.argv = ['cnnc', 'explain', 'E0204']; main()",
        tmp_path,
        installed,
    )
    assert entry.startswith("E0204")
    run_python(
        "from cnnc.cli.main import main; import sys; sys.argv = ['cnnc', 'new', 'mine', '--from', 'resnet']; main()",
        tmp_path,
        installed,
    )
    text = (ROOT / "examples" / "resnet.cnn").read_text()
    assert (tmp_path / "mine.cnn").read_text() == text.replace("model resnet(", "model mine(")
