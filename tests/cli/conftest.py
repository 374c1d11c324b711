"""Running the command line in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from cnnc import driver
from cnnc.cli.main import cli

ROOT = Path(__file__).parent.parent.parent
LENET = """\
model lenet(classes = 10, act = relu) {
    input image: f32[N, 1, 12, 12]
    return image -> conv(4, 3, padding=1) as c1 -> act -> maxpool(2)
                 -> conv(8, 3) as c2 -> batchnorm as bn -> act -> flatten -> linear(classes) as fc
}
"""
Cnnc = Callable[..., Result]


@pytest.fixture
def cnnc() -> Cnnc:
    """`cnnc("check", path)` gives click's result: exit_code, stdout, stderr. An exception that gets out fails the
    test."""

    def call(*arguments: object, input: str | None = None, code: int | None = 0) -> Result:
        result = CliRunner().invoke(cli, [str(a) for a in arguments], input=input)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert code is None or result.exit_code == code, (
            f"exit code {result.exit_code}\n{result.stdout}\n{result.stderr}"
        )
        return result

    return call


@pytest.fixture
def lenet(tmp_path: Path) -> Path:
    path = tmp_path / "lenet.cnn"
    path.write_text(LENET)
    return path


@pytest.fixture
def examples() -> Path:
    return ROOT / "examples"


@pytest.fixture
def weights(lenet: Path) -> Path:
    path = lenet.with_suffix(".safetensors")
    driver.load(lenet).save_weights(path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name in ("a.png", "b.bmp", "c.png"):
        Image.fromarray(generator.integers(0, 256, (12, 12), np.uint8)).save(folder / name)
    return folder
