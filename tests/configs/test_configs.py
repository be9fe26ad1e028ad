"""Every choice of every group composes; every experiment fits the code it calls; the paper's models have its sizes."""

import itertools
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from cliplab.cli import config_dir
from cliplab.settings.config import base_config, check, fill_own_values, resolved

CONFIGS = config_dir()
EXPERIMENTS = sorted(f.stem for f in (CONFIGS / "experiment").glob("*.yaml"))
GROUPS = sorted(
    (folder.relative_to(CONFIGS).as_posix(), file.stem)
    for folder in CONFIGS.rglob("*")
    if folder.is_dir() and folder.name not in ("experiment", "hydra", "paths", "local", "sweep")
    for file in folder.glob("*.yaml")
    if not file.stem.startswith("_")
)
NEEDED = ["paths.run=run"]
PAPER = {
    "rn50": 102_007_137,
    "rn101": 119_688_033,
    "rn50x4": 178_300_601,
    "rn50x16": 290_979_217,
    "rn50x64": 623_258_305,
    "vit_b32": 151_277_313,
    "vit_b16": 149_620_737,
    "vit_l14": 427_616_513,
    "vit_l14_336": 427_944_193,
}
# lr, epochs, beta2, eps: Radford et al. 2021, tables 18 to 20
RECIPES = {
    "rn50": (5e-4, 32, 0.999, 1e-8),
    "rn101": (5e-4, 32, 0.999, 1e-8),
    "rn50x4": (5e-4, 32, 0.999, 1e-8),
    "rn50x16": (4e-4, 32, 0.999, 1e-8),
    "rn50x64": (3.6e-4, 32, 0.999, 1e-8),
    "vit_b32": (5e-4, 32, 0.98, 1e-6),
    "vit_b16": (5e-4, 32, 0.98, 1e-6),
    "vit_l14": (4e-4, 32, 0.98, 1e-6),
    "vit_l14_336": (2e-5, 1, 0.98, 1e-6),
}
# Millions of parameters of each tower with its projection, without the library's pooling head
HUGGING_FACE = {
    "hf_bert": 109,
    "hf_distilbert": 66,
    "hf_minilm": 22,
    "hf_modernbert": 149,
    "hf_mpnet": 109,
    "hf_roberta": 124,
    "hf_t5": 110,
    "hf_xlm_roberta": 278,
}


def composed(*overrides: str):
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("config", overrides=[*NEEDED, *overrides])


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_fits_the_code_and_builds_on_the_meta_device(experiment: str) -> None:
    cfg = composed(f"experiment={experiment}")
    check(resolved(cfg), base_config(CONFIGS))
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert model.embed_dim == cfg.model.embed_dim
    assert cfg.name == experiment


@pytest.mark.parametrize(("group", "choice"), GROUPS)
def test_group_choice_fits_the_code(group: str, choice: str) -> None:
    cfg = composed(f"{group}={choice}")
    fill_own_values(cfg)
    config = resolved(cfg)
    if group == "logger":
        config["logger"] = {"csv": config["logger"]["csv"]}  # the others come from packages that are optional
    check(config, base_config(CONFIGS))


def test_experiments_set_nothing_that_belongs_to_one_source() -> None:
    for experiment, data in itertools.product(PAPER, ("emoji", "coco", "local_parquet")):
        check(resolved(composed(f"experiment={experiment}", f"data={data}")), base_config(CONFIGS))


@pytest.mark.parametrize(("experiment", "count"), PAPER.items())
def test_paper_parameter_count(experiment: str, count: int) -> None:
    with torch.device("meta"):
        model = instantiate(composed(f"experiment={experiment}").model)
    assert sum(p.numel() for p in model.parameters()) == count


@pytest.mark.parametrize(("experiment", "recipe"), RECIPES.items())
def test_paper_recipe(experiment: str, recipe: tuple[float, int, float, float]) -> None:
    cfg = composed(f"experiment={experiment}")
    optimizer, lr = cfg.optimizer, recipe[0]
    assert (optimizer.lr, cfg.trainer.max_epochs, optimizer.betas[1], optimizer.eps) == (lr, *recipe[1:])
    assert (optimizer.betas[0], optimizer.weight_decay, cfg.scheduler.warmup_steps) == (0.9, 0.2, 2000)
    assert cfg.data.batch_size == 32768
    assert (cfg.model.init_temperature, cfg.model.max_logit_scale) == (0.07, 100)
    assert cfg.data.path == "pixparse/cc12m-wds"
    assert list(cfg.zeroshot) == ["imagenet"]


def test_towers_swap_from_the_command_line() -> None:
    cfg = composed(
        "experiment=vit_b32", "model/image_encoder=rn50", "model/text_encoder=clip_text_small", "model.embed_dim=96"
    )
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert type(model.image_encoder).__name__ == "ModifiedResNet"
    assert (model.image_encoder.output_dim, model.text_encoder.output_dim) == (96, 96)
    assert cfg.tokenizer.context_length == model.text_encoder.context_length == 32


@pytest.mark.parametrize(
    "choice", sorted(choice for group, choice in GROUPS if choice.startswith("hf_") and "text" in group)
)
def test_hugging_face_text_towers_build_on_the_meta_device_without_a_hub(choice: str) -> None:
    cfg = composed("experiment=vit_b32", f"model/text_encoder={choice}")
    with torch.device("meta"):
        tower = instantiate(cfg.model).text_encoder
    assert tower.output_dim == 512
    assert cfg.tokenizer.source == cfg.model.text_encoder.source
    assert sum(p.numel() for p in tower.parameters()) // 10**6 == HUGGING_FACE[choice]


def test_image_towers_of_other_libraries_bring_their_own_image_size() -> None:
    cfg = composed("experiment=vit_b32", "model/image_encoder=timm", "model.image_encoder.name=test_vit", "data=emoji")
    fill_own_values(cfg)
    config = resolved(cfg)
    assert config["model"]["image_encoder"]["image_size"] == config["data"]["eval_transform"]["image_size"] == 160
    for choice, millions in {"timm": 24, "hf_vit": 86, "hf_dinov2": 86}.items():
        with torch.device("meta"):
            tower = instantiate(composed("experiment=vit_b32", f"model/image_encoder={choice}").model).image_encoder
        assert tower.image_size == 224
        assert sum(p.numel() for p in tower.parameters()) // 10**6 == millions


def test_locks_choose_what_they_say() -> None:
    unlocked = {}
    for choice in ("none", "lit", "lit_projection", "text_projection"):
        locking = composed("experiment=emoji", f"locking={choice}").locking
        unlocked[choice] = (locking.image_encoder.unlocked_groups, locking.text_encoder.unlocked_groups)
    assert unlocked == {
        "none": (None, None),
        "lit": (0, None),
        "lit_projection": (1, None),
        "text_projection": (None, 1),
    }


def test_several_zero_shot_sets_are_chosen_as_a_list() -> None:
    config = resolved(composed("experiment=vit_b32", "zeroshot=[imagenet,imagenet_a,cifar10,coco_retrieval]"))
    check(config, base_config(CONFIGS))
    sets = config["zeroshot"]
    assert [node["name"] for node in sets.values()] == ["imagenet", "imagenet_a", "cifar10", "mscoco_captions"]
    assert [sets[name]["dataset"]["split"] for name in ("imagenet", "imagenet_a", "cifar10")] == [
        "validation",
        "test",
        "test",
    ]
    assert sets["imagenet_a"]["label_space"] == "imagenet_a"
    assert sets["cifar10"]["templates"] is None, "the data set's own"


def test_choices_listed_exist() -> None:
    assert Path(CONFIGS / "experiment" / "emoji.yaml").is_file()
    assert len(GROUPS) > 40


DATA = "cc3m cc12m coco flickr30k flickr8k datacomp laion local_parquet image_folder webdataset csv arrow emoji mixture"


@pytest.mark.parametrize("data", DATA.split())
def test_caption_presets_fit_their_code(data: str) -> None:
    config = resolved(composed(f"data={data}", "data.streaming=true", "data.samples_per_epoch=1000"))
    check({"data": config["data"]}, base_config(CONFIGS))
    sources = config["data"]["train"].get("sources", {"": config["data"]["train"]}).values()
    assert all(source["streaming"] for source in sources)
    assert all(source["image_columns"] and source["caption_columns"] for source in sources)
