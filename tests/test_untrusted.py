"""The reader of untrusted data: each kind of value at its bounds."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from cnnc.untrusted import AXES, FLOAT32, Field, Malformed, read_exactly, read_json, shown

ANYTHING: tuple[Any, ...] = (
    *(None, True, 0, -1, 1.5, 2**31, 10**400, math.nan, math.inf, "", "a", "\0", "\ud800", "x" * 2000),
    *([], [1], [[]], {}, {"a": 1}, (), object()),
)


@pytest.mark.parametrize(
    ("read", "good"),
    [
        (lambda f: f.whole(), (0, 2**31 - 1)),
        (lambda f: f.whole(1, 3), (1, 2)),
        (lambda f: f.number(), (0, -1.5, FLOAT32)),
        (lambda f: f.number(0.5, 2), (0.5, 2)),
        (lambda f: f.hexadecimal(0, 10), ("0x1p0", "0x0p+0", "0x1.4p3")),
        (lambda f: f.text(3), ("", "abc", "é")),
        (lambda f: f.one_of(("a", "b")), ("a", "b")),
        (lambda f: f.boolean(), (True, False)),
        (lambda f: f.items(1, 2), ([1], [None, {}])),
        (lambda f: f.record(("a",), ("b",)), ({"a": 1}, {"a": 1, "b": 2})),
        (lambda f: f.entries(2, 3), ({}, {"abc": 1})),
        (lambda f: f.shape(4), ([], [0], [2, 3], [1] * AXES, [2**60])),
    ],
)
def test_fields(read: Callable[[Field], Any], good: tuple[Any, ...]) -> None:
    """Each gives what is good as it is, and of anything else only what it may be, or `Malformed`."""
    for value in good:
        found = read(Field(value, "f"))
        if not isinstance(value, list | dict | str) or isinstance(found, str):
            assert found == value
    for value in ANYTHING:
        with suppress(Malformed):
            read(Field(value, "f"))


@pytest.mark.parametrize(
    ("read", "wrong"),
    [
        (lambda f: f.whole(), (True, -1, 1.0, 2**31, "1", None)),
        (lambda f: f.number(), (True, math.nan, math.inf, 1e39, 10**400, "1")),
        (lambda f: f.hexadecimal(0, 10), ("0x1p99999", "nan", "inf", "-0x1p0", "", 1.0, "0x" + "1" * 200)),
        (lambda f: f.text(3), (1, "abcd", "a\0", "\udcff")),
        (lambda f: f.one_of(("a", "b")), ("c", ["a"], None)),
        (lambda f: f.boolean(), (0, 1, "true", None)),
        (lambda f: f.items(1, 2), ([], [1, 2, 3], "ab", {"a": 1})),
        (lambda f: f.record(("a",), ("b",)), ({}, {"b": 1}, {"a": 1, "c": 1}, [], None)),
        (lambda f: f.entries(2, 3), ({"abcd": 1}, {"a": 1, "b": 2, "c": 3}, {"\ud800": 1}, [])),
        (lambda f: f.shape(4), ([True], [-1], [1] * 33, [0, 10**30], [2**61], [0, 2**31, 2**31], [2.0], "12", 3)),
        (lambda f: f.shape(4, 99), ([5, 5],)),
    ],
)
def test_fields_that_are_wrong(read: Callable[[Field], Any], wrong: tuple[Any, ...]) -> None:
    for value in wrong:
        with pytest.raises(Malformed, match="f") as e:
            read(Field(value, "f"))
        assert len(str(e.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "NaN", "[Infinity]", "[-Infinity]", "1e400", "1" * 400, '{"a": 1, "a": 2}', '"\\x"', "\ufeff{}"),
        *("[" * 33 + "]" * 33, '{"a":' * 33 + "1" + "}" * 33, "[" * 100_000, b"\xff", b'"\xed\xa0\x80"'),
    ],
)
def test_json_that_is_none(text: str | bytes) -> None:
    with pytest.raises(Malformed, match="record"):
        read_json(text, "record")


def test_json_that_is_good() -> None:
    value = {"a": [1, 2.5, None, True, '[[[[[[[[{{{{{{{{{{\\" é' * 9], "b": {"c": []}}
    assert read_json(json.dumps(value), "record").value == value
    assert read_json("[" * 32 + "]" * 32, "record").value is not None
    with pytest.raises(Malformed, match="limit"):
        read_json("[1, 2]", "record", 5)


def test_streams_end_early() -> None:
    assert read_exactly(io.BytesIO(b"abc"), 2) == b"ab"
    with pytest.raises(Malformed, match="3 of"):
        read_exactly(io.BytesIO(b"abc"), 2**62)


def test_values_are_shown_in_a_line() -> None:
    for value in ANYTHING:
        assert len(shown(value)) <= 80
