"""Sizes that no machine has are errors of the model, where it is checked; nothing overflows behind that."""

from __future__ import annotations

import pytest

import cnnc
from cnnc.diagnostics import CnncError


@pytest.mark.parametrize(
    ("input", "layer", "at"),
    [
        ("f32[N, 2147483647, 2147483647, 2147483647]", "relu", "f32"),
        ("f32[N, 1, 4, 4]", "conv(1, 3, padding=2000000000, dilation=2000000000)", "padding="),
        ("f32[N, 1, 4, 4]", "conv(1, 3, padding=1000000000, dilation=1000000000)", "padding="),
        ("f32[N, 1, 4, 4]", "maxpool(2147483647, padding=1073741823)", "padding="),
        ("f32[N, 8, 4, 4, 4]", "conv(4, 3, padding=100000, dilation=100000)", "padding="),
        ("f32[N, 1, 65536, 1048576]", "conv(1000, 1)", "conv"),
    ],
)
def test_a_tensor_that_no_process_can_address(input: str, layer: str, at: str) -> None:
    with pytest.raises(CnncError) as e:
        cnnc.parse(f"model m() {{ input x: {input}  return x -> {layer} }}")
    (diagnostic,) = e.value.diagnostics
    assert diagnostic.code == "E0402"
    assert diagnostic.span is not None
    assert diagnostic.span.source.text[diagnostic.span.start :].startswith(at)


def test_the_largest_windows_that_are_let_in_have_a_summary() -> None:
    for layer in ("conv(1, 3, padding=1000000, dilation=1000000)", "maxpool(3, stride=2147483647)"):
        net = cnnc.parse(f"model m() {{ input x: f32[N, 1, 4, 4]  return x -> {layer} }}")
        assert "total" in str(net.summary()).lower()
