"""callbacks=ema: figures of both kinds of weights are those that later verbs find in the checkpoint, also after a resume."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import cliplab
from cliplab.checkpoints.read import read_pretrained
from cliplab.reporting.html import report_values

from .conftest import only_run


def test_both_kinds_of_weights_are_evaluated_saved_resumed_and_exported(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    average = ["callbacks=ema", *(a for a in arguments if not a.startswith("callbacks")), "callbacks.ema.decay=0.9"]
    assert command(*average) == 0
    run = only_run(tmp_path)
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert not torch.equal(saved["state_dict"]["model.logit_scale"], saved["ema_state_dict"]["model.logit_scale"])
    final = json.loads((run / "manifest.json").read_text())["final"]
    assert {"zeroshot/folder/acc1", "zeroshot/folder_ema/acc1"} <= set(final)
    assert report_values(run)["averaged"]
    for weights, suffix in (("raw", ""), ("ema", "_ema")):
        out = tmp_path / weights
        pairs = ((out, "folder.json"), (run, f"folder{suffix}.json"))
        assert command("task=evaluate", f"run={run}", f"weights={weights}", f"hydra.run.dir={out}") == 0
        found, trained = (json.loads((folder / "results" / name).read_text()) for folder, name in pairs)
        assert found["metrics"] == trained["metrics"]
        assert found["model_fingerprint"] == trained["model_fingerprint"]
        exported = tmp_path / f"exported_{weights}"
        assert command("task=export", f"run={run}", "format=safetensors", f"weights={weights}", f"out={exported}") == 0
        state, key = read_pretrained(str(exported)).state, "ema_state_dict" if suffix else "state_dict"
        assert all(torch.equal(value, saved[key][f"model.{name}"]) for name, value in state.items())
        model = cliplab.load(str(run), weights=weights, device="cpu").model  # type: ignore[arg-type]
        assert torch.equal(model.logit_scale, saved[key]["model.logit_scale"])
    assert command("task=evaluate", f"ckpt={run}/checkpoints/last.ckpt", "weights=average") == 1
    assert "must be raw" in capsys.readouterr().err
