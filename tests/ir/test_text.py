"""Text of the IR: what is printed is read back exactly, and what cannot be read is said where it is."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cnnc.ops  # noqa: F401
from cnnc.diagnostics import CnncError
from cnnc.ir.graph import Attributes, Graph, Node
from cnnc.ir.text import parse_graph, print_graph, print_value
from cnnc.ir.types import TensorType
from tests.passes.networks import small
from tests.random_networks.generate import network

LENET = """graph @lenet5(%image: f32[N,1,28,28] nchw) {
  %conv1.weight = param : f32[6,1,5,5] oihw
  %conv1.bias = param : f32[6]
  %conv1 = conv(%image, %conv1.weight, %conv1.bias) {padding=[2,2]} : f32[N,6,28,28] nchw
  %sigmoid1 = sigmoid(%conv1) : f32[N,6,28,28] nchw
  return %sigmoid1
}
"""


def test_the_text_of_the_documentation() -> None:
    graph = parse_graph(LENET)
    assert print_graph(graph) == LENET == str(graph)
    assert graph.node("conv1").attributes["padding"] == (2, 2)
    assert [n.name for n in graph.parameters] == ["conv1.weight", "conv1.bias"]


def test_positions_on_request() -> None:
    text = print_graph(parse_graph(LENET, "lenet.ir"), positions=True)
    assert "# lenet.ir:4:12" in text
    assert parse_graph(text) == parse_graph(LENET)


def test_absent_operands_labels_updates_and_empty_operands() -> None:
    text = """graph @g(%x: f32[N,2,3] ncw, %r: f32[N,4,3] ncw) {
  %w = param : f32[4,2,1] oiw
  %s = state : f32[]
  %two = constant() {value=2.0} : f32[]
  %y = conv(%x, %w, _, %r) {epilogue="y + a0"} : f32[N,4,3] ncw
  %p, %q = pointwise(%y) {expressions=["a0 * 2","where(a0 > 0, a0, 0)"]} : f32[N,4,3] ncw, f32[N,4,3] ncw
  update %s = %two
  return %p as "a name, with (signs)", %q
}
"""
    graph = parse_graph(text)
    assert print_graph(graph) == text
    assert graph.node("y").operands == ("x", "w", None, "r")
    assert graph.node("two").operands == ()
    assert graph.updates == (("s", "two"),)
    assert graph.outputs == (("a name, with (signs)", "p"), ("q", "q"))


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,12}", fullmatch=True)
VALUES: Any = st.recursive(
    st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(st.characters(blacklist_characters='"\n\r', min_codepoint=32, max_codepoint=0x2FF), max_size=8),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=6,
)
DIMS = st.integers(0, 2**31 - 1) | st.just("N")
TYPES = st.builds(
    TensorType,
    st.sampled_from(["f32", "f64", "i64", "i32"]),
    st.lists(DIMS, max_size=5).map(tuple),
    st.none() | st.sampled_from(["nchw", "oihw", "nchw16c", "ncw8c"]),
)


@given(
    st.dictionaries(st.from_regex(r"[a-z]\w{0,8}", fullmatch=True).filter(str.isascii), VALUES, max_size=4),
    st.lists(NAMES, min_size=3, max_size=3, unique=True),
    TYPES,
)
@settings(max_examples=150, deadline=None)
def test_any_attributes_names_and_types_are_read_back(
    attributes: dict[str, Any], names: list[str], t: TensorType
) -> None:
    a, b, c = names
    nodes = (
        Node("input", (), Attributes(), (a,), (t,)),
        Node("relu", (a, None), Attributes(attributes), (b, c), (t, t)),
    )
    graph = Graph("g", nodes, (("out", b), (c, c)))
    again = parse_graph(print_graph(graph), verify=False)
    assert again == graph
    assert print_graph(again) == print_graph(graph)


@given(st.floats())
@settings(max_examples=100, deadline=None)
def test_numbers_keep_every_bit(value: float) -> None:
    text = f"graph @g() {{\n  %c = constant() {{value={print_value(value)}}} : f32[]\n  return %c\n}}\n"
    read = parse_graph(text).node("c").attributes["value"]
    assert (math.isnan(value) and math.isnan(read)) or (
        read == value and math.copysign(1, read) == math.copysign(1, value)
    )


@given(
    st.text(max_size=60)
    | st.lists(
        st.sampled_from(
            [
                "graph",
                "@g",
                "(",
                ")",
                "{",
                "}",
                "%x",
                ":",
                "f32",
                "[",
                "]",
                "N",
                ",",
                "=",
                "relu",
                "return",
                "update",
                "1",
                '"',
                "_",
                "-",
                "inf",
                "as",
                "#",
                "\n",
                " ",
            ]
        ),
        max_size=40,
    ).map(" ".join)
)
@settings(max_examples=200, deadline=None)
def test_no_text_gives_anything_but_a_diagnostic(text: str) -> None:
    try:
        parse_graph(text)
    except CnncError as e:
        codes = {d.code[:3] for d in e.diagnostics}
    else:
        codes = {"E05"}
    assert codes == {"E05"}


@given(
    st.integers(0, len(LENET) - 1),
    st.sampled_from(["", "%", "}", "(", "N", "9", '"', "\x00", "é", "nchw", "conv", "-", "%conv1", "\n"]),
)
@settings(max_examples=200, deadline=None)
def test_a_changed_text_gives_a_diagnostic_or_a_graph(at: int, put: str) -> None:
    try:
        graph = parse_graph(LENET[:at] + put + LENET[at + 1 :])
        assert parse_graph(print_graph(graph)) == graph
    except CnncError as e:
        codes = {d.code[:3] for d in e.diagnostics}
    else:
        codes = {"E05"}
    assert codes == {"E05"}


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("sigmoid(%conv1)", "sigmid(%conv1)", "E0502", "did you mean 'sigmoid'"),
        ("sigmoid(%conv1)", "sigmoid(%conv2)", "E0502", "%conv2 is not defined above"),
        ("%sigmoid1 =", "%conv1 =", "E0502", "%conv1 is defined twice"),
        ("{padding=[2,2]}", "{padding=[2,2], padding=[1,1]}", "E0502", "given twice"),
        ("{padding=[2,2]}", "{pad=[2,2]}", "E0502", "no attribute 'pad'"),
        ("{padding=[2,2]}", "{padding=[1,1]}", "E0504", "conv gives f32[N,6,26,26] nchw"),
        ("{padding=[2,2]}", '{padding="x"}', "E0504", "padding is a number"),
        ("return %sigmoid1", "return %nothing", "E0502", "%nothing is not defined"),
        ("sigmoid(%conv1)", "reshape(%conv1) {shape=[1e999,1,1,1]}", "E0504", "shape is a list of whole numbers"),
        ("f32[6]", "f16[6]", "E0501", "unknown element type 'f16'"),
        ("f32[6]", "f32[M]", "E0501", "'M' is no dimension"),
        ("f32[6]", "f32[-6]", "E0501", "is no dimension"),
        ("f32[6]", "f32[6.5]", "E0501", "is no dimension"),
        ("f32[6]", "f32[99999999999]", "E0501", "is no dimension"),
        ("return", "retrn", "E0501", "unexpected"),
        ("(%conv1)", "(%conv1, %conv1)", "E0502", "takes 1 operands, not 2"),
        ("(%image, %conv1.weight", "(_, %conv1.weight", "E0502", "cannot be left out"),
        ("%conv1.bias = param", "%conv1.bias, %other = param", "E0502", "2 results have 1 types"),
        ("graph @lenet5", "graph lenet5", "E0501", "a name such as @net"),
        ("nchw) {", "nhwc) {", "E0503", "plain layout"),
        ("[2,2]", "[" * 100 + "]" * 100, "E0501", "nested"),
        ("f32[6]", "f32[6", "E0501", "unexpected"),
        ("}\n", "", "E0501", "the end is unexpected"),
        ("%sigmoid1 = sigmoid(%conv1) : f32[N,6,28,28] nchw", "%sigmoid1 = sigmoid(%conv1)", "E0501", "':'"),
    ],
)
def test_what_is_wrong_is_said_where_it_is(old: str, new: str, code: str, words: str) -> None:
    assert old in LENET
    with pytest.raises(CnncError) as e:
        parse_graph(LENET.replace(old, new, 1), "lenet.ir")
    assert e.value.diagnostics[0].code == code, str(e.value)
    assert words in str(e.value)
    assert "lenet.ir:" in str(e.value) or words == "nested"


def test_a_text_beyond_measure_is_refused() -> None:
    with pytest.raises(CnncError, match="characters"):
        parse_graph("#" * (17 << 20))
    with pytest.raises(CnncError):
        parse_graph(LENET.replace("[2,2]", "[" + "9" * 5000 + ",2]"))


@pytest.mark.parametrize(
    "graph", [small(), small(dropout=True), *(network(s) for s in range(20))], ids=lambda g: g.name
)
def test_networks_are_read_back(graph: Graph) -> None:
    assert parse_graph(print_graph(graph)) == graph


def test_average_pooling_has_no_dilation() -> None:
    with pytest.raises(CnncError, match="avgpool has no attribute 'dilation'"):
        parse_graph(
            "graph @g(%x: f32[N,3,6,5] nchw) {"
            " %y = avgpool(%x) {dilation=[2,2], kernel=[2,2]} : f32[N,3,4,3] nchw return %y }"
        )
