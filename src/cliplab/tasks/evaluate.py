"""task=evaluate: a checkpoint against zero-shot sets; everything but the path comes out of the checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from cliplab.checkpoints.io import read_pickled
from cliplab.checkpoints.own import model_state, self_contained
from cliplab.checkpoints.weights import Weights
from cliplab.reporting.html import write_report
from cliplab.reporting.results import write_result
from cliplab.runs.manifest import Manifest
from cliplab.settings.config import ConfigError, build, resolved, typed_keys
from cliplab.settings.evaluators import build_evaluators, credits_of, validation_evaluators
from cliplab.settings.job import Job
from cliplab.settings.pretrained import check_classes, load_weights, with_weights
from cliplab.tasks.compare import evaluate_each
from cliplab.tasks.train import (
    announce,
    build_trainer,
    quiet,
    save_config,
    set_seed,
)
from cliplab.training.callbacks import named_metrics, run_evaluator
from cliplab.training.module import TrainingModule

OWN = ("task", "ckpt", "paths", "run", "pretrained")


def checkpoint_config(checkpoint: dict[str, Any], cfg: Any, overrides: Sequence[str]) -> dict[str, Any]:
    """The checkpoint's config with this command's task and paths, beaten by what was typed and by nothing else."""
    stored = OmegaConf.create(checkpoint["cliplab_config"])
    typed = set(typed_keys(overrides))
    for key in OWN:
        stored[key] = cfg[key]
    for key in typed - set(OWN):
        if "/" in key:
            raise ConfigError(f"{key}: the checkpoint brings its own towers; evaluate another checkpoint instead")
        if OmegaConf.is_config(OmegaConf.select(cfg, key)) and "." not in key:
            stored[key] = OmegaConf.create(OmegaConf.to_container(cfg[key], resolve=False))
        elif key != "experiment":
            OmegaConf.update(stored, key, OmegaConf.select(cfg, key), merge=True)
    return resolved(stored)


def read_checkpoint(config: dict[str, Any], cfg: Any, overrides: Sequence[str]) -> tuple[dict[str, Any], Weights]:
    """The config and weights of ``ckpt=``, or of ``pretrained=`` under the config that was composed."""
    if config.get("pretrained"):
        if config["ckpt"]:
            raise ConfigError("pretrained: ckpt= names a model too; give one of them")
        config, weights = with_weights(cfg, overrides)
        if "name" not in typed_keys(overrides):
            config["name"] = Path(config["pretrained"].rpartition(":")[2]).stem
        if not {"data", "experiment"} & set(typed_keys(overrides)):
            config["data"]["validation"] = None  # nobody asked for the default data
        return config, weights
    if not config["ckpt"]:
        raise ConfigError(
            "ckpt: task=evaluate needs a checkpoint; ckpt=logs/train/<experiment>/<run>/checkpoints/last.ckpt, "
            "or pretrained=<foreign weights>"
        )
    path = Path(config["ckpt"])
    if not path.is_file():
        raise ConfigError(f"ckpt: {path} is no file")
    checkpoint = read_pickled(path)
    if not isinstance(checkpoint, dict) or "cliplab_config" not in checkpoint:
        raise ConfigError(f"ckpt: {path} was not written by cliplab; it carries no config; use pretrained={path}")
    config = self_contained(checkpoint_config(checkpoint, cfg, overrides), checkpoint)
    state = model_state(checkpoint["state_dict"])
    weights = Weights(config["model"], config["tokenizer"], state, str(path))
    check_classes(weights)
    return config, weights


def run(job: Job) -> float | None:
    """Rebuild the model from ``ckpt=`` or ``pretrained=``, evaluate, write results and report. Prints the report's path.

    A list, ``ckpt=[a,b]``, gives a report each and one comparison.
    """
    config, cfg, overrides = job.config, job.composed, job.typed
    if isinstance(config["ckpt"], list) or isinstance(config["pretrained"], list):
        evaluate_each(cfg, overrides, lambda one, typed: run(Job(resolved(one), one, typed)))
        return None
    config, weights = read_checkpoint(config, cfg, overrides)
    run_dir = Path(config["paths"]["run"])
    quiet()
    save_config(config, run_dir, overrides)
    set_seed(config["seed"])
    evaluators = build_evaluators(config)
    typed = {key.split(".")[0] for key in typed_keys(overrides)}
    if config["data"].get("validation") and not ("zeroshot" in typed and "data" not in typed):
        evaluators += validation_evaluators(build(config["data"], "data"))
    if not evaluators:
        raise ConfigError("zeroshot: there is nothing to evaluate; choose a set, zeroshot=…")
    module = load_module(weights, config)
    manifest = Manifest(run_dir, config, overrides)
    manifest.start(
        checkpoint=weights.source,
        data={"source": config["data"].get("path") or config["name"]},
        parameters=sum(p.numel() for p in module.model.parameters()),
        credits=credits_of(evaluators),
    )
    trainer = build_trainer(one_device(config), None, False, run_dir)
    module.to(trainer.strategy.root_device)
    tokenizer = build(config["tokenizer"], "tokenizer")
    results = []
    for evaluator in evaluators:
        precision = trainer.precision_plugin.forward_context()
        result = run_evaluator(evaluator, module, tokenizer, precision, thorough=True)
        write_result(run_dir, result, evaluator.images.dataset, config["name"], Path(weights.source).stem)
        results.append(result)
    final = {key: value for result in results for key, value in named_metrics(result).items()}
    value = final.get(config["optimized_metric"])
    manifest.finish("finished", final=final, optimized_metric={"name": config["optimized_metric"], "value": value})
    announce(results)
    print(write_report(run_dir))
    return value


def load_module(weights: Weights, config: dict[str, Any]) -> TrainingModule:
    """The trained model in its module."""
    model = build(config["model"], "model")
    load_weights(model, weights)
    return TrainingModule(
        model=model,
        objective=build(config["objective"], "objective"),
        optimizer=build(config["optimizer"], "optimizer"),
        schedule=build(config["scheduler"], "scheduler"),
        total_steps=1,
        config=config,
    )


def one_device(config: dict[str, Any]) -> dict[str, Any]:
    """The same precision on one device, on a CPU where the GPU it was trained on is missing."""
    trainer = {**config["trainer"], "devices": 1, "num_nodes": 1, "strategy": "auto"}
    if trainer["accelerator"] == "gpu" and not torch.cuda.is_available():
        trainer["accelerator"] = "cpu"
    return {**config, "trainer": trainer}
