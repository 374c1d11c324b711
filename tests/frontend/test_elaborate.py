"""What programs mean: graphs, names, sharing, blocks, loops, outputs, parameters."""

from __future__ import annotations

import numpy as np
import pytest

from cnnc.diagnostics import CnncError
from cnnc.frontend import parse
from cnnc.frontend.elaborate import Program
from tests.frontend.models import codes, model, wrong


def nodes(program: Program) -> list[tuple[str, str]]:
    return [(n.name, n.op) for n in program.graph.nodes if n.op not in ("input", "param", "state")]


def weights(program: Program) -> list[str]:
    """Names of weights, without `.weight`."""
    return [n.removesuffix(".weight") for n in program.parameters if n.endswith(".weight")]


# --- names


def test_running_names_are_counted_for_each_op() -> None:
    program = model("x = x -> conv(8, 3) -> relu -> conv(8, 3) -> relu\nreturn x + x")
    assert nodes(program) == [
        ("conv1", "conv"),
        ("relu1", "relu"),
        ("conv2", "conv"),
        ("relu2", "relu"),
        ("add1", "add"),
    ]
    assert list(program.parameters) == ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias"]


def test_running_names_step_around_written_ones() -> None:
    program = model("return x -> conv(8, 3) -> conv(8, 3) as conv1 -> conv(8, 3)")
    assert [n for n, _ in nodes(program)] == ["conv2", "conv1", "conv3"]


def test_names_nest_by_block_and_stay_when_other_blocks_change() -> None:
    head = "block a(x) { return x -> conv(3, 1) -> relu }\nblock b(x) { return x -> conv(3, 1) }"
    program = model("return x -> a -> b -> a as last -> b", head)
    assert weights(program) == ["a1.conv1", "b1.conv1", "last.conv1", "b2.conv1"]


def test_labels_are_calculated() -> None:
    program = model('for i in 0..2 { for j in 0..2 { x = x -> relu as layer{i + 1}.{j}.{"act"} } }\nreturn x')
    assert [n for n, _ in nodes(program)] == ["layer1.0.act", "layer1.1.act", "layer2.0.act", "layer2.1.act"]


@pytest.mark.parametrize("label", ["a..b", ".a", "a.", "a{0.5}", "a{x}", "a{true}", 'a{"\u00e9"}', '{""}', 'a{"b c"}'])
def test_labels_that_are_no_names(label: str) -> None:
    assert codes(f"return x -> relu as {label}") == ["E0314"]


def test_names_are_taken_once() -> None:
    found = wrong("y = x -> relu as a\nreturn y -> relu as a")[0]
    assert found.code == "E0314"
    assert found.notes == ("it is used at <text>:4:18 already",)
    assert codes("for i in 0..2 { x = x -> relu as a }\nreturn x") == ["E0314"]
    assert codes(
        "y = x -> b as a.b\nreturn y -> c as a",
        "block b(x) { return x -> conv(3, 1) as c }\nblock c(x) { return x -> b as b }",
    ) == ["E0314"]


def test_start_and_sum_may_be_named() -> None:
    program = model("y = relu(x) as r\nz = y + x as total\nreturn concat([y, z]) as joined")
    assert [n for n, _ in nodes(program)] == ["r", "total", "joined"]
    assert codes("y = 3 as three\nreturn x") == ["E0314"]


# --- sharing


def test_a_layer_applied_twice_shares_its_parameters() -> None:
    program = model("tower = conv(8, 3)\nreturn x -> tower, x -> tower -> relu")
    assert list(program.parameters) == ["conv1.weight", "conv1.bias"]
    assert [n.operands[1] for n in program.graph.of("conv")] == ["conv1.weight"] * 2


def test_a_shared_layer_may_be_named_when_made_or_when_applied() -> None:
    assert list(model("t = conv(8, 3) as t\nreturn (x -> t) + (x -> t)").parameters) == ["t.weight", "t.bias"]
    assert list(model("t = conv(8, 3)\nreturn (x -> t as t) + (x -> t)").parameters) == ["t.weight", "t.bias"]


def test_a_block_with_arguments_is_shared() -> None:
    head = "block b(x, w) { return x -> conv(w, 3, padding=1) as c -> batchnorm -> relu }\nblock two(x, u) { return x -> u -> u }"
    program = model("u = b(3)\nreturn x -> u -> u", head)
    assert weights(program) == ["b1.c", "b1.batchnorm1"]
    assert len(program.graph.of("conv")) == 2
    program = model("return x -> two(b(3))", head)
    assert weights(program) == ["b1.c", "b1.batchnorm1"]


def test_a_bare_name_is_a_kind_and_makes_new_layers() -> None:
    head = "block b(x) { return x -> conv(3, 3) }\nblock two(x, u) { return x -> u -> u }"
    program = model("return x -> two(b) -> two(batchnorm)", head)
    assert weights(program) == ["two1.b1.conv1", "two1.b2.conv1", "two2.batchnorm1", "two2.batchnorm2"]


def test_parameters_that_are_layers() -> None:
    program = model("return x -> act -> act", "", "act = leaky_relu(0.3)")
    assert nodes(program) == [("leaky_relu1", "leaky_relu"), ("leaky_relu2", "leaky_relu")]
    assert [n for n, _ in nodes(model("return x -> act", "", "act = relu", act="tanh"))] == ["tanh1"]


def test_sharing_needs_the_same_shapes() -> None:
    found = wrong("same = conv(8, 3)\nreturn x -> same -> same")[0]
    assert found.code == "E0315"
    assert found.notes[1] == "here it would be [8, 8, 3, 3]"


# --- blocks, loops, conditions


def test_arguments_by_position_name_and_default() -> None:
    head = "block b(x, w, k = 1, act = relu) { return x -> conv(w, k) -> act }"
    for call in ("b(4, 3)", "b(4, k=3)", "b(w=4, k=3)", "b(4, 3, relu)"):
        assert model(f"return x -> {call}", head).graph.type("b1.relu1").shape == ("N", 4, 30, 30)
    assert model("return b(x, 4)", head).graph.type("b1.relu1").shape == ("N", 4, 32, 32)
    assert model("return b(x=x, w=4)", head).graph.type("b1.relu1").shape == ("N", 4, 32, 32)
    assert codes("return x -> b", head) == ["E0207"]
    assert codes("return x -> b(4, 3, relu, 5)", head) == ["E0208"]
    assert codes("return x -> b(4, w=3)", head) == ["E0208"]
    assert codes("return x -> b(4, q=3)", head) == ["E0206"]


def test_defaults_use_what_is_before_them() -> None:
    program = model("return x -> b(4)", "block b(x, w, out = 2 * w) { return x -> conv(out, 1) }")
    assert program.graph.type("b1.conv1").shape[1] == 8


def test_blocks_return_several() -> None:
    program = model("a, b = x -> split\nreturn {left: a, right: b}", "block split(x) { return x -> relu, x -> tanh }")
    assert program.graph.outputs == (("left", "split1.relu1"), ("right", "split1.tanh1"))


def test_blocks_do_not_see_their_callers_variables() -> None:
    assert codes("w = 3\nreturn x -> b", "block b(x) { return x -> conv(w, 1) }") == ["E0301"]


def test_blocks_see_constants_that_come_later() -> None:
    program = model("return x -> b", "block b(x) { return x -> conv(W, 1) }\nconst W = V + 1\nconst V = 4")
    assert program.graph.type("b1.conv1").shape[1] == 5


def test_recursion_ends_by_a_condition() -> None:
    program = model("return x -> f(5)", "block f(x, n) { if n == 0 { return x } return x -> relu -> f(n - 1) }")
    assert len(program.graph.of("relu")) == 5


def test_recursion_within_expressions() -> None:
    deep = "x -> f(n - 1)"
    for _ in range(20):
        deep = f"(true ? {deep} : x)"
    found = wrong("return x -> f(60)", f"block f(x, n) {{ return n == 0 ? x : {deep} }}")
    assert [d.code for d in found] == ["E0408"]


def test_loops_carry_and_unpack() -> None:
    program = model(
        "w = 1\nfor a, b in [[1, 2], [3, 4]] { w = w + a * b }\nfor k in {5: 1, 6: 2} { w = w + k }\nreturn x -> conv(w, 1)"
    )
    assert program.graph.type("conv1").shape[1] == 1 + 2 + 12 + 11


def test_return_leaves_loops() -> None:
    program = model("for i in 0..9 { x = x -> relu\nif i == 2 { return x } }\nreturn x")
    assert len(program.graph.of("relu")) == 3
    assert program.warnings == ()


def test_a_variable_does_not_hide_the_layer_of_its_name() -> None:
    assert nodes(model("return x -> dropout(dropout)", "", "dropout = 0.3")) == [("dropout1", "dropout")]


# --- inputs, outputs, parameters of the model


def test_outputs_are_named() -> None:
    assert model("return x -> relu").graph.outputs == (("output", "relu1"),)
    assert model("a = x -> relu\nreturn a, x").graph.outputs == (("a", "relu1"), ("x", "x"))
    assert model("return x -> relu, x").graph.outputs == (("output0", "relu1"), ("output1", "x"))
    assert model('return {logits: x -> relu, "b": x}').graph.outputs == (("logits", "relu1"), ("b", "x"))


@pytest.mark.parametrize(
    "returned", ["3", "relu", "[x]  ", "x, 3", "{a: 3}", "{}", '"x"', '{"a b": x}', "[]", "[[x]]", "x.shape"]
)
def test_outputs_that_are_no_tensors(returned: str) -> None:
    if returned.strip() == "[x]":
        assert model(f"return {returned}").graph.outputs == (("output0", "x"),)
        return
    assert codes(f"return {returned}") == ["E0323"]


def test_parameters_of_the_model() -> None:
    for given in (50, "50", "25 * 2", np.int64(50)):
        assert model("return x -> conv(n, 1)", "", "n = 3", n=given).arguments == {"n": 50}
    assert model("return x", "", 's = "a"', s="b").arguments == {"s": "b"}
    assert model("return x -> conv(s[1], 1)", "", "s = [1, 2]", s=[3, 4]).arguments == {"s": (3, 4)}
    assert model("return x -> b", "block u(x) { return x -> relu }", "b = u", b="conv(3, 1)").parameters
    for given in ("abc", "[1]", "true", True, None, object(), "1 +", float("nan"), {1: object()}):
        assert set(codes("return x -> conv(n, 1)", "", "n = 3", n=given)) <= {"E0305", "E0301"}
    assert wrong("return x", "", "depth = 3", dept=4)[0].help == "did you mean 'depth'?"


def test_models_are_picked() -> None:
    text = "model a() { input x: f32[N, 1] return x -> relu }\nmodel b() { input x: f32[N, 1] return x -> tanh }"
    assert parse(text, model="b").model == "b"
    for name, code in ((None, "E0304"), ("c", "E0304")):
        with pytest.raises(CnncError) as caught:
            parse(text, model=name)
        assert caught.value.diagnostics[0].code == code


def test_several_inputs() -> None:
    program = parse("model m() { input a: f32[N, 3] input b: f32[N, 3] return a * b -> linear(2) }")
    assert list(program.inputs) == ["a", "b"]


# --- errors


def test_calls_are_told() -> None:
    found = wrong(
        "return x -> outer", "block inner(x, k) { return x -> conv(8, k) }\nblock outer(x) { return x -> inner(99) }"
    )[0]
    assert [name for name, _ in found.calls] == ["inner", "outer"]
    assert found.notes == ("the input is 32 x 32, padded by 0 and 0 on axis 2",)


def test_the_batch_meets_no_other_axis() -> None:
    """[N, 1] beside [N, 1, 4] would be [N, N, 4]."""
    for behind in ("", " -> flatten", " -> conv(3, 1)", " -> linear(2)"):
        text = f"model m() {{ input x: f32[N, 1, 4] a = x -> flatten return (a + x){behind} }}"
        with pytest.raises(CnncError, match=r"E0205.*the batch of .N, 4. would be axis 1"):
            parse(text)


def test_a_failure_silences_what_depends_on_it() -> None:
    assert codes(
        "y = x -> rleu\nz = y + 1\nw = z.channels\nfor i in 0..w { z = z -> relu }\nq = undefined\nreturn z"
    ) == ["E0302", "E0301"]
    assert codes("if undefined { a = 3 }\nfor i in nothing { b = 4 }\nreturn x -> conv(a, b)") == ["E0301", "E0301"]


def test_later_layers_of_a_failed_pipe_are_looked_at() -> None:
    assert codes("return x -> conv(0, 3) -> rleu -> linear(10, bia=true)") == ["E0203", "E0302", "E0206"]


def test_what_is_not_reached_is_looked_at() -> None:
    assert codes("if false { y = x -> rleu } else { y = x }\nreturn y") == ["E0302"]
    assert codes(
        "return x", "block b(x, k = nothing) { for i in 0..n { x = x -> conv(w, k) as a{j} } return {a: x, b: y} }"
    ) == ["E0301", "E0301", "E0301", "E0301", "E0301"]
    assert model("return x -> b", "block b(x) { if x.rank == 9 { y = x } return x }").warnings == ()


def test_the_same_error_is_told_once() -> None:
    assert codes("for i in 0..9 { y = x -> b }\nreturn x", "block b(x) { return x -> rleu }") == ["E0302"]


def test_origins_lead_to_the_source() -> None:
    node = model("return x -> b", "block b(x) { return x -> relu }").graph.nodes[-1]
    assert node.origin is not None
    assert str(node.origin.span) == "<text>:1:26"
    assert [(name, str(span)) for name, span in node.origin.calls] == [("b", "<text>:4:13")]


@pytest.mark.parametrize(
    ("layer", "warned"),
    [
        ("maxpool(3, stride=3)", True),
        ("conv(8, 3, stride=2)", True),
        ("conv(8, 3, stride=2, padding=1)", False),
        ("conv(8, 1, stride=3)", False),
        ("maxpool(3, stride=2, padding=1)", False),
        ("maxpool(3, stride=3, ceil_mode=true)", False),
        ("conv(8, 4, stride=2)", False),
        ("conv(8, 3, stride=2, padding=[[1, 0], [1, 0]])", False),
        ("avgpool([2, 3])", True),
    ],
)
def test_windows_that_do_not_tile(layer: str, warned: bool) -> None:
    assert [w.code for w in model(f"return x -> {layer}").warnings] == ["W0101"] * warned


def test_leftover_columns_are_named() -> None:
    warning = parse("model m() { input x: f32[N, 1, 7] return x -> conv(1, 3, stride=3) }").warnings[0]
    assert warning.message == "conv: windows do not tile the input: the last column is left over"
    assert warning.notes == ("(7 - 3) / 3 + 1 = 2.33 is rounded down",)


@pytest.mark.parametrize(("stride", "size"), [(1, 5), (2, 3), (3, 2)])
def test_the_sizes_of_the_lectures(stride: int, size: int) -> None:
    program = parse(f"model m() {{ input x: f32[N, 1, 7, 7] return x -> conv(1, 3, stride={stride}) }}")
    assert program.graph.type("conv1").shape == ("N", 1, size, size)


def test_parameters_that_are_not_used() -> None:
    text = """
    block b(x, width, depth = 2, unused = 3) { for i in 0..depth { x = x -> conv(width, 1) as c.{i} }  return x }
    model m(classes = 3, act = relu, size = 4, half = size // 2, name = "a", lost = half) {
        input x: f32[N, 3, size, size]
        if classes > 2 { x = b(x, 4) } else { x = x -> act }
        return x -> flatten -> linear(classes) as head.{name}
    }
    """
    found = [(w.code, w.message) for w in parse(text).warnings]
    assert found == [
        ("W0106", "the parameter lost of model m is not used"),
        ("W0106", "the parameter unused of block b is not used"),
    ]


# --- parameters of a block's own

SCALED = """block scaled(x, begin = 0.5) {
    param scale: f32[x.channels] = begin
    param shift: f32[1, x.channels, 1, 1] = normal(std=0.1)
    return x * scale + shift
}"""


def test_a_block_s_own_parameters_are_named_by_it_and_shared_with_it() -> None:
    program = model("tower = scaled(2) as tower\nreturn (x -> tower) + (x -> tower) -> scaled", SCALED)
    shapes = {name: spec.shape for name, spec in program.parameters.items()}
    assert shapes == {
        "tower.scale": (3,),
        "tower.shift": (1, 3, 1, 1),
        "scaled1.scale": (3,),
        "scaled1.shift": (1, 3, 1, 1),
    }
    assert str(program.parameters["tower.scale"].start()) == "constant(value=2.0)"
    assert str(program.parameters["tower.shift"].start()) == "normal(std=0.1)"


def test_parameters_of_a_model_start_and_train() -> None:
    import cnnc

    text = (
        "model m { input x: f32[N, 3] param a: f32[3] = ones param b: f32[1] = zeros param = x * a + b return param }"
    )
    net = cnnc.parse(text)
    assert net.weights["a"].tolist() == [1, 1, 1]
    _, gradients = cnnc.value_and_grad(net)(np.ones((2, 3), np.float32), np.array([0, 1]))
    assert set(gradients) == {"a", "b"}
    assert abs(gradients["b"]).max() < 1e-6  # logits that move together change no loss


def test_a_shared_parameter_has_one_shape() -> None:
    assert codes("t = scaled(1)\ny = x -> t\nreturn y -> conv(4, 3) -> t", SCALED) == ["E0315"] * 2
