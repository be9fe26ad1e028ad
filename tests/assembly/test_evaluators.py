"""Zero-shot sets as they are composed, checked and built: the preparation that the weights ask for reaches every one."""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image

from cliplab.assembly.evaluators import build_evaluators, credits_of, validation_evaluators, with_captions
from cliplab.cli.places import config_dir
from cliplab.evaluation.batches import EvaluationImages, picture_hash
from cliplab.evaluation.clock import Phases
from cliplab.evaluation.protocol import short_hash
from cliplab.objectives.caption import Caption
from cliplab.objectives.contrastive import ClipLoss
from cliplab.settings.build import build
from cliplab.settings.check_targets import check
from cliplab.settings.config import ConfigError

from ..evaluation.toys import DEVICE

KINDS = ["folder", "folder_multi_label", "folder_retrieval", "linear_probe"]
TRANSFORMS = ["EvalTransform", "SquashTransform"]


def wide(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 50, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def class_folders(root: Path) -> Path:
    for split in ("train", "test"):
        for i in range(6):
            folder = root / split / f"class {i % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            wide(i + 10 * (split == "test")).save(folder / f"{i}.png")
    return root


def several_labels(root: Path) -> Path:
    names = datasets.List(datasets.ClassLabel(names=["a", "b"]))
    features = datasets.Features({"image": datasets.Image(), "labels": names})
    root.mkdir()
    rows = {"image": [wide(i) for i in range(4)], "labels": [[0], [1], [0, 1], []]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(root / "test.parquet")
    return root


def pairs(root: Path) -> Path:
    root.mkdir()
    for i in range(4):
        wide(i).save(root / f"{i}.png")
    lines = [json.dumps({"file_name": f"{i}.png", "caption": f"picture {i}"}) for i in range(4)]
    (root / "metadata.jsonl").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One composition of a set of each kind and of data with validation pairs."""
    root = tmp_path_factory.mktemp("sets")
    labelled, captioned = class_folders(root / "labelled"), pairs(root / "pairs")
    paths = dict.fromkeys(KINDS, labelled)
    paths |= {"folder_multi_label": several_labels(root / "several"), "folder_retrieval": captioned}
    overrides = [
        "data=image_folder",
        f"data.path={captioned}",
        "data.batch_size=2",
        "data.num_workers=0",
        f"zeroshot=[{','.join(KINDS)}]",
    ]
    overrides += [f"zeroshot.{name}.dataset.path={path}" for name, path in paths.items()]
    overrides += [f"zeroshot.{name}.batch_size=3" for name in KINDS]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        cfg = compose("config", overrides=overrides)
    cfg.paths = {"root": str(root), "run": str(root / "run")}
    return OmegaConf.to_container(cfg, resolve=True)  # type: ignore[return-value]


def prepared_by(config: dict[str, Any], name: str) -> dict[str, Any]:
    transform = {"_target_": f"cliplab.data.transforms.{name}", "image_size": 16}
    return {**config, "data": {**config["data"], "eval_transform": transform}}


def assert_prepared(images: EvaluationImages, transform: Any) -> None:
    shown = {row: x for b in images.batches(DEVICE, Phases(DEVICE)) for row, x in zip(b.rows, b.images, strict=False)}
    assert len(shown) == len(images)
    for row, pixels in shown.items():
        assert pixels.equal(transform(images.dataset.picture(row)))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_every_set_is_prepared_as_the_weights_saw_their_pictures(config: dict[str, Any], name: str) -> None:
    """Pixels and protocol both: of what is scored, and of what a probe is fitted to."""
    asked = prepared_by(config, name)
    transform = build(asked["data"]["eval_transform"], "data.eval_transform")
    evaluators = build_evaluators(asked)
    assert [evaluator.name for evaluator in evaluators] == ["folder", "folder_multi_label", "folder", "folder"]
    for evaluator in evaluators:
        assert_prepared(evaluator.images, transform)
        first = picture_hash(transform(evaluator.images.dataset.picture(0)))
        assert evaluator.protocol()["transform"] == short_hash([transform.fingerprint, first])  # type: ignore[attr-defined]
        assert evaluator.images.batch_size == 3
    assert_prepared(evaluators[-1].train_images, transform)  # type: ignore[attr-defined]


def test_validation_pairs_are_prepared_so_too(config: dict[str, Any]) -> None:
    for name in TRANSFORMS:
        asked = prepared_by(config, name)["data"]
        transform = build(asked["eval_transform"], "data.eval_transform")
        validation, train = build(asked["train"], "data.train"), build({**asked["train"], "limit": 1}, "data.train")
        module = build({**asked, "train": None, "validation": None}, "data", train=train, validation=validation)
        (evaluator,) = validation_evaluators(module)
        assert_prepared(evaluator.images, transform)
        assert with_captions([evaluator], ClipLoss()) == [evaluator]
        also = with_captions([evaluator], captioner())[1]
        assert (also.kind.stem(also.name), also.images) == ("val_captions", evaluator.images)
        assert with_captions([evaluator, also], captioner(), sharded=True) == [evaluator]
        with pytest.raises(
            ConfigError, match="zeroshot: val is a set to write captions for, and this model writes none"
        ):
            with_captions([also], ClipLoss())
    assert validation_evaluators(build({**asked, "validation": None}, "data")) == []


def captioner() -> Caption:
    return Caption(directions="forward", width=None, layers=None, heads=None, captions=0)


def test_values_of_a_set_are_checked_by_their_own_keys(config: dict[str, Any]) -> None:
    def told(**values: Any) -> str:
        folder = {**config["zeroshot"]["folder"], **values}
        with pytest.raises(ConfigError) as error:
            check({"zeroshot": {"folder": folder}}, {"zeroshot": None})
        return str(error.value)

    check({"zeroshot": config["zeroshot"]}, {"zeroshot": None})
    assert told(batch_size="many").startswith("zeroshot.folder.batch_size: 'many' is not an int")
    assert told(subset="few").startswith("zeroshot.folder.subset: 'few' is not an int")
    assert told(templtes=None).startswith("zeroshot.folder.templtes: ")
    data = {**config["zeroshot"]["folder"]["dataset"], "pth": "x"}
    assert told(dataset=data).startswith("zeroshot.folder.dataset.pth: ")
    assert told(_target_="cliplab.nowhere.Kind").startswith("zeroshot.folder._target_: cliplab.nowhere.Kind cannot")
    assert credits_of([]) == []
