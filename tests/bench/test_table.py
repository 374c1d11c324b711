"""The set, its file of records, and the README's table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import table


def record(**times: float) -> dict:
    engines = [{"name": name.replace("_", "-"), "median_ms": t} for name, t in times.items()]
    best = min((t for name, t in times.items() if name != "cnnc"), default=None)
    return {
        "engines": engines,
        "ratio": None if best is None else best / times["cnnc"],
        "processor": "a processor",
        "target": "wide",
        "threads": 2,
        "versions": {"cnnc": "1", "torch": "2.13.0+cpu", "onnxruntime": "1.31"},
    }


def test_set() -> None:
    assert len(table.SET) == 21
    assert {batch for _, mode, batch in table.SET if mode == "infer"} == {1, 16}
    assert {m[0] for m in table.SET} <= set(table.NETWORKS)
    assert table.wanted([]) == table.SET
    assert table.wanted(["resnet50"]) == [m for m in table.SET if m[0] == "resnet50"]
    assert table.wanted(["train/8"]) == [("vgg11", "train", 8), ("resnet50", "train", 8)]
    assert table.wanted(["infer/1", "lenet/train"]) == [*table.SET[:7], ("lenet", "train", 64)]


def test_table() -> None:
    records = {
        "lenet/infer/1": record(cnnc=0.1, onnxruntime=0.2, openvino=0.3, torch=0.5),
        "resnet50/train/8": record(cnnc=1234.5, torch=2469, torch_compile=2000),
        "vgg16/infer/1": record(cnnc=45.67, torch=91.3),
    }
    lines = table.markdown(records).splitlines()
    assert lines[0] == "a processor, wide, 2 threads, float32. PyTorch 2.13.0, ONNX Runtime 1.31."
    assert [line for line in lines if line.startswith("| ") and "---" not in line and "ms" not in line] == [
        "| LeNet (20, 50 maps) | 0.10 | 0.20 | 0.30 | 0.50 |  | 2.00 |",
        "| VGG-16 | 45.7 |  |  | 91.3 |  | 2.00 |",
        "| ResNet-50, batch 8 | 1234 |  |  | 2469 | 2000 | 1.62 |",
    ]
    assert "| Inference, batch 1 | cnnc, ms |" in lines[2]
    assert table.markdown({}) == "No figures yet.\n"


def test_records_are_kept_and_the_readme_rewritten(tmp_path: Path) -> None:
    path, readme = tmp_path / "figures.json", tmp_path / "README.md"
    assert table.read(path) == {}
    table.keep(path, "lenet/infer/1", record(cnnc=0.1))
    table.keep(path, "lenet/infer/16", record(cnnc=0.2))
    assert list(table.read(path)) == ["lenet/infer/1", "lenet/infer/16"]
    readme.write_text(f"before\n{table.BEGIN}\nold\n{table.END}\nafter\n")
    for _ in range(2):
        table.rewrite(readme, table.read(path))
        text = readme.read_text()
        assert text.startswith(f"before\n{table.BEGIN}\n")
        assert text.endswith(f"{table.END}\nafter\n")
        assert "old" not in text
        assert text.count("LeNet") == 2


def test_readme_has_a_place_for_the_table() -> None:
    text = table.README.read_text()
    assert text.count(table.BEGIN) == text.count(table.END) == 1
    assert text.index(table.BEGIN) < text.index(table.END)


def bench(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench", *map(str, arguments)]
    done = subprocess.run(command, cwd=table.ROOT, capture_output=True, text=True, timeout=200)
    assert done.returncode == code, done.stderr
    return done


def test_usage() -> None:
    assert "name a network" in bench("infer", code=2).stderr
    assert "did you mean 'lenet'?" in bench("infer", "lennet", code=2).stderr
    assert "--json FILE" in bench("set", code=2).stderr


@pytest.mark.slow
def test_set_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    options = ("--json", tmp_path / "f.json", "--only", "lenet/infer", "--rounds", 1, "--block", 0, "--against", "")
    done = bench("set", *options)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "lenet infer batch 1",
        "lenet infer batch 16",
    ]
    records = json.loads((tmp_path / "f.json").read_text())
    assert list(records) == ["lenet/infer/1", "lenet/infer/16"]
    again = bench("set", *options)
    assert again.stdout == ""
    assert again.stderr.count("done before") == 2
