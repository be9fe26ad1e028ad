"""Values that no run can work with are told by key, value and what fits, from the composed config alone."""

import copy
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from cliplab.cli.places import config_dir
from cliplab.files import read_yaml
from cliplab.settings.check_data import OF_STREAMS, PLACE
from cliplab.settings.check_metric import check_metric, check_optimized
from cliplab.settings.check_targets import check, check_sources
from cliplab.settings.check_values import check_values
from cliplab.settings.config import ConfigError, base_config, origins, resolved

BASE = base_config(config_dir())


def composed(*overrides: str) -> Any:
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        return compose("config", overrides=["paths.run=run", *overrides])


@pytest.fixture(scope="module")
def emoji() -> dict[str, Any]:
    return resolved(composed())


def changed(config: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(config)
    node, *rest = config, *key.split(".")
    for name in rest[:-1]:
        node = node[name]
    node[rest[-1]] = value
    return config


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("data.batch_size", 0, "must be 1 or more"),
        ("tokenizer.context_length", 2, "must be 3 or more"),
        (
            "data.train.caption_format",
            "line",
            "is not a choice; did you mean 'lines'? the choices are lines, text, json:…",
        ),
        ("data.batch_size", 1e3, "is not an int; it must be 1 or more"),
        ("optimizer.lr", -1, "must be above 0"),
        ("optimizer.lr", 0.0, "must be above 0"),
        ("optimizer.lr", float("nan"), "must be above 0"),
        ("optimizer.betas", [0.9, 1.0], "must be 0 or more and below 1"),
        ("model.embed_dim", -3, "must be 1 or more"),
        ("model.text_encoder.heads", 0, "must be 1 or more"),
        ("model.image_encoder.layers", [3, 0, 6, 3], "is not an int; it must be 1 or more"),
        ("optimizer.betas", [0.9], "must be 0 or more and below 1, 2 of them"),
        ("optimizer.eps", "abc", "is not a float; it must be 0 or more"),
        ("optimizer.lr", float("inf"), "must be above 0"),
        (
            "trainer.precision",
            "bf17",
            "is not a choice; did you mean 'bf16'? the choices are auto, 32-true, bf16-mixed",
        ),
        ("trainer.precision", 8, "is not a choice; the choices are auto, 32-true"),
        ("trainer.strategy", "foo", "is not a choice; the choices are auto, ddp, ddp_spawn"),
        ("trainer.accelerator", "gpus", "is not a choice; did you mean 'gpu'? the choices are auto, cpu, gpu"),
        ("trainer.gradient_clip_val", "big", "is not a float; it must be 0 or more"),
        ("scheduler.min_ratio", 1.5, "must be between 0 and 1"),
        ("data.train_transform.flip", 2, "must be between 0 and 1"),
        ("data.train_transform.scale", [0.5, 1.5], "must be between 0 and 1"),
        ("callbacks.evaluation.every_n_epochs", 0, "must be 1 or more"),
        ("callbacks.checkpoint.every_n_epochs", -1, "must be 1 or more"),
        ("callbacks.best.mode", "maximum", "is not a choice; did you mean 'max'? the choices are min, max"),
        ("zeroshot.emoji_compositions.batch_size", 0, "must be 1 or more"),
        ("zeroshot.emoji_compositions.subset", 0, "must be 1 or more"),
        ("model.init_temperature", 0, "must be above 0"),
        ("model.text_encoder.context_length", 7.5, "is not an int; it must be 1 or more"),
        ("locking.text_encoder.unlocked_groups", -1, "must be 0 or more"),
        ("trainer.max_epochs", -5, "must be 1 or more, or -1"),
        ("trainer.max_epochs", 0, "must be 1 or more, or -1"),
        ("trainer.max_steps", "ten", "is not an int; it must be 1 or more, or -1"),
        ("trainer.limit_train_batches", 0, "must be 1 or more, or above 0 and up to 1"),
        ("trainer.limit_train_batches", 1.5, "must be 1 or more, or above 0 and up to 1"),
        ("data.num_workers", -1, "must be 0 or more"),
        ("data.num_workers", True, "is not an int; it must be 0 or more"),
        ("scheduler.warmup_steps", -1, "must be 0 or more"),
        ("seed", 2**32, "must be between 0 and 4294967295"),
    ],
)
def test_value_is_told_with_its_key_and_what_fits(emoji: dict[str, Any], key: str, value: Any, fix: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_sources(changed(emoji, key, value), BASE)
    assert str(caught.value).startswith(f"{key}: {value!r} {fix}")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainer.limit_train_batches", 0.5),
        ("trainer.max_steps", 10),
        ("optimizer.weight_decay", 0),
        ("data.num_workers", 0),
        ("trainer.precision", 16),
        ("trainer.precision", "auto"),
        ("trainer.devices", "0,1"),
        ("optimizer.lr", 1),
        ("data.train_transform.scale", [1, 1]),
    ],
)
def test_values_that_work_pass(emoji: dict[str, Any], key: str, value: Any) -> None:
    check_values(changed(emoji, key, value), {})
    check_sources(changed(emoji, key, value), BASE)


def test_a_run_needs_an_end(emoji: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"trainer.max_epochs: .* set trainer.max_steps to say how long"):
        check_values(changed(emoji, "trainer.max_epochs", -1), {})


def test_paths_are_told_by_the_key_that_is_typed() -> None:
    cfg = composed("data=image_folder", "zeroshot=none")
    with pytest.raises(ConfigError, match=r"^data\.path: None .* data\.path=…"):
        check_values(resolved(cfg), origins(cfg))
    cfg.data.path = "/nowhere/at/all"
    with pytest.raises(ConfigError, match=r"^data\.path: /nowhere/at/all is neither a folder nor a file"):
        check_values(resolved(cfg), origins(cfg))
    cfg.data.path = "owner/name"
    check_values(resolved(cfg), origins(cfg))
    cfg.data.path, cfg.task.name = None, "search"  # which reads no captions
    check_values(resolved(cfg), origins(cfg))


def test_a_type_is_told_where_it_was_typed() -> None:
    cfg = composed("data.streaming=perhaps")
    typed_at = origins(cfg)
    assert typed_at["data.train.streaming"] == "data.streaming"
    assert typed_at["data.eval_transform.image_size"] == "model.image_encoder.image_size"
    config = resolved(cfg)
    with pytest.raises(ConfigError, match=r"^data.streaming: 'perhaps' is not a bool"):
        check(
            {"train": config["data"]["train"]}, {"train": None}, {"train.streaming": typed_at["data.train.streaming"]}
        )


@pytest.mark.parametrize(
    ("sources", "weights", "message"),
    [
        (None, None, r"data.train.sources: None does not name a source; write .*photos: <folder or hub id>"),
        ({"a": "x/y", "b": "x/z"}, {"a": 1}, r"data.train.weights: the weights are for a, but the sources are a, b"),
        ({"a": "x/y", "b": "x/z"}, {"a": 1, "b": -1}, r"data.train.weights.b: -1 must be 0 or more"),
        ({"a": "x/y", "b": {"path": "x/z"}}, 3, r"data.train.weights: 3 must be a weight for each of a, b, or null"),
        ({"a": "/nowhere"}, None, r"data.train.sources.a: /nowhere is neither a folder nor a file"),
    ],
)
def test_a_mixture_has_sources_and_a_weight_for_each(sources: Any, weights: Any, message: str) -> None:
    cfg = composed("data=own_mixture")
    cfg.data.train.sources, cfg.data.train.weights = sources, weights
    with pytest.raises(ConfigError, match=message):
        check_values(resolved(cfg), origins(cfg))


def test_a_zero_shot_set_that_is_not_there_is_told_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a {}")
    for name, part in (("folder", "dataset"), ("linear_probe", "train")):
        key = f"zeroshot.{name}.{part}.path"
        config = resolved(composed(f"zeroshot={name}"))
        with pytest.raises(ConfigError, match=rf"^{key}: /nowhere is neither a folder nor a file"):
            check_values(changed(config, key, "/nowhere"), {})
        config["zeroshot"][name]["dataset"]["path"] = str(tmp_path)
        check_values(changed(config, key, str(tmp_path)), {})
    config = resolved(composed("zeroshot=folder"))
    with pytest.raises(ConfigError, match=r"^zeroshot.folder.dataset.path: the set has no path"):
        check_values(config, {})
    config["zeroshot"]["folder"]["dataset"]["path"] = str(tmp_path)
    with pytest.raises(ConfigError, match=r"^zeroshot.folder.templates: 'openai80' .*did you mean 'openai_80'"):
        check_values(changed(config, "zeroshot.folder.templates", "openai80"), {})
    for templates in (str(tmp_path / "mine.txt"), "simple", ["a {}"]):
        check_values(changed(config, "zeroshot.folder.templates", templates), {})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.path=/tmp"], r"^data\.path: '/tmp' would not be read: .* data=: image_folder"),
        (["data.train.split=test"], r"^data\.train\.split: 'test' would not .* set data\.train\.dataset\.split"),
        (["data.samples_per_epoch=99"], r"^data\.samples_per_epoch: 99 is for streams.* set data\.streaming=true"),
        (["data=csv", "data.path=/tmp", "data.train.parts=2"], r"^data\.train\.parts: 2 is for streams"),
        (["data=own_mixture", "data.path=/tmp"], r"^data\.path: '/tmp' would not be read: the sources"),
        (["data.batch_size=9", "trainer=ddp_sim"], r"^data\.batch_size: 9 is the batch of all 2 .*; set 8$"),
        (["data.batch_size=1", "trainer=ddp_sim"], r"^data\.batch_size: 1 is .*; set 2$"),
    ],
)
def test_keys_of_data_that_would_change_nothing_are_refused(overrides: list[str], message: str) -> None:
    cfg = composed("zeroshot=none", *overrides)
    with pytest.raises(ConfigError, match=message):
        check_values(resolved(cfg), origins(cfg))


@pytest.mark.parametrize(
    ("zeroshot", "fix"),
    [
        ("emoji", "zeroshot/emoji_compositions/acc1"),
        ("folder_multi_label", "zeroshot/folder_multi_label/mean_average_precision"),
        ("folder_retrieval", "zeroshot/folder/recall@1"),
        ("linear_probe", "linear_probe/folder/acc1"),
        ("none", "train/image_accuracy"),
    ],
)
def test_a_sweep_without_validation_pairs_is_told_what_to_compare_by(zeroshot: str, fix: str) -> None:
    config = resolved(composed("data=csv", f"zeroshot={zeroshot}"))
    with pytest.raises(ConfigError, match=rf"^optimized_metric: val/recall@1 needs .*optimized_metric={fix}$"):
        check_optimized(config)
    check_optimized({**config, "optimized_metric": fix})
    check_optimized(resolved(composed()))


def test_a_metric_that_will_not_be_logged_is_told_before_the_sweep() -> None:
    config = resolved(composed("zeroshot=emoji"))
    told = {
        "zeroshot/imagenet/acc1": "of a set that zeroshot= does not evaluate; .* as sweep.metric=zeroshot/emoji_com",
        "zeroshot/emoji_composition/acc1": "of a set that zeroshot= does not evaluate",
        "val/recal@1": "did you mean sweep.metric=val/recall@1",
        "val/loss": "did you mean sweep.metric=val/recall@1",
        "zeroshot/emoji_compositions/accuracy": "did you mean sweep.metric=zeroshot/emoji_compositions/acc1",
        "acc1": "did you mean sweep.metric=zeroshot/emoji_compositions/acc1",
        "loss": "did you mean sweep.metric=train/loss",
        **dict.fromkeys(("zeroshot/emoji_compositions/mean_rank", "zeroshot/emoji_compositions/acc1_ci_low")),
        **dict.fromkeys(("val/recall@5", "val/image_retrieval_median_rank", "val/text_retrieval_recall@10")),
        **dict.fromkeys(("train/loss", "train/images_per_second", "data/bad", "lr", "own/thing")),
    }
    for metric, message in told.items():
        if message is None:
            check_metric(metric, config, "sweep.metric")
            continue
        with pytest.raises(ConfigError, match=rf"^sweep.metric: {metric} is .*{message}"):
            check_metric(metric, config, "sweep.metric")
    own = {**config, "zeroshot": {**config["zeroshot"], "mine": {"_target_": "mine.Thing", "name": "mine"}}}
    check_metric("zeroshot/mine/score", own, "sweep.metric")


def test_what_was_not_typed_is_known_from_the_config() -> None:
    base = read_yaml(config_dir() / "data" / "_base.yaml")["train"]
    known = {**PLACE, **OF_STREAMS, "path": "${data.path}", "samples_per_epoch": "${data.samples_per_epoch}"}
    assert known == {key: base[key] for key in known}


@pytest.mark.parametrize("values", [{"seed": "${seed}"}, {"seed": "${note}", "note": "${name}", "name": "${seed}"}])
def test_a_reference_in_a_circle_is_told(values: dict[str, str]) -> None:
    cfg = OmegaConf.create(values)
    assert set(origins(cfg)) == set(values)
    with pytest.raises(
        ConfigError, match=r"^seed: it refers to itself, directly or by way of others; give it a value$"
    ):
        resolved(cfg)
