"""What is typed beside a checkpoint, and what the checkpoint keeps."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from cliplab.assembly.model import checkpoint_config
from cliplab.assembly.pretraining import announce_weights
from cliplab.checkpoints.weights import Weights
from cliplab.cli.places import config_dir
from cliplab.settings.config import resolved

SQUASH = {"_target_": "cliplab.data.transforms.SquashTransform", "image_size": 48, "interpolation": "bilinear"}


@pytest.fixture(scope="module")
def saved() -> dict[str, Any]:
    """The config of a run whose pictures are squashed."""
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = resolved(compose("config", overrides=["paths.run=/run", "paths.root=/root"]))
    return {**config, "data": {**config["data"], "eval_transform": SQUASH}}


def evaluated(saved: dict[str, Any], *typed: str) -> dict[str, Any]:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        composed = compose("config", overrides=["task=evaluate", "paths.run=/run", "paths.root=/root", *typed])
    return checkpoint_config(saved, composed, typed)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["data=csv", "data.path=x.csv"], SQUASH),
        (["data=emoji"], SQUASH),
        (["data.path=x"], SQUASH),
        (["zeroshot=none"], SQUASH),
        (["data=csv", "data.path=x.csv", "data.eval_transform.image_size=32"], {**SQUASH, "image_size": 32}),
        (["model.image_encoder.image_size=32"], {**SQUASH, "image_size": 32}),
        (["model.image_encoder.image_size=32", "data=csv", "data.path=x.csv"], {**SQUASH, "image_size": 32}),
        (["model.image_encoder.image_size=32", "data.eval_transform.image_size=40"], {**SQUASH, "image_size": 40}),
        (["data.eval_transform.image_size=32", "data=csv", "data.path=x.csv"], {**SQUASH, "image_size": 32}),
    ],
)
def test_other_data_are_seen_as_the_weights_were_trained_to_see(
    typed: list[str], expected: dict[str, Any], saved: dict[str, Any]
) -> None:
    config = evaluated(saved, *typed)
    assert config["data"]["eval_transform"] == expected
    if "data.path=x.csv" in typed:
        assert config["data"]["path"] == "x.csv"


def test_a_new_run_from_the_weights_of_another_says_so_and_how_that_one_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "a run=1"
    (run / "checkpoints").mkdir(parents=True)
    file = run / "checkpoints" / "last.ckpt"
    announce_weights(Weights({}, {}, {}, source=str(file)))
    assert capsys.readouterr().out == f"a new run, which begins with the weights of {file}\n"
    for name in ("manifest.json", "config.yaml"):
        (run / name).touch()
    announce_weights(Weights({}, {}, {}, source=str(file)))
    said = capsys.readouterr().out
    assert f"of {file}; to go on with that run instead: " in said
    assert shlex.split(said)[-1] == f"resume='{run}'", "it can be typed as it stands"
