"""A Hugging Face text tower through training, evaluation and resume; its source may be gone afterwards."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from tests.end_to_end.conftest import only_run
from tests.models.hf_toys import save_model


def with_tower(arguments: list[str], folder: Path) -> list[str]:
    kept = [a for a in arguments if not a.startswith(("model.text_encoder.width", "model.text_encoder.layers"))]
    tower = [
        "model/text_encoder=hf_roberta",
        f"model.text_encoder.source={folder}",
        "model.text_encoder.architecture=null",
        "model.text_encoder.context_length=12",
    ]
    return [*kept, *tower]


def test_checkpoint_needs_neither_source_nor_hub(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_model(tmp_path / "hub", "roberta")
    arguments = [*with_tower(arguments, folder), "scheduler=constant"]  # the same rates whatever the length
    assert command(*arguments, "trainer.max_epochs=2") == 0
    whole = only_run(tmp_path)
    results = json.loads((whole / "results" / "folder.json").read_text())["metrics"]
    config = yaml.safe_load((whole / "config.yaml").read_text())
    assert config["model"]["text_encoder"]["architecture"]["model_type"] == "roberta"
    last = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    shutil.move(whole, tmp_path / "whole")
    assert command(*arguments, "trainer.max_epochs=1") == 0

    shutil.rmtree(folder)
    assert command("task=evaluate", f"ckpt={tmp_path}/whole/checkpoints/last.ckpt") == 0
    again = json.loads((only_run(tmp_path, "evaluate") / "results" / "folder.json").read_text())["metrics"]
    assert again["acc1"] == results["acc1"]
    run = only_run(tmp_path)
    (run / "manifest.json").unlink()
    assert (
        command(f"resume={run}", "trainer.max_epochs=2") == 0
    )  # dropout too is drawn as in the run that never stopped
    resumed = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    assert resumed["global_step"] == last["global_step"] == 6
    for name, value in last["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], value), name

    assert command(*arguments) == 1
    assert "Ways on: (1) name a local folder" in capsys.readouterr().err


def test_both_towers_from_other_libraries(command: Callable[..., int], arguments: list[str], tmp_path: Path) -> None:
    """timm's image tower beside a frozen text tower that thaws; resumed across the thaw, then evaluated."""
    folder = save_model(tmp_path / "hub", "bert")
    own = ("model.image_encoder.", "model/text_encoder")
    swapped = [a for a in with_tower(arguments, folder) if not a.startswith(own)]
    swapped += [
        "model/text_encoder=hf_bert",
        "model/image_encoder=timm",
        "model.image_encoder.name=test_resnet",
        "model.image_encoder.image_size=32",
        "locking=text_projection",
        "locking.text_encoder.unfreeze_at_step=4",
        "locking.text_encoder.layer_decay=0.5",
        "model.text_encoder.cached_texts=6",
        "scheduler=constant",
    ]
    assert command(*swapped, "trainer.max_epochs=2") == 0
    whole = only_run(tmp_path)
    last = torch.load(whole / "checkpoints" / "last.ckpt", weights_only=True)
    shutil.move(whole, tmp_path / "whole")
    assert command(*swapped, "trainer.max_epochs=1") == 0
    run = only_run(tmp_path)
    before = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    (run / "manifest.json").unlink()
    assert command(f"resume={run}", "trainer.max_epochs=2") == 0
    resumed = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, value in last["state_dict"].items():
        assert torch.equal(resumed[name], value), name
    first = "model.text_encoder.backbone.encoder.layer.0.output.dense.weight"
    pretrained = load_file(folder / "model.safetensors")[first.removeprefix("model.text_encoder.backbone.")]
    assert torch.equal(before[first], pretrained)  # three steps frozen
    assert not torch.equal(resumed[first], pretrained)
    assert command("task=evaluate", f"ckpt={run}/checkpoints/last.ckpt") == 0


def test_tokenizer_of_another_tower_is_refused(
    command: Callable[..., int], arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_model(tmp_path / "hub", "roberta")
    clip = ["tokenizer._target_=cliplab.data.tokenizers.CLIPTokenizer", "~tokenizer.source"]
    assert command(*with_tower(arguments, folder), *clip) == 1
    assert (
        "it has 49408 tokens, but the text tower has 40; choose both by model/text_encoder=" in capsys.readouterr().err
    )
