"""The settings of an input: how an image file becomes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from cnnc.frontend.values import kind, show, shown_type
from cnnc.ir.graph import freeze
from cnnc.ir.types import TensorType
from cnnc.untrusted import FLOAT32, NORMAL, Field, Malformed, shown

CHANNELS = {1: ("grey",), 3: ("rgb", "bgr"), 4: ("rgba",)}
LARGEST_IMAGE = 1 << 16


@dataclass(frozen=True, slots=True)
class Preprocess:
    """(pixel * scale - mean) / std of an image that is resized, then cropped in its middle.

    resize: pixels of the shorter side, or (height, width); None fits the input.
    crop: (height, width); None is the input's own.
    scale: multiplies bytes of 0 to 255; None is 1 / 255.
    mean, std: one value, or one a channel, after scaling.
    channels: "rgb", "bgr", "rgba" or "grey"; None where the input is no image.
    labels: a text file beside the model, one class name a line.
    """

    resize: int | tuple[int, int] | None = None
    crop: tuple[int, int] | None = None
    scale: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    channels: str | None = None
    labels: str | None = None


def too_large(result: Preprocess) -> str | None:
    """What is wrong where a crop is larger than what resize leaves."""
    if result.crop is None or result.resize is None:
        return None
    sides = (result.resize,) * 2 if isinstance(result.resize, int) else result.resize
    if all(c <= r for c, r in zip(result.crop, sides, strict=True)):
        return None
    return f"crop {show(result.crop)} is larger than resize {show(result.resize)}"


def read(settings: Field, type: TensorType) -> Preprocess:
    """Settings that a file has: the rules are those of the language. Raises `Malformed`."""

    def fail(message: str, help: str | None = None) -> NoReturn:
        raise Malformed(f"{settings.name}: {message}")

    values = settings.record((), [f.name for f in fields(Preprocess)])
    given = {name: freeze(f.value) for name, f in values.items() if f.value is not None}
    if type.rank != 4 and given.keys() - {"labels"}:
        fail(f"the input is {shown_type(type)}, no image")
    check = Check(type, fail)
    result = Preprocess(**{name: check(name, value) for name, value in given.items()})
    wrong = too_large(result)
    if wrong is not None:
        fail(wrong)
    return result


class Check:
    """Checks one setting's value. `fail` is told what is wrong and a way out; it raises."""

    def __init__(self, type: TensorType, fail: Callable[[str, str | None], NoReturn]) -> None:
        self.type, self._fail = type, fail

    def __call__(self, name: str, value: Any) -> Any:
        return getattr(self, f"_{name}")(name, value)

    def fail(self, message: str, help: str | None = None) -> NoReturn:
        self._fail(message, help)

    def _number(self, name: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.fail(f"{name} is a number, not {kind(value)}")
        if not -FLOAT32 <= value <= FLOAT32:
            self.fail(f"{name} is {shown(value)}, which float32 does not hold")
        return float(value)

    def _side(self, name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_IMAGE:
            self.fail(f"{name} is {show(value)}; it is a whole number of pixels, 1 to {LARGEST_IMAGE}")
        return int(value)

    def _resize(self, name: str, value: Any) -> int | tuple[int, int]:
        if not isinstance(value, tuple):
            return self._side(name, value)
        if len(value) != 2:
            self.fail(f"{name} is a number, or height and width, not {show(value)}")
        return self._side(name, value[0]), self._side(name, value[1])

    def _crop(self, name: str, value: Any) -> tuple[int, int]:
        size = self._resize(name, value)
        pair = (size, size) if isinstance(size, int) else size
        if pair != self.type.shape[2:]:
            height, width = self.type.shape[2:]
            self.fail(f"crop {show(value)} does not give the input's {height} x {width} pixels")
        return pair

    def _scale(self, name: str, value: Any) -> float:
        if abs(number := self._number(name, value)) < NORMAL:
            self.fail(f"scale is {number}: every image would be black")
        return number

    def _per_channel(self, name: str, value: Any) -> tuple[float, ...]:
        numbers = tuple(self._number(name, v) for v in (value if isinstance(value, tuple) else (value,)))
        if len(numbers) not in (1, self.type.shape[1]):
            self.fail(f"{name} has {len(numbers)} values, the input has {self.type.shape[1]} channels")
        return numbers

    _mean = _per_channel

    def _std(self, name: str, value: Any) -> tuple[float, ...]:
        numbers = self._per_channel(name, value)
        if any(n < NORMAL for n in numbers):
            self.fail(f"std is {show(value)}; deviations are positive")
        return numbers

    def _channels(self, name: str, value: Any) -> str:
        names = {"gray": "grey"}
        value = names.get(value, value) if isinstance(value, str) else value
        count = self.type.shape[1]
        fitting = CHANNELS.get(count, ()) if isinstance(count, int) else ()
        if value not in fitting:
            known = [c for group in CHANNELS.values() for c in group]
            if value in known:
                self.fail(
                    f"channels are {show(value)}, the input has {count}",
                    help=f"write channels = {show(fitting[0])}" if fitting else None,
                )
            self.fail(f"channels are one of {', '.join(map(show, known))}, not {show(value)}")
        return str(value)

    def _labels(self, name: str, value: Any) -> str:
        if not isinstance(value, str):
            self.fail(f"labels names a text file, not {kind(value)}")
        parts = str(value).replace("\\", "/").split("/")
        if not value or str(value).startswith("/") or ".." in parts or ":" in value:
            self.fail(f"labels {show(value)} is no file beside the model", help="put the file into the model's folder")
        return str(value)
