"""The examples of the language reference, and the programs of the examples folder."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

import cnnc
from cnnc import manual
from cnnc.diagnostics import CnncError
from cnnc.frontend import load, parse
from cnnc.ir.layer import LAYERS
from cnnc.ir.op import OPS
from tests.frontend import reference

ROOT = Path(__file__).parents[2]
REFERENCE = (ROOT / "grammars" / "README.md").read_text(encoding="utf-8")
FENCES = [(match[1].split(), match[2]) for match in re.finditer(r"^```cnn([^\n]*)\n(.*?)^```$", REFERENCE, re.M | re.S)]


@pytest.mark.parametrize(("marks", "text"), FENCES)
def test_examples_of_the_reference(marks: list[str], text: str) -> None:
    if "body" in marks:
        text = f"model m() {{\n    input x: f32[N, 3, 32, 32]\n{textwrap.indent(text, '    ')}}}\n"
    marked = dict(mark.split("=") for mark in marks if "=" in mark)
    if "error" in marked:
        with pytest.raises(CnncError) as caught:
            parse(text)
        assert [d.code for d in caught.value.diagnostics] == [marked["error"]]
    else:
        warnings = [w.code for w in cnnc.parse(text).representative.warnings]
        assert warnings == ([marked["warning"]] if "warning" in marked else [])


def test_rendered_error_of_the_reference() -> None:
    shown = re.search(r"^```\n(error.*?)\n```$", REFERENCE, re.M | re.S)
    assert shown is not None
    text = "model m() {\n    input x: f32[N, 3, 32, 32]\n    return x -> maxpool(2) -> conv(8, 40)\n}\n"
    with pytest.raises(CnncError) as caught:
        parse(text, name="m.cnn")
    assert str(caught.value) == shown[1]


def test_every_layer_is_in_the_reference() -> None:
    table = REFERENCE[REFERENCE.index("| layer | |\n") : REFERENCE.index("## Bounds\n")]
    for layer in LAYERS.values():
        signature = re.search(rf"\| `{layer.name}\b(?:\(([^`]*)\))?` \|", table)
        assert signature is not None, layer.name
        names = [
            part.split("=")[0].strip()
            for part in (signature[1] or "").split(",")
            if part.strip() and part.strip() != "list"
        ]
        assert names == [a.name for a in layer.arguments], layer.name


def test_the_table_of_layers_is_of_their_records() -> None:
    """Where it is not: `python -m tests.frontend.reference`."""
    assert reference.parts(REFERENCE)[1] == manual.layers_table()


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_says_what_it_is(name: str) -> None:
    """Its example is of it alone, or of it last, and each argument is explained."""
    layer = LAYERS[name]
    made = manual.example(layer)
    assert re.search(rf"(-> |^){name}\b[^>]*(->[^>]*)?$", made.text)
    page = manual.layer_page(layer)
    assert page.startswith(manual.signature(layer)[:40])
    assert all(a.doc and f"    {a.name}" in page for a in layer.arguments)
    assert all(part in page for part in ("Shapes:", made.text, made.type, *made.parameters))
    assert manual.op_of(layer).doc[:30] in page


@pytest.mark.parametrize("name", OPS)
def test_every_op_says_what_it_is(name: str) -> None:
    assert len(OPS[name].doc) > 5
    assert manual.op_page(OPS[name]).startswith(f"{name}(")


def test_every_recipe_call_is_in_the_reference() -> None:
    from cnnc.frontend import recipes

    for table in (recipes.LOSSES, recipes.OPTIMIZERS, recipes.SCHEDULES, recipes.AUGMENTATIONS):
        for name, arguments in table.items():
            if name != "horizontal_flip":  # the older name of random_flip
                signature = re.search(rf"`{name}\(([^`]*?)\)`", REFERENCE)
                assert signature is not None, name
                names = re.findall(r"(\w+)(?==|,|$)", re.sub(r"\[.*?\]|=\s*[^,]+", "", signature[1]))
                assert names == list(arguments), name


def test_keywords_of_the_reference() -> None:
    from cnnc.ir.layer import WORDS

    line = next(line for line in REFERENCE.splitlines() if line.startswith("    include "))
    assert set(line.split()) == WORDS


@pytest.mark.parametrize(
    ("name", "settings", "parameters"),
    [
        ("lenet5", {}, 61_706),
        ("lenet5_relu", {}, 1_256_080),
        ("alexnet", {}, 61_100_840),
        ("alexnet", {"size": 227}, 61_100_840),
        ("alexnet", {"original": True}, 60_965_224),
        ("vgg", {"depth": 11}, 132_863_336),
        ("vgg", {"depth": 13}, 133_047_848),
        ("vgg", {"depth": 16}, 138_357_544),
        ("vgg", {"depth": 19}, 143_667_240),
        ("resnet", {"depth": 18}, 11_689_512),
        ("resnet", {"depth": 34}, 21_797_672),
        ("resnet", {"depth": 50}, 25_557_032),
        ("resnet", {"depth": 101}, 44_549_160),
        ("resnet", {"depth": 152}, 60_192_808),
        ("resnext", {}, 25_028_904),
        ("resnext", {"depth": 101, "group_width": 8}, 88_791_336),
        ("densenet", {}, 7_978_856),
        ("densenet", {"depth": 161}, 28_681_000),
        ("densenet", {"depth": 169}, 14_149_480),
        ("densenet", {"depth": 201}, 20_013_928),
        ("googlenet", {}, 6_624_904),
        ("googlenet", {"aux": True}, 13_004_888),
        ("inception3", {}, 23_834_568),
        ("inception3", {"aux": True}, 27_161_264),
        ("squeezenet", {"version": 1.0}, 1_248_424),
        ("squeezenet", {}, 1_235_496),
        ("mobilenetv2", {}, 3_504_872),
        ("mobilenetv3", {}, 5_483_032),
        ("mobilenetv3", {"kind": "small"}, 2_542_856),
        ("efficientnet", {}, 5_288_548),
        ("convnext", {}, 28_589_128),
        ("convnext", {"kind": "small"}, 50_223_688),
        ("shufflenetv2", {"width": 0.5}, 1_366_792),
        ("shufflenetv2", {}, 2_278_604),
        ("shufflenetv2", {"width": 1.5}, 3_503_624),
        ("shufflenetv2", {"width": 2.0}, 7_393_996),
        ("r3d", {}, 33_371_472),
        ("m5", {}, 26_915),
    ],
)
def test_examples_have_torchvisions_parameters(name: str, settings: dict[str, object], parameters: int) -> None:
    program = load(ROOT / "examples" / f"{name}.cnn", **settings)
    total = 0
    for spec in program.parameters.values():
        size = 1
        for d in spec.shape:
            size *= d
        total += size if spec.trained else 0
    assert total == parameters
    assert program.recipe is not None
    odd = name in ("squeezenet", "m5") or settings.get("size") == 227  # windows that do not tile
    assert {w.code for w in program.warnings} == ({"W0101"} if odd else set())


def test_names_are_torchvisions() -> None:
    names = list(load(ROOT / "examples" / "resnet.cnn", depth=50).parameters)
    assert names[0] == "conv1.weight"
    assert {"layer1.0.downsample.0.weight", "layer4.2.bn3.running_var", "layer3.5.conv2.weight", "fc.bias"} <= set(
        names
    )
    names = list(load(ROOT / "examples" / "vgg.cnn", depth=16).parameters)
    assert [n for n in names if n.endswith("weight")] == [
        *(f"features.{i}.weight" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)),
        "classifier.0.weight",
        "classifier.3.weight",
        "classifier.6.weight",
    ]
    names = list(load(ROOT / "examples" / "alexnet.cnn").parameters)
    assert [n for n in names if n.endswith("weight")] == [
        *(f"features.{i}.weight" for i in (0, 3, 6, 8, 10)),
        "classifier.1.weight",
        "classifier.4.weight",
        "classifier.6.weight",
    ]


def test_programs_of_the_design() -> None:
    text = """
block inception(x, c1, c3r, c3, c5r, c5, cp) {
    a = x -> conv(c1, 1) -> relu
    b = x -> conv(c3r, 1) -> relu -> conv(c3, 3, padding=1) -> relu
    c = x -> conv(c5r, 1) -> relu -> conv(c5, 5, padding=2) -> relu
    d = x -> maxpool(3, stride=1, padding=1) -> conv(cp, 1) -> relu
    return concat([a, b, c, d])
}

model m() {
    input image: f32[N, 192, 28, 28]
    x = image -> inception(64, 96, 128, 16, 32, 32) as inception3a
    expect x: f32[N, 256, 28, 28]
    return x
}
"""
    program = parse(text)
    assert list(program.parameters)[:2] == ["inception3a.conv1.weight", "inception3a.conv1.bias"]
    assert "inception3a.conv6.weight" in program.parameters
