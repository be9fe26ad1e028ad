"""``pretrained=``: evaluate foreign weights, train on from them, and need them no more afterwards."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cliplab.checkpoints.openai import to_openai
from cliplab.models.positions import resize_positions
from tests.models.weights import built, tiny_config

from .conftest import only_run

CONFIG = tiny_config("vit")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.pt"
    torch.save(to_openai(CONFIG, built(CONFIG).state_dict()), path)
    return path


@pytest.fixture
def beside(arguments: list[str]) -> list[str]:
    """The small run's overrides without its model."""
    return [a for a in arguments if not a.startswith(("model", "objective"))]


@pytest.mark.filterwarnings("ignore:.*OpenAI's convention")
def test_training_starts_from_the_file_and_its_checkpoint_stands_alone(
    command: Callable[..., int], beside: list[str], foreign: Path, tmp_path: Path
) -> None:
    start = built(CONFIG).state_dict()
    still = ["optimizer.lr=1e-30", "trainer.max_epochs=1", "model.image_encoder.patch_dropout=0.25"]
    assert command(f"pretrained={foreign}", *beside, *still) == 0
    run = only_run(tmp_path)
    foreign.unlink()
    last = run / "checkpoints" / "last.ckpt"
    saved = torch.load(last, weights_only=True)
    for key, value in start.items():
        assert torch.equal(saved["state_dict"][f"model.{key}"], value), key
    model = saved["cliplab_config"]["model"]["image_encoder"]
    assert (model["layers"], model["image_size"], model["patch_dropout"]) == (2, 32, 0.25)
    assert saved["cliplab_config"]["data"]["eval_transform"]["image_size"] == 32
    assert command("task=evaluate", f"ckpt={last}") == 0
    assert command(f"resume={run}") == 0
    assert command("task=evaluate", f"pretrained={run}", *beside) == 0


@pytest.mark.filterwarnings("ignore:.*OpenAI's convention")
def test_foreign_weights_are_evaluated(
    command: Callable[..., int],
    beside: list[str],
    foreign: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    zeroshot = [a for a in beside if a.startswith(("zeroshot", "trainer.acc"))]
    assert command("task=evaluate", f"pretrained={foreign}", *zeroshot) == 0
    (run,) = (tmp_path / "logs" / "evaluate").glob("*/*")
    result = json.loads((run / "results" / "folder.json").read_text())
    assert (result["model"], result["pretrained"]) == ("tiny", "tiny")
    assert [f.name for f in (run / "results").iterdir()] == ["folder.json"]
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "report.html")


@pytest.mark.filterwarnings("ignore:.*OpenAI's convention")
@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["model.text_encoder.layers=3"], "model.text_encoder.layers is 2 in the file, not 3"),
        (["model/image_encoder=rn50"], "model/image_encoder: pretrained=.* brings its own towers"),
        (["model/image_encoder=rn50", "pretrained_tower=image"], "brings its own image_encoder; leave this out"),
        (["model.embed_dim=16", "pretrained_tower=text"], "model.embed_dim is 32 in the file, not 16"),
        (["pretrained_tower=both"], "pretrained_tower: 'both' is neither image nor text"),
        (["pretrained_tower=image", "task=evaluate"], "pretrained_tower: task=evaluate needs both towers"),
        (["pretrained=null", "pretrained_tower=image"], "give pretrained=<weights> too"),
        (["ckpt=x.ckpt", "task=evaluate"], "ckpt: ckpt and pretrained are given; one is enough"),
        (["+model.image_encoder.lairs=3"], "takes no argument 'lairs'; did you mean 'layers'"),
    ],
)
def test_contradiction_is_one_line(
    typed: list[str], message: str, command: Callable[..., int], foreign: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    named = [] if "pretrained=null" in typed else [f"pretrained={foreign}"]
    assert command(*named, *typed) == 1
    assert re.search(message, capsys.readouterr().err.splitlines()[-1])


@pytest.mark.filterwarnings("ignore:.*OpenAI's convention")
def test_typed_activation_beats_the_convention_and_another_image_size_interpolates(
    command: Callable[..., int], beside: list[str], foreign: Path, tmp_path: Path
) -> None:
    gelu = ["model.image_encoder.activation=gelu", "model.text_encoder.activation=gelu", "trainer.max_steps=1"]
    size = ["model.image_encoder.image_size=48", "optimizer.lr=1e-30"]
    assert command(f"pretrained={foreign}", *beside, *gelu, *size) == 0
    saved = torch.load(only_run(tmp_path) / "checkpoints" / "last.ckpt", weights_only=True)
    config, key = saved["cliplab_config"], "image_encoder.positional_embedding"
    assert config["model"]["text_encoder"]["activation"] == config["model"]["image_encoder"]["activation"] == "gelu"
    assert torch.equal(saved["state_dict"][f"model.{key}"], resize_positions(built(CONFIG).state_dict()[key], 37))
    assert config["data"]["eval_transform"]["image_size"] == 48


@pytest.mark.filterwarnings("ignore:.*OpenAI's convention")
@pytest.mark.parametrize("tower", ["image", "text"])
def test_one_tower_of_the_file_beside_another_of_one_s_own(
    tower: str, command: Callable[..., int], beside: list[str], foreign: Path, tmp_path: Path
) -> None:
    other = {"image": "text", "text": "image"}[tower]
    own = {
        "image": ["model/text_encoder=clip_text_small", "model.text_encoder.layers=1", "locking=lit"],
        "text": [
            "model/image_encoder=vit_tiny",
            "model.image_encoder.layers=1",
            "locking.text_encoder.unlocked_groups=0",
        ],
    }[tower]
    assert command(f"pretrained={foreign}", f"pretrained_tower={tower}", *beside, *own, "trainer.max_steps=2") == 0
    run = only_run(tmp_path)
    saved = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    model, state = saved["cliplab_config"]["model"], saved["state_dict"]
    for key, value in built(CONFIG).state_dict().items():
        if key.startswith(tower):
            assert torch.equal(state[f"model.{key}"], value), key
    assert model[f"{tower}_encoder"]["layers"] == 2
    assert model[f"{other}_encoder"]["layers"] == 1
    assert model[f"{other}_encoder"]["output_dim"] == model["embed_dim"] == 32
    assert saved["cliplab_config"]["tokenizer"]["context_length"] == (32 if tower == "image" else 77)
    foreign.unlink()
    assert command("task=evaluate", f"ckpt={run / 'checkpoints' / 'last.ckpt'}") == 0
