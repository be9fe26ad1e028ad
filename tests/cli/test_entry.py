"""Every way to start the program sets its signals before it imports anything that takes time."""

import importlib
import importlib.metadata
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cliplab import cli


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_installed_command_sets_its_signals_first(monkeypatch: pytest.MonkeyPatch) -> None:
    (entry,) = (one for one in importlib.metadata.entry_points(group="console_scripts") if one.name == "cliplab")
    monkeypatch.delitem(sys.modules, "cliplab.__main__", raising=False)
    module = importlib.import_module(entry.module)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    assert getattr(module, entry.attr) is cli.main


@pytest.mark.parametrize("way", ["run.py", "python -m cliplab"])
def test_the_other_ways_set_them_too(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    monkeypatch.setattr(cli, "main", lambda *_: found.append(signal.getsignal(signal.SIGINT)))
    monkeypatch.delitem(sys.modules, "cliplab.__main__", raising=False)
    if way == "run.py":
        runpy.run_path(str(Path(__file__).parents[2] / "run.py"))
    else:
        runpy.run_module("cliplab", run_name="__main__")
    assert found == [signal.SIG_DFL]
