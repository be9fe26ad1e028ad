"""Commands that must fail before their task begins."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cliplab import cli


class Started(BaseException):
    """A task would have begun."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The last words of a command that must fail before its task begins, and leave nothing behind."""

    def start(job: Any) -> Any:
        raise Started(job)

    monkeypatch.setenv("CLIPLAB_ROOT", str(tmp_path / "root"))
    monkeypatch.setattr("cliplab.settings.verbs.run_verb", start)

    def run(*argv: str) -> str:
        monkeypatch.setattr(sys, "argv", ["run.py", *argv])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        message = stop.value.code if isinstance(stop.value.code, str) else said.err.strip()
        assert stop.value.code not in (0, None)
        assert said.out == ""
        assert len(message.splitlines()) == 1
        assert "Traceback" not in message
        assert not (tmp_path / "root" / "logs").exists()
        return message

    return run
