"""The pages on adding something say all that there is to do: what they say is done to a copy of the checkout, and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("cnnc/README.md", "kernels/README.md")
FOLDERS = ("cnnc", "kernels", "grammars", "examples", "tests")
EDIT = re.compile(r"^\*\*`([^`]+)`\*\*, (.+?):\n\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Edit:
    """What is to be done to a file: "new", "at the end", "among the imports", "behind `line`", "behind each `line`" or
    "in front of `line`".
    """

    path: str
    where: str
    text: str

    def apply(self, root: Path) -> None:
        path = root / self.path
        if self.where == "new":
            assert not path.exists(), f"{self.path} is there already"
            path.write_text(self.text, encoding="utf-8")
            return
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for at in reversed(self.places(lines)):
            before = ["\n\n"] if self.where == "at the end" else []
            behind = ["\n\n"] if self.where.startswith("in front of") else []
            lines[at:at] = [*before, self.text, *behind]
        path.write_text("".join(lines), encoding="utf-8")

    def places(self, lines: list[str]) -> list[int]:
        """In front of which lines the text is put."""
        if self.where == "at the end":
            return [len(lines)]
        if self.where == "among the imports":
            imports = [i for i, line in enumerate(lines) if line.startswith("from cnnc")]
            return [next((i for i in imports if lines[i] > self.text), imports[-1] + 1)]
        match = re.fullmatch(r"(behind|behind each|in front of) `(.+)`", self.where)
        assert match is not None, self.where
        found = [i for i, line in enumerate(lines) if line.strip() == match[2]]
        assert found, f"{self.path} has no line {match[2]}"
        assert len(found) == 1 or match[1] == "behind each", f"{self.path} has several lines {match[2]}"
        return [i + 1 for i in found] if match[1].startswith("behind") else found


def section(title: str) -> str:
    texts = [(ROOT / page).read_text(encoding="utf-8") for page in PAGES]
    (found,) = [text for text in texts if f"\n## {title}\n" in text]
    return found.split(f"\n## {title}\n")[1].split("\n## ")[0]


def run(root: Path, command: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    words = command.split()
    assert words[0] == "python", command
    done = subprocess.run(
        [sys.executable, *words[1:]], cwd=root, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("title", "code_files"), [("Adding an op", 4), ("Adding a layer", 1), ("Adding a pass", 2), ("Adding a family", 2)]
)
def test_what_a_page_says_is_all_there_is_to_do(title: str, code_files: int, tmp_path: Path) -> None:
    text = section(title)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    edits = [Edit(*match) for match in EDIT.findall(text)]
    assert len({e.path for e in edits if e.path.startswith(("cnnc/", "kernels/"))}) == code_files
    assert len(edits) + len(COMMANDS.findall(text)) == len(re.findall(r"^```\w*\n.*?^```$", text, re.M | re.S))
    for edit in edits:
        edit.apply(tmp_path)
    for block in COMMANDS.findall(text):
        for command in block.splitlines():
            run(tmp_path, command)
    for command in ("ruff check --quiet", "ruff format --check --quiet"):
        changed = " ".join({e.path for e in edits if e.path.endswith(".py")})
        run(tmp_path, f"python -m {command} {changed}")
