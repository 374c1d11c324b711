"""Weights: their names, order and first values; assignment; loading and saving."""

from __future__ import annotations

import math
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnc import driver
from cnnc.diagnostics import CnncError
from cnnc.interop.safetensors import write_file
from cnnc.network import Network
from cnnc.weight_files import renamed

TEXT = """\
model m(classes = 5) {
    input x: f32[N, 3, 8, 8]
    return x -> conv(8, 3, bias=false) as c -> batchnorm as bn -> relu -> flatten -> linear(classes) as fc
}
"""
NAMES = ["c.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "fc.weight", "fc.bias"]


@pytest.fixture
def net() -> Network:
    return driver.parse(TEXT)


def tensors(net: Network) -> dict[str, Any]:
    return {name: value.copy() for name, value in net.weights.items()}


def failure(call: Any, *arguments: Any, **named: Any) -> CnncError:
    with pytest.raises(CnncError) as e:
        call(*arguments, **named)
    assert e.value.exit_code == 3
    return e.value


def test_names_are_in_the_order_of_the_source(net: Network) -> None:
    assert list(net.weights) == NAMES
    assert len(net.weights) == 7
    assert net.weights["c.weight"].shape == (8, 3, 3, 3)
    assert all(v.dtype == np.float32 and v.flags.c_contiguous for v in net.weights.values())


def test_initialization_is_pytorchs(net: Network) -> None:
    for name, fan_in in (("c.weight", 27), ("fc.weight", 288), ("fc.bias", 288)):
        value, bound = net.weights[name], 1 / math.sqrt(fan_in)
        assert np.abs(value).max() <= bound
    assert net.weights["fc.weight"].std() == pytest.approx(1 / math.sqrt(3 * 288), rel=0.05)
    assert abs(net.weights["fc.weight"].mean()) < 0.003
    for name, constant in (("bn.weight", 1), ("bn.bias", 0), ("bn.running_mean", 0), ("bn.running_var", 1)):
        assert np.all(net.weights[name] == constant)


def test_initialization_depends_on_seed_and_name_alone() -> None:
    a, b = driver.parse(TEXT), driver.parse(TEXT)
    for name in reversed(NAMES):
        assert b.weights[name] is b.weights[name]
    assert all(np.array_equal(a.weights[n], b.weights[n]) for n in NAMES)
    other = driver.parse(TEXT.replace("conv(8, 3, bias=false) as c", "conv(8, 3, bias=false) as d"))
    assert np.array_equal(a.weights["fc.weight"], other.weights["fc.weight"])
    assert not np.array_equal(a.weights["c.weight"], other.weights["d.weight"])
    b.initialize(1)
    assert not np.array_equal(a.weights["fc.weight"], b.weights["fc.weight"])
    b.initialize(0)
    assert np.array_equal(a.weights["fc.weight"], b.weights["fc.weight"])


def test_initialization_is_pinned(net: Network) -> None:
    """The first values of seed 0: recipes that were written down must stay repeatable."""
    assert [float(v).hex() for v in net.weights["c.weight"].ravel()[:3]] == [
        "0x1.ddd2b80000000p-5",
        "0x1.72eaac0000000p-4",
        "0x1.86d4a40000000p-4",
    ]


@pytest.mark.parametrize(
    "value",
    [
        np.arange(5),
        np.arange(5.0),
        np.arange(5, dtype=np.float16),
        [0, 1, 2, 3, 4],
        np.arange(5, dtype=">f4"),
        np.arange(10, dtype=np.float32)[::2] / 2,
        np.arange(5, dtype=np.uint8),
    ],
)
def test_assignment_converts_and_copies(net: Network, value: Any) -> None:
    net.weights["fc.bias"] = value
    found = net.weights["fc.bias"]
    np.testing.assert_array_equal(found, np.arange(5))
    assert found.dtype == np.dtype(np.float32)
    assert found.flags.c_contiguous
    assert found is not value


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        (np.zeros(4), "E0611", r"\[5\].*\[4\]"),
        (np.zeros((5, 1)), "E0611", r"\[5, 1\]"),
        (np.zeros(5, complex), "E0613", "imaginary"),
        (np.array([None] * 5), "E0613", "objects"),
        (np.array(list("abcde")), "E0613", "no numbers"),
        ([[1], [2, 3]], "E0613", "no array"),
        (np.full(5, 1e300), "E0613", "range"),
        (np.zeros(5, bool), "E0613", "true and false"),
    ],
)
def test_assignment_refuses(net: Network, value: Any, code: str, said: str) -> None:
    before = net.weights["fc.bias"].copy()
    with pytest.raises(CnncError, match=said) as e:
        net.weights["fc.bias"] = value
    assert e.value.diagnostics[0].code == code
    np.testing.assert_array_equal(net.weights["fc.bias"], before)


def test_assignment_of_all(net: Network) -> None:
    other = driver.parse(TEXT)
    other.initialize(3)
    net.weights = other.weights
    assert all(np.array_equal(net.weights[n], other.weights[n]) for n in NAMES)
    assert net.weights["c.weight"] is not other.weights["c.weight"]
    assert "'c.weight'" in str(failure(setattr, net, "weights", {"fc.bias": np.zeros(5)}))


def test_infinite_weights_stay_infinite(net: Network) -> None:
    net.weights["fc.bias"] = np.array([np.inf, -np.inf, np.nan, 0, 1])
    assert np.isinf(net.weights["fc.bias"][:2]).all()


def test_unknown_names(net: Network) -> None:
    with pytest.raises(CnncError, match=r"did you mean 'fc.bias'\?"):
        net.weights["fc.bia"] = np.zeros(5)
    with pytest.raises(KeyError, match=r"did you mean 'fc.bias'\?"):
        net.weights["fc.bia"]
    assert net.weights.get("fc.bia") is None
    with pytest.raises(TypeError):
        del net.weights["fc.bias"]


def test_save_and_load(net: Network, tmp_path: Path) -> None:
    net.initialize(7)
    net.save_weights(tmp_path / "w.safetensors")
    other = driver.parse(TEXT)
    assert not other.load_weights(tmp_path / "w.safetensors")
    assert all(np.array_equal(net.weights[n], other.weights[n]) for n in NAMES)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_load_converts(net: Network, tmp_path: Path, dtype: Any) -> None:
    values = {n: (8 * v).astype(dtype) for n, v in tensors(net).items()}
    write_file(tmp_path / "w.safetensors", values)
    net.load_weights(tmp_path / "w.safetensors")
    for name, value in values.items():
        np.testing.assert_array_equal(net.weights[name], value.astype(np.float32))


def test_differences_are_told_apart(net: Network, tmp_path: Path) -> None:
    values = tensors(net)
    del values["c.weight"]
    values["conv.weight"] = np.zeros(3, np.float32)
    values["c_weight"] = np.zeros((8, 3, 3, 3), np.float32)
    values["fc.weight"] = values["fc.weight"][:4]
    values["bn.num_batches_tracked"] = np.array(3)
    write_file(tmp_path / "w.safetensors", values)
    before = tensors(net)
    (d,) = failure(net.load_weights, tmp_path / "w.safetensors").diagnostics
    assert d.code == "E0611"
    assert d.notes == (
        "missing in the file, 1 of 7: c.weight [8, 3, 3, 3] (c_weight?)",
        "unexpected, 2: c_weight [8, 3, 3, 3], conv.weight [3]",
        "mismatched, 1: fc.weight is [5, 288] in the network and [4, 288] in the file",
    )
    assert all(np.array_equal(net.weights[n], before[n]) for n in NAMES)
    values["fc.bias"][:] = 9
    write_file(tmp_path / "w.safetensors", values)
    report = net.load_weights(tmp_path / "w.safetensors", strict=False)
    assert (report.missing, report.unexpected, dict(report.mismatched)) == (
        ("c.weight",),
        ("c_weight", "conv.weight"),
        {"fc.weight": ((5, 288), (4, 288))},
    )
    assert np.all(net.weights["fc.bias"] == 9)
    assert np.array_equal(net.weights["fc.weight"], before["fc.weight"])


def test_a_prefix_is_explained(net: Network, tmp_path: Path) -> None:
    write_file(tmp_path / "w.safetensors", {f"module.{n}": v for n, v in tensors(net).items()})
    (d,) = failure(net.load_weights, tmp_path / "w.safetensors").diagnostics
    assert "--map 'module.='" in (d.help or "")
    assert len(max(d.notes, key=len)) < 600


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_names_are_mapped(net: Network, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"w.{kind}"
    values = {renamed(n, {"c.": "stem.0.", "fc.": "head."}): np.asarray(v) for n, v in tensors(net).items()}
    (write_file if kind == "safetensors" else lambda p, a: np.savez_compressed(p, **a))(path, values)
    other = driver.parse(TEXT)
    other.initialize(9)
    (d,) = failure(other.load_weights, path).diagnostics
    assert "c.weight [8, 3, 3, 3]" in d.notes[0]
    assert "--map 'head.=fc.'" in (d.help or "")
    assert not other.load_weights(path, map={"stem.0.": "c.", "head.": "fc."})
    assert all(np.array_equal(net.weights[n], other.weights[n]) for n in NAMES)
    np.savez(tmp_path / "bare.npz", **{n.removeprefix("c."): v for n, v in tensors(net).items() if n[:2] == "c."})
    assert len(other.load_weights(tmp_path / "bare.npz", strict=False, map={"": "c."}).missing) == 6
    for map, why in (
        ({"back.": ""}, "begins with 'back.'"),
        ({"head.": "stem.0."}, "would both be"),
        ({1: ""}, "E0706"),
    ):
        with pytest.raises(CnncError, match=why):
            other.load_weights(path, map=map)  # type: ignore[arg-type]


def test_arrays_that_hold_objects_are_refused(net: Network, tmp_path: Path) -> None:
    values: dict[str, Any] = {**tensors(net), "fc.bias": np.array([{}] * 5, object)}
    np.savez(tmp_path / "w.npz", **values)
    assert failure(net.load_weights, tmp_path / "w.npz").diagnostics[0].code == "E0625"


def test_long_lists_are_cut(tmp_path: Path) -> None:
    net = driver.parse("model m() {\n input x: f32[N, 4]\n for i in 0..30 { x = x -> linear(4) }\n return x\n}")
    write_file(tmp_path / "w.safetensors", {"a": np.zeros(1)})
    (d,) = failure(net.load_weights, tmp_path / "w.safetensors").diagnostics
    assert d.notes[0].endswith("and 52 more")


def test_unreadable_values_change_nothing(net: Network, tmp_path: Path) -> None:
    values = tensors(net) | {"c.weight": np.zeros((8, 3, 3, 3)), "fc.bias": np.full(5, 1e300)}
    write_file(tmp_path / "w.safetensors", values)
    before = tensors(net)
    assert failure(net.load_weights, tmp_path / "w.safetensors").diagnostics[0].code == "E0613"
    assert all(np.array_equal(net.weights[n], before[n]) for n in NAMES)


def test_deferred_weights(net: Network) -> None:
    fetched: list[str] = []

    def fetch() -> Any:
        fetched.append("fc.bias")
        return np.full(5, len(fetched), np.float32)

    net.weights["fc.bias"] = np.zeros(5)
    net.weights.defer({"fc.bias": fetch})
    assert not net.weights.changed("fc.bias")
    assert net.weights["fc.bias"][0] == net.weights["fc.bias"][0] == 1
    net.weights.defer({"fc.bias": fetch})
    assert net.weights["fc.bias"][0] == 2
    net.weights["fc.bias"] = np.full(5, 9)
    assert net.weights["fc.bias"][0] == 9
    net.weights.defer({"fc.bias": fetch})
    net.initialize(0)
    assert net.weights.changed("fc.bias")
    assert np.array_equal(net.weights["fc.bias"], driver.parse(TEXT).weights["fc.bias"])


def test_what_was_drawn_is_not_held(net: Network) -> None:
    first = net.weights["fc.weight"]
    assert net.weights["fc.weight"] is first
    copy, gone = first.copy(), weakref.ref(first)
    del first
    assert gone() is None
    assert np.array_equal(net.weights["fc.weight"], copy)


def test_snapshots(net: Network) -> None:
    before, drawn = net.weights.snapshot(), np.array(net.weights["fc.weight"])
    assert list(before) == NAMES
    net.weights["fc.weight"] = np.zeros_like(drawn)
    net.weights.defer({"fc.bias": lambda: np.full(5, 3, np.float32)})
    after = net.weights.snapshot()
    net.weights["fc.bias"] = np.zeros(5)
    net.initialize(7)
    assert np.array_equal(before["fc.weight"], drawn)
    assert not after["fc.weight"].any()
    assert after["fc.bias"][0] == 3
    with pytest.raises(KeyError):
        before["other"]


def test_what_a_notebook_shows(net: Network) -> None:
    assert repr(net) == "<Network m: 13 nodes, 1,677 parameters>"
    html = net._repr_html_()
    assert "<svg" in html
    assert "<table" in html
