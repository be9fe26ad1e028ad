import functools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cliplab.reporting import plots

from .toys import fill_run

_drawn: dict[bytes, str] = {}


def _kept(draw: Callable[..., str]) -> Callable[..., str]:
    @functools.wraps(draw)
    def drawn_once(*arguments: Any, **options: Any) -> str:
        key = pickle.dumps((draw.__name__, arguments, options))
        if key not in _drawn:
            _drawn[key] = draw(*arguments, **options)
        return _drawn[key]

    return drawn_once


@pytest.fixture(autouse=True)
def _each_plot_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pages of most tests have the same plots, and drawing them takes as long as all else."""
    monkeypatch.setattr("cliplab.reporting.pages.curve", _kept(plots.curve))
    monkeypatch.setattr("cliplab.reporting.pages.calibration", _kept(plots.calibration))
    monkeypatch.setattr("cliplab.reporting.sections.line_plot", _kept(plots.line_plot))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return fill_run(tmp_path)
