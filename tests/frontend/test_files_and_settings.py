"""Includes, settings of inputs, recipes, and the speed of it all."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnnc.diagnostics import CnncError
from cnnc.frontend import load, parse
from cnnc.frontend.inputs import Preprocess
from cnnc.frontend.recipes import Recipe, RecipeCall

ROOT = Path(__file__).parents[2]
BLOCK = "block b(x) { return x -> conv(W, 1) }\nconst W = 4\n"
MODEL = "model m() { input x: f32[N, 3, 8, 8] return x -> b }\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.cnn"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def codes(path: Path) -> list[str]:
    with pytest.raises(CnncError) as caught:
        load(path)
    return [d.code for d in caught.value.diagnostics]


# --- includes


def test_items_of_another_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        m='include "parts/b.cnn"\n' + MODEL,
        parts__b='include "c.cnn"\nblock b(x) { return x -> c }\n',
        parts__c=BLOCK.replace("b(x)", "c(x)"),
    )
    assert list(load(tmp_path / "m.cnn").parameters) == ["b1.c1.conv1.weight", "b1.c1.conv1.bias"]


def test_a_file_included_twice_counts_once(tmp_path: Path) -> None:
    write(tmp_path, m='include "a.cnn"\ninclude "b.cnn"\n' + MODEL, a='include "b.cnn"\n', b=BLOCK)
    assert load(tmp_path / "m.cnn").model == "m"


def test_a_model_of_another_file(tmp_path: Path) -> None:
    write(tmp_path, m='include "n.cnn"\ntrain { epochs = 3 }\n', n=BLOCK + MODEL + "train { epochs = 5 }\n")
    program = load(tmp_path / "m.cnn")
    assert program.recipe is not None
    assert (program.model, program.recipe.epochs) == ("m", 3)


def test_includes_stay_in_the_folder(tmp_path: Path) -> None:
    outside = tmp_path / "outside.cnn"
    outside.write_text(BLOCK)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link.cnn").symlink_to(outside)
    for name in (
        "../outside.cnn",
        str(outside),
        "link.cnn",
        "parts/../../outside.cnn",
        "nothing.cnn",
        "",
        ".",
        "a\\b.cnn",
        "/dev/zero",
        "C:/a.cnn",
    ):
        write(inside, m=f'include "{name}"\n' + MODEL)
        assert codes(inside / "m.cnn")[0] == "E0313", name
    with pytest.raises(CnncError) as caught:
        parse('include "b.cnn"\n' + MODEL)
    assert caught.value.diagnostics[0].code == "E0313"


def test_files_that_include_each_other(tmp_path: Path) -> None:
    write(tmp_path, m='include "a.cnn"\n' + MODEL + BLOCK, a='include "m.cnn"\n')
    assert codes(tmp_path / "m.cnn") == ["E0313"]
    write(tmp_path, m='include "m.cnn"\n' + MODEL + BLOCK)
    assert codes(tmp_path / "m.cnn") == ["E0313"]
    write(tmp_path, **{f"f{i}": f'include "f{i + 1}.cnn"\n' for i in range(80)}, f80="const A = 1")
    write(tmp_path, m='include "f0.cnn"\n' + MODEL + BLOCK)
    assert codes(tmp_path / "m.cnn") == ["E0313"]


def test_names_of_two_files(tmp_path: Path) -> None:
    write(tmp_path, m='include "a.cnn"\ninclude "b.cnn"\n' + MODEL, a=BLOCK, b=BLOCK)
    assert codes(tmp_path / "m.cnn")[0] == "E0303"


def test_errors_are_told_in_the_file_they_are_in(tmp_path: Path) -> None:
    write(tmp_path, m='include "parts/a.cnn"\n' + MODEL, parts__a="block b(x) { return x -> rleu }\n")
    with pytest.raises(CnncError) as caught:
        load(tmp_path / "m.cnn")
    assert str(caught.value.diagnostics[0].span) == "parts/a.cnn:1:26"


def test_bytes(tmp_path: Path) -> None:
    for content in (b"\xef\xbb\xbf" + MODEL.encode() + BLOCK.encode(), (MODEL + BLOCK).replace("\n", "\r\n").encode()):
        (tmp_path / "m.cnn").write_bytes(content)
        assert load(tmp_path / "m.cnn").model == "m"


# --- settings of inputs


def settings(text: str, shape: str = "3, 32, 32") -> Preprocess:
    return parse(f"model m() {{ input x: f32[N, {shape}] {{ {text} }} return x -> relu }}").inputs["x"]


def test_settings_of_an_input() -> None:
    found = settings(
        'resize = 40  crop = 32  mean = [0.1, 0.2, 0.3]  std = 0.5  scale = 1 / 128  channels = "bgr"  labels = "names.txt"'
    )
    assert found == Preprocess(40, (32, 32), 1 / 128, (0.1, 0.2, 0.3), (0.5,), "bgr", "names.txt")
    assert settings("") == Preprocess(channels="rgb")
    assert settings("", "1, 8, 8") == Preprocess(channels="grey")
    assert settings("resize = [40, 50]").resize == (40, 50)
    assert settings("", "5") == Preprocess()
    assert settings('channels = "gray"', "1, 8, 8").channels == "grey"


def test_settings_of_images_on_features() -> None:
    with pytest.raises(CnncError) as caught:
        settings("resize = 3", "10")
    assert caught.value.diagnostics[0].code == "E0321"


# --- recipes


def recipe(text: str) -> Recipe:
    found = parse(
        "model m() { input x: f32[N, 3, 8, 8] return x -> conv(4, 3) as features.0 -> flatten -> linear(2) as fc }\n"
        f"const RATE = 0.25\ntrain {{ {text} }}"
    ).recipe
    assert found is not None
    return found


def test_recipes_are_plain_data() -> None:
    assert parse("model m() { input x: f32[N, 3] return x -> relu }").recipe is None
    assert recipe("") == Recipe()
    found = recipe(
        "loss = cross_entropy  optimizer = sgd(RATE, nesterov=true, momentum=0.9)  schedule = step(every=[3, 5]) "
        'epochs = 2  batch = 8  augment = [random_shift(2), random_flip]  freeze = "features.*" '
        'groups = {"fc.*": {lr = 0.01}, "*.bias": {weight_decay = 0}}'
    )
    assert found.optimizer == RecipeCall("sgd", {"lr": 0.25, "momentum": 0.9, "weight_decay": 0.0, "nesterov": True})
    assert found.schedule == RecipeCall("step", {"every": (3, 5), "factor": 0.1, "warmup": 0})
    assert (found.epochs, found.batch) == (2, 8)
    assert found.augment == (RecipeCall("random_shift", {"pixels": 2}), RecipeCall("random_flip", {"p": 0.5}))
    assert found.freeze == ("features.*",)
    assert found.groups == {"fc.*": {"lr": 0.01}, "*.bias": {"weight_decay": 0.0}}
    assert str(found.schedule) == "step(every=[3, 5], factor=0.1, warmup=0)"


# --- speed


def test_import_is_light() -> None:
    script = (
        "import sys, cnnc.frontend; print(*(m for m in ('lark', 'numpy', 'numba', 'networkx') if m in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == ""


def test_resnet_50_elaborates_quickly() -> None:
    load(ROOT / "examples" / "resnet.cnn", depth=50)
    start = time.process_time()
    load(ROOT / "examples" / "resnet.cnn", depth=50)
    assert time.process_time() - start < 0.3


def test_time_is_linear_in_layers() -> None:
    def seconds(layers: int) -> float:
        text = (
            "model m() { input x: f32[N, 3, 8, 8]\n"
            + "x = x -> conv(3, 3, padding=1) -> relu\n" * layers
            + "return x }"
        )
        start = time.process_time()
        parse(text)
        return time.process_time() - start

    seconds(10)
    assert min(seconds(2000) for _ in range(2)) < 8 * min(seconds(500) for _ in range(2))


@pytest.mark.parametrize(
    ("value", "said"),
    [(float("nan"), "classes cannot be nan; it must be finite"), (float("inf"), "classes cannot be inf; it must be")],
)
def test_parameters_are_finite(value: float, said: str) -> None:
    text = "model m(classes = 2) { input x: f32[N, 3]  return x -> linear(classes) }"
    with pytest.raises(CnncError, match=said):
        parse(text, classes=value)
