"""What an IR text may not say, whatever the op: each is a diagnostic, as text and inside an artifact."""

from __future__ import annotations

import pytest

import cnnc.ops  # noqa: F401
from cnnc.diagnostics import CnncError
from cnnc.ir.text import parse_graph

HEAD = "graph @g(%x: f32[N,4,6,6] nchw) {\n"
CONV = HEAD + "  %w = param : f32[4,4,1,1] oihw\n  %y = conv(%x, %w) {} : f32[N,4,6,6] nchw\n  return %y\n}\n"


def conv(weights: str = "oihw", attributes: str = "") -> str:
    return CONV.replace("oihw", weights).replace("{}", f"{{{attributes}}}" if attributes else "")


def ends(body: str) -> str:
    return f"{HEAD}  {body}\n  return %y\n}}\n"


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        (conv("nchw"), "E0503", "their layout is oihw"),
        (conv("nchw16c"), "E0503", "layout"),
        (conv("nchw0c"), "E0503", "no layout 'nchw0c'"),
        (conv("nchw999999999999c"), "E0503", "no layout"),
        (conv("oiw"), "E0503", "no layout 'oiw' with 4 axes"),
        (conv(attributes=f'epilogue="{" + ".join(["y"] * 150)}"'), "E0502", "149 functions, 128 are the limit"),
        (conv(attributes=f'epilogue="{" + ".join(["y"] * 2000)}"'), "E0502", "expression"),
        (conv(attributes=f'epilogue="{"exp(" * 150 + "y" + ")" * 150}"'), "E0501", "nested more than 64"),
        (conv(attributes=f'epilogue="y * {"9" * 400}"'), "E0502", "no float64"),
        (conv(attributes="epilogue=3"), "E0502", "epilogue is 3, not a text"),
        (conv(attributes="groups=2.0"), "E0502", "groups is 2.0, not a whole number"),
        (conv(attributes="groups=[1]"), "E0502", "groups is (1,), not"),
        (conv(attributes=f"groups={2**63}"), "E0501", "beyond 64 bits"),
        (ends("%y = leaky_relu(%x) {negative_slope=nan} : f32[N,4,6,6] nchw"), "E0502", "negative_slope is nan"),
        (ends('%y = leaky_relu(%x) {negative_slope="a"} : f32[N,4,6,6] nchw'), "E0502", "negative_slope"),
        (ends("%y = leaky_relu(%x) {negative_slope=1e39} : f32[N,4,6,6] nchw"), "E0502", "float32"),
        (ends("%y = maxpool(%x) {ceil_mode=1, kernel=[2,2]} : f32[N,4,5,5] nchw"), "E0502", "ceil_mode is 1"),
        (ends("%y = constant {value=[1]} : f32[]"), "E0502", "value is"),
        (ends(f"%y = param : f32[{','.join(['2147483647'] * 3)}]"), "E0504", "more than 2^63 bytes"),
        (ends(f"%y = param : f32[{','.join(['1'] * 33)}]"), "E0501", "33 axes"),
        (ends("%k = param : i64[4]\n  %y = add(%x, %k) : f32[N,4,6,6] nchw"), "E0504", "labels and seeds"),
        (ends("%b = to_layout(%x) {layout=nchw16c} : f32[N,4,6,6] nchw16c\n  %y = flatten(%b) : f32[N,144]"), "E0503", "plain"),
    ],
)  # fmt: skip
def test_what_no_op_reads(text: str, code: str, words: str) -> None:
    with pytest.raises(CnncError, match=code) as e:
        parse_graph(text)
    assert words in str(e.value)


def test_what_is_as_it_should_be() -> None:
    parse_graph(conv())
    parse_graph(conv(attributes=f'epilogue="{" + ".join(["y"] * 100)}"'))
    parse_graph(
        ends("%b = to_layout(%x) {layout=nchw16c} : f32[N,4,6,6] nchw16c\n  %y = relu(%b) : f32[N,4,6,6] nchw16c")
    )


def test_a_long_message_is_cut() -> None:
    with pytest.raises(CnncError) as e:
        parse_graph(ends(f"%y = {'a' * 100_000}(%x) : f32[N,4,6,6] nchw"))
    assert len(e.value.diagnostics[0].message) < 3000
