"""The lectures' numbers, out of `summary`."""

from __future__ import annotations

from pathlib import Path

import pytest

from cnnc import driver
from cnnc.diagnostics import CnncError
from cnnc.summary import Summary

EXAMPLES = Path(__file__).parent.parent / "examples"


def summary(body: str, shape: str = "3, 32, 32", batch: int = 1) -> Summary:
    return driver.parse(f"model m() {{\n    input x: f32[N, {shape}]\n    return x{body}\n}}\n").summary(batch)


# name of the row that follows: output, KiB, parameters, multiply-adds
ALEXNET = [
    ("conv", (64, 56, 56), 784, 23_296, 72_855_552),
    ("maxpool", (64, 27, 27), 182.25, 0, 0),
    ("conv", (192, 27, 27), 546.75, 307_392, 223_948_800),
    ("maxpool", (192, 13, 13), 126.75, 0, 0),
    ("conv", (384, 13, 13), 253.5, 663_936, 112_140_288),
    ("conv", (256, 13, 13), 169, 884_992, 149_520_384),
    ("conv", (256, 13, 13), 169, 590_080, 99_680_256),
    ("maxpool", (256, 6, 6), 36, 0, 0),
    ("linear", (4096,), 16, 37_752_832, 37_748_736),
    ("linear", (4096,), 16, 16_781_312, 16_777_216),
    ("linear", (1000,), 3.90625, 4_097_000, 4_096_000),
]


@pytest.mark.parametrize("row", range(len(ALEXNET)))
def test_alexnet_row_by_row(row: int) -> None:
    rows = [
        r
        for r in driver.load(EXAMPLES / "alexnet.cnn", size=227).summary().rows
        if r.op in ("conv", "maxpool", "linear")
    ]
    op, output, kib, params, macs = ALEXNET[row]
    assert len(rows) == len(ALEXNET)
    found = rows[row]
    assert (found.op, found.output, found.output_kib, found.params, found.macs) == (op, (1, *output), kib, params, macs)


def test_alexnet_totals() -> None:
    s = driver.load(EXAMPLES / "alexnet.cnn", size=227).summary()
    assert s.params == 61_100_840
    assert s.macs == 716_767_232


def test_vgg16() -> None:
    s = driver.load(EXAMPLES / "vgg.cnn", depth=16).summary()
    assert s.params == 138_357_544
    assert round(s.macs / 1e9, 2) == 15.47


@pytest.mark.parametrize(
    ("depth", "params"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)]
)
def test_resnets(depth: int, params: int) -> None:
    assert driver.load(EXAMPLES / "resnet.cnn", depth=depth).summary().params == params


@pytest.mark.parametrize(("depth", "params"), [(11, 132_863_336), (13, 133_047_848), (19, 143_667_240)])
def test_vggs(depth: int, params: int) -> None:
    assert driver.load(EXAMPLES / "vgg.cnn", depth=depth).summary().params == params


def test_lenet() -> None:
    s = driver.load(EXAMPLES / "lenet5_relu.cnn").summary()
    shapes = [r.output[1:] for r in s.rows if r.op in ("conv", "maxpool", "flatten", "linear")]
    assert shapes == [(20, 28, 28), (20, 14, 14), (50, 14, 14), (50, 7, 7), (2450,), (500,), (10,)]
    weights = [r.facts.weight for r in s.rows if r.facts.weight]
    assert weights == [(20, 1, 5, 5), (50, 20, 5, 5), (500, 2450), (10, 500)]


def test_ten_5x5_filters() -> None:
    (row,) = summary(" -> conv(10, 5, padding=2)").rows
    assert (row.output, row.params, row.macs) == ((1, 10, 32, 32), 760, 768_000)


@pytest.mark.parametrize(("stride", "size"), [(1, 5), (2, 3), (3, 2)])
def test_seven_wide(stride: int, size: int) -> None:
    (row,) = summary(f" -> conv(1, 3, stride={stride})", "1, 7, 7").rows
    assert row.output == (1, 1, size, size)


@pytest.mark.parametrize("layers", [1, 2, 5])
@pytest.mark.parametrize("kernel", [1, 3, 4])
def test_receptive_field_of_a_stack(layers: int, kernel: int) -> None:
    rows = summary(f" -> conv(2, {kernel})" * layers).rows
    assert [r.receptive_field for r in rows] == [1 + (i + 1) * (kernel - 1) for i in range(layers)]


def test_two_3x3_see_what_one_5x5_sees() -> None:
    two, one = (
        summary(" -> conv(8, 3, bias=false)" * 2, "8, 32, 32"),
        summary(" -> conv(8, 5, bias=false)", "8, 32, 32"),
    )
    assert two.rows[-1].receptive_field == one.rows[-1].receptive_field == 5
    assert (two.params, one.params) == (18 * 64, 25 * 64)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (" -> conv(2, 3, dilation=2)", 5),
        (" -> conv(2, 3, stride=2) -> conv(2, 3)", 7),
        (" -> maxpool(2) -> conv(2, 3)", 6),
        (" -> conv(2, [3, 5])", (3, 5)),
        (" -> relu", 1),
        (" -> conv(2, 3) -> global_avgpool", 32),
        (" -> conv(2, 3) -> flatten -> linear(4)", 32),
        (" -> maxpool(2) -> mean(axis=[2, 3])", 32),
        (" -> mean(axis=3)", (1, 32)),
        (" -> flatten -> unsqueeze(1) -> conv(2, 3) -> maxpool(2)", 32),
    ],
)
def test_receptive_fields(body: str, field: int | tuple[int, ...]) -> None:
    assert summary(body).rows[-1].receptive_field == field


def test_receptive_field_of_paths_that_join_is_the_largest() -> None:
    text = "model m() {\n input x: f32[N, 3, 8, 8]\n a = x -> conv(3, 3, padding=1)\n return a + x -> conv(2, 3)\n}"
    assert driver.parse(text).summary().rows[-1].receptive_field == 5


def test_resnet50_receptive_field() -> None:
    """By hand: 11 behind the stem, then 3, 4, 6 and 3 windows of 3x3 over pixels 4, 8, 16 and 32 apart, the first of
    a stage before its stride."""
    rows = {r.name: r.receptive_field for r in driver.load(EXAMPLES / "resnet.cnn", depth=50).summary().rows}
    assert rows["layer4.2.conv3"] == 427


def test_shared_weights_count_once() -> None:
    text = (
        "model m() {\n input l: f32[N, 3, 8, 8]\n input r: f32[N, 3, 8, 8]\n tower = conv(4, 3)\n"
        " return (l -> tower) - (r -> tower)\n}"
    )
    s = driver.parse(text).summary()
    assert [r.params for r in s.rows] == [112, 112, 0]
    assert s.params == 112


def test_running_statistics_are_no_parameters() -> None:
    assert summary(" -> batchnorm").params == 6


def test_memory_is_planned_when_it_is_read() -> None:
    s = summary(" -> conv(10, 5, padding=2) -> flatten -> linear(10)")
    inference, training = s.memory or (0, 0)
    assert training > inference > 4 * s.params
    assert s.to_json()["memory"] == {"inference_bytes": inference, "training_bytes": training}


def test_a_network_without_a_training_step() -> None:
    s = summary(" -> flatten -> linear(10) -> softmax")  # no logits
    assert "there is no training step" in str(s)
    assert s.to_json()["memory"]["training_bytes"] is None


def test_texts() -> None:
    s = summary(" -> conv(10, 5, padding=2) -> flatten -> linear(10)")
    assert "1x10x32x32" in str(s)
    assert "768,000" in s._repr_html_()
    assert all(line == line.rstrip() for line in str(s).splitlines())


def test_a_batch_of_any_size_takes_the_same_time() -> None:
    """Plans have as many steps for the largest batch: a loop over its images would take minutes."""
    net = driver.load(EXAMPLES / "lenet5.cnn")
    assert "for inference" in str(net.summary(2**31 - 1)).replace("\n", " ")


@pytest.mark.parametrize(("shape", "batch"), [("2147483647, 1000", 2**31 - 1), ("32768, 1000, 1000", 2**31 - 1)])
def test_what_no_machine_can_hold_is_said(shape: str, batch: int) -> None:
    """Addresses would pass 64 bits."""
    net = driver.parse(f"model m {{ input x: f32[N, {shape}] return x -> relu }}")
    with pytest.raises(CnncError, match="E0410") as e:
        str(net.summary(batch))
    assert e.value.exit_code == 5


def test_the_largest_windows_that_are_let_in() -> None:
    for layer in ("conv(1, 3, padding=1000000, dilation=1000000)", "maxpool(3, stride=2147483647)"):
        assert "total" in str(summary(f" -> {layer}", "1, 4, 4")).lower()
