"""What a training run prints before its first step."""

import logging
import sys
from pathlib import Path

import pytest

from cliplab.assembly.pretraining import print_config


def test_a_log_has_a_line_where_a_terminal_has_the_config(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, file = {"name": "x", "trainer": {"devices": 2}}, Path("/runs/x/config.yaml")
    print_config(config, file)
    assert capsys.readouterr().out == "config: /runs/x/config.yaml\n"
    with monkeypatch.context() as terminal:
        terminal.setattr(sys.stdout, "isatty", lambda: True)
        print_config(config, file)
    assert "devices: " in capsys.readouterr().out
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.DEBUG)  # hydra.verbose=true
    print_config(config, file)
    logging.getLogger().setLevel(level)
    assert "devices: 2" in capsys.readouterr().out
