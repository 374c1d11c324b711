"""ONNX's own tests of what a convolutional network needs, on the reference: all in scope pass."""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("onnx")

from tests.interop.conformance import FAMILIES, Case, cases, outcome, reason


@pytest.fixture(scope="module")
def found() -> dict[str, list[Case]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: dict[str, list[Case]] = {family: [] for family in FAMILIES}
        for case in cases("node"):
            if case.family in result:
                result[case.family].append(case)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_family(found: dict[str, list[Case]], family: str) -> None:
    refused = []
    for case in found[family]:
        what, text = outcome(case, "REFERENCE")
        assert what in ("passed", "refused"), f"{what}: {case.name}: {text}"
        if what == "refused" and reason(case, text) is None:
            refused.append(f"{case.name}: {text[:160]}")
    assert len(found[family]) > 15
    assert not refused


@pytest.mark.slow
def test_converted_models_of_pytorch() -> None:
    for case in cases("pytorch-converted"):
        assert outcome(case, "REFERENCE") == ("passed", ""), case.name
