"""Results of a model lie in a folder of the model's name."""

import json
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from cliplab.cli.naming import model_name, results_name, sweep_folder
from cliplab.embedding.table import write_table


def name_of(task: str = "evaluate", typed: tuple[str, ...] = (), **given: object) -> str:
    root = {"name": "emoji", "task": {"name": task}, "ckpt": None, "run": None, "pretrained": None, **given}
    return results_name(OmegaConf.create({**root, "hydra": {"overrides": {"task": list(typed)}}}))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "logs" / "2026"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "manifest.json").write_text(json.dumps({"run_name": "mine"}))
    return folder


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("ViT-B-32.pt", "ViT-B-32"),
        ("/weights/model-v1.5", "model-v1.5"),
        ("openai/clip-vit-base-patch32", "clip-vit-base-patch32"),
        ("open_clip:ViT-B-32:laion2b_s34b_b79k", "ViT-B-32-laion2b_s34b_b79k"),
        ("open_clip:RN50:/a/b c.pt", "RN50-b-c"),
        ("a=b,é.safetensors", "a-b-é"),
    ],
)
def test_foreign_weights_have_a_name_of_their_own(spec: str, name: str) -> None:
    assert model_name(spec) == name
    assert name_of(pretrained=spec) == name


def test_a_checkpoint_is_called_as_its_run(run: Path) -> None:
    for value in (run, run / "checkpoints" / "last.ckpt", run.parent):  # a folder above one run too
        assert name_of("embed", run=str(value)) == "mine"
    assert name_of(ckpt=[str(run), "other.pt"]) == "several"
    assert name_of("report", run=str(run)) == "mine"


def test_a_search_in_a_table_is_called_as_the_model_that_made_it(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.npz"
    write_table(table, ["a"], np.ones((1, 2), np.float32), {"source": str(run / "checkpoints" / "last.ckpt")})
    assert name_of("search", images=str(table)) == "mine"
    assert name_of("search", images=str(table), pretrained="ViT-B-32.pt") == "ViT-B-32"
    (tmp_path / "pictures.npz").write_bytes(b"PK")
    assert name_of("search", images=str(tmp_path / "pictures.npz")) == "emoji"


def test_the_experiment_and_a_typed_name_come_first(run: Path) -> None:
    assert name_of("train", pretrained="ViT-B-32.pt") == "emoji"
    assert name_of(typed=("name=emoji",), run=str(run)) == "emoji"
    assert name_of() == "emoji"


@pytest.mark.parametrize(("typed", "folder"), [("1e3", "1e3"), ("2026.10", "2026.10"), ("'007'", "007"), ("b", "b")])
def test_a_sweep_is_called_as_it_was_typed(typed: str, folder: str) -> None:
    held = {"b": "b"}.get(typed, 1000.0)  # what the grammar made of it
    root = {"sweep_name": held, "hydra": {"overrides": {"task": [f"sweep_name={typed}", "seed=1,2"]}}}
    assert sweep_folder("emoji-2026", OmegaConf.create(root)) == folder
    for none in (None, ""):
        assert sweep_folder("emoji-2026", OmegaConf.create({**root, "sweep_name": none})) == "emoji-2026"
