"""Every choice of every group composes; every experiment fits the code it calls; the paper's models have its sizes."""

import copy
import functools
import itertools
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from cliplab.cli.places import config_dir
from cliplab.settings.check_targets import check
from cliplab.settings.config import base_config, fill_known_values, resolved

CONFIGS = config_dir()
EXPERIMENTS = sorted(f.stem for f in (CONFIGS / "experiment").glob("*.yaml"))
GROUPS: dict[str, list[str]] = {}
for _file in sorted(CONFIGS.rglob("*.yaml")):
    _group = _file.parent.relative_to(CONFIGS).as_posix()
    if _group.split("/")[0] not in (".", "experiment", "hydra", "paths", "local", "sweep") and _file.stem[0] != "_":
        GROUPS.setdefault(_group, []).append(_file.stem)
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


@functools.cache
def composed(*overrides: str) -> Any:
    """The config with these overrides. It is shared: a test that changes it works on a copy."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("config", overrides=["paths.run=run", *overrides])


def check_choices(choices: dict[str, str]) -> None:
    """The choices compose together, stand in the config under their group, and fit the code that they call."""
    cfg = copy.deepcopy(composed(*(f"{group}={choice}" for group, choice in choices.items())))
    fill_known_values(cfg)
    config = resolved(cfg)
    config["logger"] = {"csv": config["logger"]["csv"]}  # the others come from packages that are optional
    check(config, base_config(CONFIGS))


@pytest.mark.slow
def test_every_choice_of_every_group_fits_the_code() -> None:
    """The n-th choices of all groups are composed together, so that there are few compositions. What fails together is
    then tried alone, so that the message names it."""
    alone = {"zeroshot", "debug"}  # zero-shot sets are composed as one list; debug sets other groups' values
    together = {group: choices for group, choices in GROUPS.items() if group not in alone}
    for row in itertools.zip_longest(*together.values()):
        choices = {group: choice for group, choice in zip(together, row, strict=True) if choice is not None}
        try:
            check_choices(choices)
        except Exception:
            for group, choice in choices.items():
                check_choices({group: choice})
            raise
    for choice in GROUPS["debug"]:
        check_choices({"debug": choice})


@pytest.mark.slow
def test_every_zero_shot_set_fits_the_code() -> None:
    sets = [choice for choice in GROUPS["zeroshot"] if choice != "none"]
    config = resolved(composed(f"zeroshot=[{','.join(sets)}]"))
    check(config, base_config(CONFIGS))
    assert len(config["zeroshot"]) >= len(sets)
    assert resolved(composed("zeroshot=none"))["zeroshot"] == {}
    of_each_kind = ("imagenet", "coco_retrieval", "linear_probe", "folder_multi_label", "folder_captions")
    for choice in of_each_kind:  # alone
        assert len(resolved(composed(f"zeroshot={choice}"))["zeroshot"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_fits_the_code_and_builds_on_the_meta_device(experiment: str) -> None:
    cfg = composed(f"experiment={experiment}")
    check(resolved(cfg), base_config(CONFIGS))
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert model.embed_dim == cfg.model.embed_dim
    assert cfg.name == experiment
    if experiment in PAPER:
        assert sum(p.numel() for p in model.parameters()) == PAPER[experiment]


@pytest.mark.slow
@pytest.mark.parametrize("experiment", PAPER)
def test_experiments_set_nothing_that_belongs_to_one_source(experiment: str) -> None:
    """Their data can be swapped, since nothing of the source stays behind."""
    other = resolved(composed(f"experiment={experiment}", "data=coco"))["data"]
    base = resolved(composed("data=coco", f"data.batch_size={other['batch_size']}"))["data"]
    size = other["eval_transform"]["image_size"]
    for node in (base["train_transform"], base["eval_transform"]):
        node["image_size"] = size
    base["tokenizer"] = other["tokenizer"]
    assert other == base


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


@pytest.mark.slow
@pytest.mark.parametrize("choice", [choice for choice in GROUPS["model/text_encoder"] if choice.startswith("hf_")])
def test_hugging_face_text_towers_build_on_the_meta_device_without_a_hub(choice: str) -> None:
    cfg = composed("experiment=vit_b32", f"model/text_encoder={choice}")
    with torch.device("meta"):
        tower = instantiate(cfg.model).text_encoder
    assert tower.output_dim == 512
    assert cfg.tokenizer.source == cfg.model.text_encoder.source
    assert sum(p.numel() for p in tower.parameters()) // 10**6 == HUGGING_FACE[choice]


@pytest.mark.slow
def test_image_towers_of_other_libraries_bring_their_own_image_size() -> None:
    cfg = composed("experiment=vit_b32", "model/image_encoder=timm", "model.image_encoder.name=test_vit", "data=emoji")
    cfg = copy.deepcopy(cfg)
    fill_known_values(cfg)
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


@pytest.mark.slow
def test_caption_presets_stream_and_find_their_columns() -> None:
    presets = [choice for choice in GROUPS["data"] if choice != "own_mixture"]  # its sources are typed
    assert len(presets) >= 14
    for data in presets:
        config = resolved(composed(f"data={data}", "data.streaming=true", "data.samples_per_epoch=1000"))
        check({"data": config["data"]}, base_config(CONFIGS))
        sources = config["data"]["train"].get("sources", {"": config["data"]["train"]}).values()
        assert all(source["streaming"] for source in sources)
        assert all(source["image_columns"] and source["caption_columns"] for source in sources)
