"""Models around a body, as several tests write them."""

from __future__ import annotations

from typing import Any

import pytest

from cnnc.diagnostics import CnncError, Diagnostic
from cnnc.frontend import parse
from cnnc.frontend.elaborate import Program


def model(body: str, head: str = "", parameters: str = "", **given: Any) -> Program:
    return parse(f"{head}\nmodel m({parameters}) {{\ninput x: f32[N, 3, 32, 32]\n{body}\n}}", **given)


def wrong(body: str, head: str = "", parameters: str = "", **given: Any) -> tuple[Diagnostic, ...]:
    with pytest.raises(CnncError) as caught:
        model(body, head, parameters, **given)
    return caught.value.diagnostics


def codes(body: str, head: str = "", parameters: str = "", **given: Any) -> list[str]:
    return [d.code for d in wrong(body, head, parameters, **given)]
