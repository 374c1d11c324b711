"""Pointwise expressions as text and back, and their derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.ir import expression as ex
from cnnc.ir.derivative import differentiate

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    "text",
    [
        "a0 + a1 * a2",
        "(a0 + a1) * a2",
        "a0 - (a1 - a2)",
        "-a0",
        "-(-a0)",
        "a0 / a1 / a2",
        "a0 / (a1 / a2)",
        "where(a0 > a1, 1e-05, -3)",
        "max(min(a0, 1), -a1)",
        "exp(-a0 * a0) - log(abs(tanh(sqrt(a0))))",
        "2.5 - -1.5",
        "neg(1) * a0",
        "inf - a0",
        "1e+20 + a0",
        "(a0 > a1) > a2",
        "a0 >= (a1 == a2)",
        "(a0 != 1) * floor(pow(a0, 2))",
        "where((a0 >= a1) == a2, log1p(a0), softplus(erf(a1)))",
    ],
)
def test_an_expression_s_text_is_read_back(text: str) -> None:
    e = ex.parse(text)
    assert ex.parse(ex.text(e)) == e


@pytest.mark.parametrize(
    "e",
    [
        ("const", -INF),
        ("const", -0.0),
        ("neg", ("const", 0.0)),
        ("neg", ("neg", ("const", 1.0))),
        ("neg", ("const", -0.0)),
        ("sub", ("var", "a"), ("const", -2.0)),
        ("mul", ("neg", ("const", INF)), ("var", "a")),
        ("const", 1e300),
    ],
)
def test_numbers_in_an_expression_are_read_back(e: ex.Expression) -> None:
    assert str(ex.parse(ex.text(e))) == str(e)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a0 +",
        "f(a0)",
        "a0 ** 2",
        "exp(a0, a1)",
        "a0 if a1 else a2",
        "'x'",
        "a0.real",
        "[a0]",
        "True",
        "(" * 200 + ")" * 200,
        "1" + "+1" * 6000,
        "lambda: 0",
        "a0 < a1 < a2",
        "exp(x=a0)",
        "max(*a0)",
    ],
)
def test_a_text_that_is_no_expression(text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        ex.parse(text)


def test_derivatives_of_expressions() -> None:
    rng = np.random.default_rng(0)
    for text in (
        "a0 * a1 / (a0 + 3)",
        "exp(a0) * tanh(a1)",
        "log(a0 * a0 + 1)",
        "sqrt(a0 * a0 + 2)",
        "abs(a0) * max(a0, a1)",
        "where(a0 > a1, a0 * a0, -a0)",
        "min(a0 * 2, a1)",
        "1 / (1 + exp(-a0))",
        "log1p(a0 * a0) * erf(a0 * a1)",
        "softplus(a0 * a1) + normal_cdf(a0 * a0) * normal_pdf(a0 - a1)",
        "pow(abs(a0) + 0.5, a1) + pow(a0, 3) + pow(1 + a0 * a0, a0)",
        "floor(a0) + sign(a0) * a0 + (a0 >= a1) * a0",
    ):
        e = ex.parse(text)
        for _ in range(5):
            a, b = rng.standard_normal(2)
            d = float(ex.evaluate(differentiate(e, "a0"), {"a0": a, "a1": b}))
            h = 1e-6
            numeric = (ex.evaluate(e, {"a0": a + h, "a1": b}) - ex.evaluate(e, {"a0": a - h, "a1": b})) / (2 * h)
            assert abs(d - numeric) < 1e-6 * max(1, abs(d))


def test_what_is_always_so_is_put_in() -> None:
    for text, simple in (
        ("where(a0 > inf, 1, a0)", "a0"),
        ("where(-inf > a0, 1, a0)", "a0"),
        ("pow(a0, 2)", "a0 * a0"),
        ("pow(a0, 1)", "a0"),
        ("pow(a0, 0)", "1"),
        ("where(2 > 1, a0, a1)", "a0"),
    ):
        assert ex.text(ex.simplify(ex.parse(text))) == simple
    assert ex.text(differentiate(ex.parse("max(a0, a0)"), "a0")) == "1"


def test_a_large_expression_is_taken_apart() -> None:
    tree = ex.parse("tanh(a0) * a0 + exp(a0)")
    for _ in range(5):
        tree = ("mul", ("add", tree, ex.const(1)), ("sub", tree, ex.const(2)))
    whole, parts = ex.taken_apart(tree, 16)
    assert all(ex.size(e) <= 16 for e in (whole, *parts.values()))
    values = {"a0": np.float64(0.3)}
    for name, part in parts.items():
        values[name] = ex.evaluate(part, values)
    assert ex.evaluate(whole, values) == ex.evaluate(tree, values)
