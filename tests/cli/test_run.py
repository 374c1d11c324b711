"""`summary`, `compile`, `run`, `gradcheck`, `train`, `doctor`, `cache` and `explain`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnc import driver
from tests.cli.conftest import ROOT, Cnnc


def test_run_an_image(cnnc: Cnnc, lenet: Path, weights: Path, images: Path) -> None:
    result = cnnc("run", lenet, "--weights", weights, "--input", images / "a.png", "--json", "--top", 3)
    record = json.loads(result.stdout)
    top = record["outputs"]["output"]["top"]
    assert len(top) == 3
    assert set(top[0]) == {"index", "label", "probability"}
    assert top[0]["probability"] >= top[1]["probability"] >= top[2]["probability"] > 0
    x = np.asarray(Image.open(images / "a.png"), np.float32)[None, None] / 255
    network = driver.load(lenet)
    logits = np.asarray(driver.compile(network, target="reference")(x), np.float64)[0]
    p = np.exp(logits - logits.max())
    np.testing.assert_allclose(top[0]["probability"], (p / p.sum()).max(), rtol=1e-4)
    assert top[0]["index"] == int(np.argmax(logits))


@pytest.mark.parametrize("axis", ["0", "[0, 1, 2, 3]"])
def test_outputs_of_the_whole_batch_are_refused(cnnc: Cnnc, tmp_path: Path, images: Path, axis: str) -> None:
    path = tmp_path / "m.cnn"
    path.write_text(f"model m() {{ input x: f32[N, 1, 12, 12]  return x -> mean(axis={axis}) }}")
    for given in (images, images / "a.png"):
        assert "E0705" in cnnc("run", path, "--input", given, code=3).stderr


def test_run_a_folder(cnnc: Cnnc, lenet: Path, weights: Path, images: Path, tmp_path: Path) -> None:
    records = json.loads(
        cnnc("run", lenet, "-w", weights, "-i", images, "--json", "-o", tmp_path / "y.npz", "-b", 2).stdout
    )
    assert [r["input"] for r in records] == ["a.png", "b.bmp", "c.png"]
    with np.load(tmp_path / "y.npz") as y:
        assert y["output"].shape == (3, 10)
        assert [r["outputs"]["output"]["top"][0]["index"] for r in records] == y["output"].argmax(1).tolist()
    text = cnnc("run", lenet, "-w", weights, "-i", images, "-k", 1).stdout
    assert text.splitlines()[0] == "a.png:"


MEMORY = """
import resource, sys
from cnnc.cli.main import cli
try:
    cli.main(sys.argv[1:])
finally:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""


def test_memory_is_that_of_a_batch(tmp_path: Path) -> None:
    """Of a folder of files and of a mapped array, with the outputs kept: 200 more images of 224 x 224 are 120 MB."""
    pytest.importorskip("resource")
    model = tmp_path / "m.cnn"
    model.write_text("model m() { input x: f32[N, 3, 224, 224]  return x -> avgpool(4) }")
    (tmp_path / "few").mkdir()
    (tmp_path / "many").mkdir()
    Image.fromarray(np.zeros((224, 224, 3), np.uint8)).save(tmp_path / "few" / "0.png")
    for i in range(216):
        (tmp_path / ("few" if i < 16 else "many") / f"{i}.png").hardlink_to(tmp_path / "few" / "0.png") if i else None
    np.save(tmp_path / "many.npy", np.zeros((216, 3, 224, 224), np.float32))
    peak = {}
    for name in ("few", "many", "many.npy"):
        options = ["-i", str(tmp_path / name), "-o", str(tmp_path / f"{name}.npz"), "-b", "8", "--threads", "1"]
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, "run", str(model), *options], cwd=ROOT, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        peak[name] = int(done.stderr.splitlines()[-1]) / 1024
    assert peak["many"] < peak["few"] + 40, peak
    assert peak["many.npy"] < peak["few"] + 40, peak
    with np.load(tmp_path / "many.npy.npz") as outputs:
        assert outputs["output"].shape == (216, 3, 56, 56)


def test_run_class_folders(cnnc: Cnnc, lenet: Path, weights: Path, images: Path, tmp_path: Path) -> None:
    """What train takes: the names say the classes, and the accuracy is said."""
    record = json.loads(cnnc("run", lenet, "-w", weights, "-i", images, "--json", "-k", 1).stdout)
    predicted = [r["outputs"]["output"]["top"][0]["index"] for r in record]
    tree = tmp_path / "tree"
    for name, label in zip(
        ("a.png", "b.bmp", "c.png"), [predicted[0], predicted[1], (predicted[2] + 1) % 10], strict=True
    ):
        (tree / str(label) / "more").mkdir(parents=True, exist_ok=True)
        (tree / str(label) / "more" / name).write_bytes((images / name).read_bytes())
    (tree / "notes.txt").write_text("")
    result = cnnc("run", lenet, "-w", weights, "-i", tree, "--json")
    assert "accuracy 66.67%: 2 of 3" in result.stderr
    assert "notes.txt" in result.stderr
    records = json.loads(result.stdout)
    assert {r["input"] for r in records} == {
        f"{p}/more/{n}"
        for p, n in zip([*predicted[:2], (predicted[2] + 1) % 10], ("a.png", "b.bmp", "c.png"), strict=True)
    }
    assert all(r["expected"] == {"index": int(r["input"][0]), "label": r["input"][0]} for r in records)
    for folder in tree.iterdir():
        if folder.is_dir():
            folder.rename(folder.with_name(f"digit {folder.name}"))
    assert "not known to have" in cnnc("run", lenet, "-w", weights, "-i", tree).stderr


def test_run_arrays_with_labels(cnnc: Cnnc, lenet: Path, weights: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(0, 256, (4, 12, 12), np.uint8)
    np.savez(tmp_path / "d.npz", x_train=x, y_train=[0] * 4, x_test=x[:2], y_test=[3, 3])
    result = cnnc("run", lenet, "-w", weights, "-i", tmp_path / "d.npz", "--json")
    top = [r["outputs"]["output"]["top"][0]["index"] for r in json.loads(result.stdout)]
    assert f"{top.count(3)} of 2" in result.stderr


def test_outputs_are_refused_before_the_work(
    cnnc: Cnnc, lenet: Path, weights: Path, images: Path, tmp_path: Path
) -> None:
    for name, code, exit_code in (("y.npy", "E0603", 2), ("none/y.npz", "E0601", 3)):
        result = cnnc("run", lenet, "-w", weights, "-i", images, "-o", tmp_path / name, code=exit_code)
        assert code in result.stderr
        assert result.stdout == ""


def test_outputs_may_have_any_name(cnnc: Cnnc, tmp_path: Path) -> None:
    (tmp_path / "m.cnn").write_text(
        "model m() { input x: f32[N, 2]\n file = x -> relu\n return file, x -> tanh as self }"
    )
    np.save(tmp_path / "x.npy", np.ones((3, 2), np.float32))
    cnnc("run", tmp_path / "m.cnn", "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npz", "-b", 2)
    with np.load(tmp_path / "y.npz") as y:
        assert all(y[name].shape == (3, 2) for name in y.files)
        assert len(y.files) == 2


def test_run_arrays(cnnc: Cnnc, lenet: Path, weights: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(1).standard_normal((5, 1, 12, 12)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "x.npz", x=x)
    a, b = (cnnc("run", lenet, "-w", weights, "-i", tmp_path / f"x.{kind}", "--json").stdout for kind in ("npy", "npz"))
    assert len(json.loads(a)) == 5
    assert a.replace("x.npy", "x.npz") == b


def test_run_uses_label_names(cnnc: Cnnc, lenet: Path, images: Path) -> None:
    lenet.write_text(lenet.read_text().replace("f32[N, 1, 12, 12]", 'f32[N, 1, 12, 12] { labels = "names.txt" }'))
    lenet.with_name("names.txt").write_text("\n".join(f"digit {i}" for i in range(10)))
    result = cnnc("run", lenet, "-i", images / "a.png", "--json")
    assert all(t["label"] == f"digit {t['index']}" for t in json.loads(result.stdout)["outputs"]["output"]["top"])
    assert "means nothing" in result.stderr


def test_softmax_is_not_applied_twice(cnnc: Cnnc, lenet: Path, weights: Path, images: Path) -> None:
    plain = cnnc("run", lenet, "-w", weights, "-i", images, "--json").stdout
    lenet.write_text(lenet.read_text().replace("as fc", "as fc -> softmax"))
    once = cnnc("run", lenet, "-w", weights, "-i", images, "--json").stdout
    for a, b in zip(json.loads(plain), json.loads(once), strict=True):
        for s, t in zip(a["outputs"]["output"]["top"], b["outputs"]["output"]["top"], strict=True):
            assert s["index"] == t["index"]
            assert s["probability"] == pytest.approx(t["probability"], rel=1e-5)


@pytest.mark.parametrize("classes", [1, 3])
def test_shares_of_their_own_are_shown_as_they_are(cnnc: Cnnc, tmp_path: Path, classes: int) -> None:
    """Softmax of one value is 1, and that of several sigmoids is none of them."""
    path = tmp_path / "m.cnn"
    path.write_text(f"model m() {{ input x: f32[N, 4]  return x -> linear({classes}) -> sigmoid }}")
    np.save(tmp_path / "x.npy", np.random.default_rng(1).standard_normal((2, 4)).astype(np.float32))
    result = cnnc("run", path, "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npz", "--json")
    shown = [record["outputs"]["output"]["top"] for record in json.loads(result.stdout)]
    for y, top in zip(np.load(tmp_path / "y.npz")["output"], shown, strict=True):
        assert [t["probability"] for t in top] == pytest.approx(sorted(y, reverse=True))


def test_one_value_that_is_no_probability_is_shown(cnnc: Cnnc, tmp_path: Path) -> None:
    path = tmp_path / "m.cnn"
    path.write_text("model m() { input x: f32[N, 4]  return x -> linear(1) }")
    np.save(tmp_path / "x.npy", np.ones((1, 4), np.float32))
    result = cnnc("run", path, "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npz")
    assert f"{np.load(tmp_path / 'y.npz')['output'].item():g}" in result.stdout
    assert "%" not in result.stdout


def test_several_inputs_and_outputs(cnnc: Cnnc, tmp_path: Path) -> None:
    path = tmp_path / "two.cnn"
    path.write_text(
        "model two() {\n    input left: f32[N, 4]\n    input right: f32[N, 4]\n"
        "    return {sum: left + right, mean: (left - right) -> mean(axis=1)}\n}\n"
    )
    np.save(tmp_path / "l.npy", np.array([[1, 2, 3, 4]], np.float32))
    np.save(tmp_path / "r.npy", np.array([[0, 1, 0, 1]], np.float32))
    for given in (
        ["-i", f"right={tmp_path / 'r.npy'}", "-i", f"left={tmp_path / 'l.npy'}"],
        ["-i", tmp_path / "l.npy", "-i", tmp_path / "r.npy"],
    ):
        outputs = json.loads(cnnc("run", path, *given, "--json").stdout)["outputs"]
        assert outputs["mean"] == {"shape": [], "values": 2.0}
        assert outputs["sum"]["top"][0]["index"] == 3
    assert "right" in cnnc("run", path, "-i", tmp_path / "l.npy", code=3).stderr


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [("missing.png", 3, "E0601"), ("lenet.cnn", 3, "not an image"), ("empty", 3, "no folders with images")],
)
def test_run_refuses(cnnc: Cnnc, lenet: Path, given: str, code: int, said: str) -> None:
    (lenet.parent / "empty").mkdir()
    assert said in cnnc("run", lenet, "-i", lenet.with_name(given), code=code).stderr


def test_run_refuses_weights(cnnc: Cnnc, lenet: Path, images: Path) -> None:
    assert "E0601" in cnnc("run", lenet, "-w", "no.safetensors", "-i", images, code=3).stderr
    lenet.with_name("w.pth").write_bytes(b"PK\x03\x04")
    refused = cnnc("run", lenet, "-w", lenet.with_name("w.pth"), "-i", images, code=3)
    assert "torch.load('w.pth'" in refused.stderr
    driver.load(lenet, classes=7).save_weights(lenet.with_name("seven.safetensors"))
    other = cnnc("run", lenet, "-w", lenet.with_name("seven.safetensors"), "-i", images, code=3)
    assert "fc.weight is [10, 128] in the network and [7, 128] in the file" in other.stderr


def test_doubtful_inputs_are_told(cnnc: Cnnc, lenet: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 12, 12))
    for name, array, said in (
        ("floats", pixels.astype(np.float32), "which are taken as they are"),
        ("bits", (pixels > 99).astype(np.uint8), "all but black"),
        ("nan", np.full((2, 1, 12, 12), np.nan, np.float32), "2 of 2 images give NaN"),
        ("none", np.zeros((0, 1, 12, 12), np.float32), "there are no images"),
        ("bytes", pixels.astype(np.uint8), ""),
        ("small", (pixels / 255).astype(np.float32), ""),
    ):
        np.save(tmp_path / f"{name}.npy", array)
        told = cnnc("run", lenet, "-i", tmp_path / f"{name}.npy", "--json").stderr
        assert said in told
        assert said or ("W0643" not in told and "NaN" not in told)
    told = cnnc("run", lenet, "-i", tmp_path / "bytes.npy", "--top", 11).stderr
    assert "--top 11: the network tells 10 classes apart" in told
    assert "--top" not in cnnc("run", lenet, "-i", tmp_path / "bytes.npy", "--top", 10).stderr
    assert "--top" not in cnnc("run", lenet, "-p", "classes=3", "-i", tmp_path / "bytes.npy").stderr
