"""A logger, a callback or a trainer that cannot be built ends the run, and its manifest says failed."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import only_run

MONITOR = "lightning.pytorch.callbacks.EarlyStopping"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (["+logger.mine._target_=lightning.pytorch.loggers.CSVLogger", "+logger.mine.save_dir=[1]"], "logger.mine"),
        ([f"+callbacks.mine._target_={MONITOR}", "+callbacks.mine.monitor=[]", "+callbacks.mine.mode=min"], ""),
        (["+trainer.plugins=[nothing]"], "trainer"),
    ],
    ids=["logger", "callback", "trainer"],
)
def test_a_part_that_cannot_be_built(
    words: list[str],
    key: str,
    command: Callable[..., int],
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command(*arguments, *words, "trainer.max_epochs=1") == 1
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Traceback" not in told
    assert key in told
    logs = tmp_path / "logs"
    if logs.exists():
        manifest = json.loads((only_run(tmp_path) / "manifest.json").read_text())
        assert manifest["status"] == "failed"
        assert manifest["error"]
