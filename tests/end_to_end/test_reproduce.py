"""A run made again from its own config: the same comes out, and what differs now is told."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .conftest import only_run


def test_a_run_is_made_again_to_the_same_weights(
    command: Callable[..., int], one_epoch: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("task=reproduce", f"run={one_epoch}", "seed=7") == 0, "what is typed beside run= changes nothing"
    said = capsys.readouterr().out
    assert "weights: the same, bit for bit" in said
    assert "figures: the same" in said
    again = only_run(tmp_path, "reproduce")
    record = json.loads((again / "reproduced.json").read_text())
    record["differences"] = [d for d in record["differences"] if not d["what"].startswith("local changes")]
    assert record == {"of": str(one_epoch), "differences": [], "figures": [], "same_weights": True}
    assert json.loads((again / "manifest.json").read_text())["reproduces"] == str(one_epoch)
    assert yaml.safe_load((again / "config.yaml").read_text())["seed"] == 1


def test_what_differs_is_told_without_training(
    command: Callable[..., int], stopped_run: Path, one_epoch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads((one_epoch / "manifest.json").read_text())
    facts |= {"versions": {**facts["versions"], "torch": "1.0"}, "data": {"fingerprint": "other"}, "python": "3.9"}
    (stopped_run / "manifest.json").write_text(json.dumps(facts))
    assert command("task=reproduce", f"run={stopped_run}", "task.check_only=true") == 0
    said = capsys.readouterr().out.splitlines()
    for beginning in ("now: Python: 3.9 then", "now: torch: 1.0 then", "now: data fingerprint: other then"):
        assert any(line.startswith(beginning) for line in said)
    assert said[-1].endswith("reproduced.json")
    assert command("task=reproduce") == 1
    for name in ("config.yaml", "composed.yaml"):  # of another program
        (stopped_run / name).write_text("experiment: x\n")
    assert command("task=reproduce", f"run={stopped_run}", "task.check_only=true") == 1
    assert f"run: {stopped_run} has no config that can be read" in capsys.readouterr().err
