from pathlib import Path

import pytest

from .toys import fill_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fill_run(tmp_path)
