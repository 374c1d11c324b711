"""Networks that PyTorch exports: read, written as `.cnn`, and of the same numbers."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch")

from tests.interop.exports import NETWORKS, OPSETS, UNSAID, check, exported, module


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NETWORKS)
def test_ten_networks(name: str, tmp_path: Path) -> None:
    """Each by one version of the older exporter; in training mode too where there are batch norms."""
    path = tmp_path / "net.onnx"
    made = module(name)
    exported(made, path, OPSETS[list(NETWORKS).index(name) % len(OPSETS)])
    text = check(made, path, name in UNSAID)
    assert len(text.splitlines()) < 25 or name in UNSAID
    if name in ("resnet", "mobilenet"):
        made = module(name, training=True)
        exported(made, path, 17, training=True)
        assert "track_running_stats=false" in check(made, path)


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("onnxscript"), reason="needs onnxscript")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["resnet", "convnext", "segmenter"])
def test_the_newer_exporter(name: str, tmp_path: Path) -> None:
    made = module(name)
    exported(made, tmp_path / "net.onnx", None)
    check(made, tmp_path / "net.onnx", name in UNSAID)
