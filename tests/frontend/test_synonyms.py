"""Layers by the names that other programs give them."""

from __future__ import annotations

import pytest

import cnnc
from cnnc.diagnostics import CnncError, did_you_mean
from cnnc.frontend.synonyms import INSTEAD, SAME
from cnnc.ir.layer import LAYERS


def help_of(layer: str, input: str = "f32[N, 4, 8, 8]") -> str | None:
    with pytest.raises(CnncError) as e:
        cnnc.parse(f"model m() {{ input x: {input}  return x -> {layer} }}")
    return e.value.diagnostics[0].help


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Relu", "relu"), ("ReLU", "relu"), ("ReLU6", "relu6"), ("swish", "silu"), ("SiLU", "silu"), ("Conv2d", "conv"),
        ("BatchNorm2d", "batchnorm"), ("Dense", "linear"), ("fc", "linear"), ("MaxPool2d", "maxpool"), ("AvgPool2d", "avgpool"),
        ("MaxPooling2D", "maxpool"), ("Dropout2d", "dropout"), ("LeakyReLU", "leaky_relu"), ("Softmax", "softmax"),
        ("GlobalAveragePooling2D", "global_avgpool"), ("AdaptiveAvgPool2d", "adaptive_avgpool"), ("relo", "relu"), ("Cat", "concat"),
    ],
)  # fmt: skip
def test_what_another_program_calls_it(name: str, meant: str) -> None:
    assert help_of(name) == f"did you mean '{meant}'?"


def test_every_synonym_is_of_a_layer_that_there_is() -> None:
    assert set(SAME.values()) <= set(LAYERS)
    assert not set(INSTEAD) & {name.replace("_", "") for name in LAYERS}


@pytest.mark.parametrize("name", [n for n, text in INSTEAD.items() if text.startswith("write ")])
def test_what_to_write_instead_compiles(name: str) -> None:
    text = INSTEAD[name].removeprefix("write ").split(", w")[0].split(";")[0]
    if " as an argument" in text:
        return
    text = text.replace("out_channels", "8")
    expression = (
        text if (text[0] in "(xa" and not text.startswith("avg")) or text.startswith("log(") else f"x -> {text}"
    )
    cnnc.parse(f"model m() {{ input x: f32[N, 4, 8, 8]  a = x  b = x  y = {expression}  return y }}")


def test_own_blocks_come_before_other_programs_names() -> None:
    with pytest.raises(CnncError) as e:
        cnnc.parse("block swisch(x) { return x -> relu } model m() { input x: f32[N, 4]  return x -> swish }")
    assert e.value.diagnostics[0].help == "did you mean 'swisch'?"


@pytest.mark.parametrize("dtype", ["f16", "float32", "F32", "i8"])
def test_only_element_types_that_are_accepted_are_offered(dtype: str) -> None:
    help = help_of("relu", f"{dtype}[N, 4]")
    assert help is not None
    assert "f32" in help
    assert "f64" not in help


def test_case_makes_no_name_far() -> None:
    assert did_you_mean("FOLD_BATCHNORM", ["fuse-epilogues", "fold-batchnorm"]) == "did you mean 'fold-batchnorm'?"
    assert did_you_mean("zzz", ["relu"]) is None
