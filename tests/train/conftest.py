from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.running import data_in


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return data_in(tmp_path)
