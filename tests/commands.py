"""The command, run in the test's own process."""

import sys

import pytest

from cliplab import cli


def exit_status(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    """Run ``python run.py`` with these arguments and return its exit status; a message of the exit goes to stderr."""
    monkeypatch.setattr(sys, "argv", ["run.py", *argv])
    try:
        cli.main()
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
            return 1
        return int(stop.code or 0)
    return 0
