"""What compile-time expressions give, and which of them give nothing."""

from __future__ import annotations

from typing import get_args

import pytest

from cnnc.frontend.elaborate import elaborate
from cnnc.frontend.expressions import EVALUATORS
from cnnc.frontend.statements import STATEMENTS
from cnnc.frontend.text import syntax
from tests.frontend.models import codes, model


def test_every_kind_of_node_has_its_function() -> None:
    assert callable(elaborate)  # what it imports registers them
    assert set(EVALUATORS) == {*get_args(syntax.Expression), syntax.Activation}
    assert set(STATEMENTS) == set(get_args(syntax.Statement))


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("2 + 3 * 4", 14),
        ("2 ** 3 ** 2", 512),
        ("-2 ** 2", -4),
        ("7 // 2", 3),
        ("-7 // 2", -4),
        ("7 % 3", 1),
        ("64 // 2", 32),
        ("10 - 2 - 3", 5),
        ("[1, 2, 3][1]", 2),
        ("[1, 2, 3][-1]", 3),
        ("(4, 5)[0]", 4),
        ("{18: 2, 34: 3}[34]", 3),
        ('{lr = 7}["lr"]', 7),
        ("len([1, 2])", 2),
        ("max(3, 5)", 5),
        ("min([3, 5])", 3),
        ("int(7 / 2)", 3),
        ("round(2.6)", 3),
        ("1 < 2 and 2 < 3 ? 8 : 9", 8),
        ("not true ? 8 : 9", 9),
        ("false and 1 // 0 == 0 ? 8 : 9", 9),
        ("1 < 2 < 3 ? 8 : 9", 8),
        ("1 < 3 < 2 ? 8 : 9", 9),
        ('"a" + "b" == "ab" ? 8 : 9', 8),
        ("len([0] * 5 + [1])", 6),
        ("true == 1 ? 8 : 9", 9),
        ("[1, 2] == (1, 2) ? 8 : 9", 8),
        ("none == none ? 8 : 9", 8),
        ("relu == relu ? 8 : 9", 8),
        ("true ? 1 : false ? 2 : 3", 1),
        ("x.channels + x.height + x.width + x.rank", 71),
        ("x.shape[1] + x.shape[-1]", 35),
        ("x.batch == x.shape[0] ? 8 : 9", 8),
        ("1e2 == 100 ? 8 : 9", 8),
        ('len("abc")', 3),
        ("1 == 1.0 ? 8 : 9", 8),
    ],
)
def test_arithmetic(expression: str, value: int) -> None:
    program = model(f"y = {expression}\nreturn x -> conv(y + 20, 1)")
    assert program.graph.type(program.graph.outputs[0][1]).shape[1] == value + 20


@pytest.mark.parametrize(
    ("expression", "code"),
    [
        ("1 // 0", "E0311"),
        ("1 % 0", "E0311"),
        ("1 / 0.0", "E0311"),
        ("0 ** -1", "E0311"),
        ("(-8) ** 0.5", "E0311"),
        ("10 ** 30", "E0404"),
        ("10 ** 10 ** 10", "E0404"),
        ("2 ** 62 * 2", "E0404"),
        ("1e308 * 10", "E0404"),
        ("x * 1e39", "E0404"),
        ("-4e38 + x", "E0404"),
        ("x / 1e-39", "E0404"),
        ('"a" - 1', "E0308"),
        ('1 + "a"', "E0308"),
        ("[1] + 1", "E0308"),
        ("true + 1", "E0308"),
        ('-"a"', "E0308"),
        ("not 1", "E0310"),
        ("1 and true", "E0310"),
        ("1 ? 2 : 3", "E0310"),
        ('1 < "a"', "E0308"),
        ("[1] < [2]", "E0308"),
        ("x < true", "E0308"),
        ("x == none", "E0308"),
        ("2 ** x", "E0308"),
        ("x // 2", "E0308"),
        ('x + "a"', "E0308"),
        ("x / 0", "E0311"),
        ("[1][1]", "E0309"),
        ("[1][-2]", "E0309"),
        ("[1][0.0]", "E0308"),
        ("[1][true]", "E0308"),
        ("{1: 2}[2]", "E0309"),
        ("3[0]", "E0308"),
        ("{[1]: 2}", "E0308"),
        ("x.batch * 2", "E0318"),
        ("x.batch > 2", "E0318"),
        ("x.batch == 2", "E0318"),
        ("N", "E0318"),
        ("x.nothing", "E0306"),
        ("[1].channels", "E0306"),
        ("(x -> flatten).height", "E0306"),
        ("undefined", "E0301"),
        ("None", "E0301"),
        ("len(3)", "E0308"),
        ("max()", "E0207"),
        ('max("a", 1)', "E0308"),
        ("len(1, 2)", "E0207"),
        ("[0] * 10 ** 9", "E0409"),
        ('"a" * 10 ** 9', "E0409"),
        ("3(4)", "E0302"),
        ("3 -> relu", "E0308"),
        ("x -> len", "E0302"),
        ("{a: 1, a: 2}", "E0301"),
    ],
)
def test_arithmetic_that_fails(expression: str, code: str) -> None:
    assert codes(f"y = {expression}\nreturn x")[0] == code
