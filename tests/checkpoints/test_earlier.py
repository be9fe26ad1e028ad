"""Configs of earlier versions are told in today's words wherever a stored config is read."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra.utils import get_object

from cliplab.checkpoints.earlier import MOVED, current
from cliplab.checkpoints.io import read_file
from cliplab.cli.arguments import read_arguments
from cliplab.cli.resume import resumed
from cliplab.settings.signatures import signature_of

EARLIER: dict[str, Any] = {
    "name": "emoji",
    "task": {"name": "train", "function": "cliplab.tasks.train.run"},
    "model": {"_target_": "cliplab.models.clip.CLIP", "image_encoder": {"image_size": 48}},
    "tokenizer": {"_target_": "cliplab.data.tokenizers.CLIPTokenizer", "context_length": 32},
    "objective": {"_target_": "cliplab.losses.GroupedClipLoss"},
    "data": {
        "eval_transform": {"_target_": "cliplab.data.transforms.EvalTransform", "image_size": 48},
        "train": {
            "_target_": "cliplab.data.stream.caption_source",
            "filters": {"_target_": "cliplab.data.rows.RowFilters", "min_side": None},
            "caption_columns": ["cliplab.losses.ClipLoss"],
        },
    },
    "zeroshot": {
        "emoji": {
            "_target_": "cliplab.evaluation.zero_shot.ZeroShotClassification",
            "dataset": {"_target_": "cliplab.data.labelled.emoji_labelled", "split": "compositions", "image_size": 48},
        },
        "none": None,
    },
    "sum": [{"_target_": "cliplab.losses.ClipLoss"}, 3, None],
}


def test_moved_classes_and_dropped_settings_of_an_earlier_config() -> None:
    before = copy.deepcopy(EARLIER)
    now = current(EARLIER)
    assert before == EARLIER, "the stored config stays as it is"
    assert now["objective"] == {"_target_": "cliplab.objectives.contrastive.GroupedClipLoss"}
    assert now["sum"] == [{"_target_": "cliplab.objectives.contrastive.ClipLoss"}, 3, None]
    train = now["data"]["train"]
    assert train["_target_"] == "cliplab.data.sources.caption_source"
    assert train["filters"] == {"_target_": "cliplab.data.filters.RowFilters", "min_side": None}
    assert train["caption_columns"] == ["cliplab.losses.ClipLoss"], "only names of classes are names of classes"
    assert now["zeroshot"]["emoji"]["dataset"] == {
        "_target_": "cliplab.data.labelled.emoji_labelled",
        "split": "compositions",
    }
    for place in ("name", "task", "model", "tokenizer"):
        assert now[place] == EARLIER[place]
    assert now["data"]["eval_transform"] == EARLIER["data"]["eval_transform"]
    assert current(now) == now


@pytest.mark.parametrize(("before", "now"), MOVED.items())
def test_what_has_moved_is_where_the_table_says(before: str, now: str) -> None:
    names = {"cliplab.losses.": ("ClipLoss", "GroupedClipLoss", "MaskedClipLoss", "SigmoidLoss")}
    for name in names.get(before, ("measure",) if before.endswith(".") else ("",)):
        assert callable(get_object(now + name))
        assert current({"_target_": before + name}) == {"_target_": now + name}


def test_nodes_of_an_earlier_config_fit_todays_signatures() -> None:
    dataset = dict(current(EARLIER)["zeroshot"]["emoji"]["dataset"])
    takes = signature_of(dataset.pop("_target_")).parameters
    assert set(dataset) <= set(takes)


def test_an_earlier_checkpoint_and_an_earlier_export_are_read(tmp_path: Path) -> None:
    from cliplab.checkpoints.io import write_safetensors

    state = {"logit_scale": torch.zeros(())}
    saved = {"cliplab_config": EARLIER, "state_dict": {f"model.{key}": value for key, value in state.items()}}
    torch.save(saved, tmp_path / "last.ckpt")
    write_safetensors(tmp_path / "model.safetensors", state, {"cliplab": json.dumps(EARLIER)})
    for name in ("last.ckpt", "model.safetensors"):
        assert read_file(tmp_path / name)[1]["cliplab"] == current(EARLIER)


def test_an_earlier_run_goes_on_from_a_renewed_config(tmp_path: Path) -> None:
    config = {**EARLIER, "paths": {"run": str(tmp_path)}}
    for name in ("config.yaml", "composed.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump(config))
    resumed(read_arguments([f"resume={tmp_path}"]))
    assert yaml.safe_load((tmp_path / "composed.yaml").read_text()) == current(config)
