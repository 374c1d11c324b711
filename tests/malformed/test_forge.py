"""A sample of the forged files of `python -m tests.malformed.forge`, and what keeps the sample honest."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cnnc.diagnostics import error
from tests.malformed import fields, forge
from tests.malformed.arrays import Cifar, Format, Idx, Images, Npy, Npz
from tests.malformed.formats import Cnnx, Decisions, Ir, Run, Tensors, Weights
from tests.malformed.onnx_by_hand import BOMBS, PLACES, outside
from tests.malformed.onnx_files import Onnx


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (Npy, 60),
        (Npz, 40),
        (Weights, 40),
        (Idx, 40),
        (Cifar, 20),
        (Tensors, 60),
        (Onnx, 60),
        (Ir, 30),
        (Images, 60),
        (Decisions, 40),
        (Run, 8),
        (Cnnx, 20),
    ],
)
def test_forged_files(make: Any, count: int, tmp_path: Path) -> None:
    kind = make(tmp_path) if make in (Tensors, Cnnx, Run) else make()
    found: Counter[str] = Counter()
    for number in range(count):
        result = forge.one(kind, 1, number)
        assert result.good, f"{kind.name}:{number} {result.kind}\n{result.detail}"
        found[result.kind.split()[0]] += 1
    assert found["refused"] or kind.name == "decisions"


def test_onnx_files_by_hand(tmp_path: Path) -> None:
    """What asks for more than there is, and tensors outside of the model's folder."""
    kind, right = Onnx(), set()
    for name in (*BOMBS, *PLACES):
        folder = tmp_path / name.replace(" ", "_")
        folder.mkdir()
        path = outside(name, folder) if name in PLACES else folder / "net.onnx"
        if name in BOMBS:
            path.write_bytes(BOMBS[name]())
        result = forge.outcome(kind, path)
        assert result.good, f"{name}: {result.kind}\n{result.detail}"
        right |= {name} if result.kind == "right" else set()
    assert right & set(PLACES) == {"inside", "model itself"}
    assert len(right) < 20


class Careless(Format):
    """A reader that believes what it is told."""

    name = "careless"

    def forge(self, draw: random.Random, folder: Path) -> Path:
        return folder

    def __init__(self, raises: Exception | None) -> None:
        self.raises = raises

    def read(self, path: Path) -> Any:
        if self.raises is not None:
            raise self.raises
        return 3

    def judge(self, path: Path, found: Any) -> None:
        raise forge.Mismatch("3")


@pytest.mark.parametrize(
    ("raises", "kind"),
    [
        (ValueError("x"), "bug"),
        (RecursionError(), "bug"),
        (error("E0625", "x"), "refused E0625"),
        (error("E0625", "x", exit_code=70), "exit code 70"),
        (error("E9999", "x"), "exit code 1"),
        (MemoryError(), "refused E0602"),
        (None, "wrong"),
    ],
)
def test_what_should_not_be_is_found(raises: Exception | None, kind: str) -> None:
    assert forge.one(Careless(raises), 0, 0).kind == kind


def test_fields_are_forged_alike_for_the_same_seed() -> None:
    text = json.dumps({"a": [1, 2.5, {"b": "c"}], "d": None})
    forged = [fields.forged_json(text, random.Random(seed)) for seed in range(150)]
    assert forged == [fields.forged_json(text, random.Random(seed)) for seed in range(150)]
    assert len(set(forged)) > 75
    assert any(word in f for f in forged for word in ("NaN", "Infinity", "1e400"))
    assert any(f.count('"a"') == 2 for f in forged)
