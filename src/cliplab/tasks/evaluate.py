"""task=evaluate: a checkpoint against zero-shot sets; everything but the path comes out of the checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from cliplab.reporting.html import write_report
from cliplab.reporting.results import write_result
from cliplab.tasks import manifest as manifests
from cliplab.tasks.config import ConfigError, build, resolved, save_yaml
from cliplab.tasks.train import build_evaluators, build_trainer, set_seed
from cliplab.training.callbacks import run_evaluator
from cliplab.training.module import ContrastiveModule

OWN = ("task", "ckpt", "paths", "run")


def checkpoint_config(checkpoint: dict[str, Any], cfg: Any, overrides: Sequence[str]) -> dict[str, Any]:
    """The checkpoint's config with this command's task and paths, beaten by what was typed and by nothing else."""
    stored = OmegaConf.create(checkpoint["cliplab_config"])
    typed = {override.lstrip("+~").split("=")[0] for override in overrides}
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


def run(config: dict[str, Any], cfg: Any, overrides: Sequence[str]) -> float | None:
    """Rebuild the model from ``ckpt=``, evaluate, write results and report. Prints the report's path."""
    if not config["ckpt"]:
        raise ConfigError(
            "ckpt: task=evaluate needs a checkpoint; ckpt=logs/train/<experiment>/<run>/checkpoints/last.ckpt"
        )
    path = Path(config["ckpt"])
    if not path.is_file():
        raise ConfigError(f"ckpt: {path} is no file")
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    if "cliplab_config" not in checkpoint:
        raise ConfigError(f"ckpt: {path} was not written by cliplab; it carries no config")
    config = checkpoint_config(checkpoint, cfg, overrides)
    run_dir = Path(config["paths"]["run"])
    run_dir.mkdir(parents=True, exist_ok=True)
    save_yaml(run_dir / "config.yaml", config)
    save_yaml(run_dir / "overrides.yaml", list(overrides))
    set_seed(config["seed"])
    tokenizer = build(config["tokenizer"])
    datamodule = build(config["data"]) if config["data"].get("validation") else None
    evaluators = build_evaluators(config, datamodule)
    if not evaluators:
        raise ConfigError("zeroshot: there is nothing to evaluate; choose a set, zeroshot=…")
    model = build(config["model"])
    weights = {k.removeprefix("model."): v for k, v in checkpoint["state_dict"].items()}
    model.load_state_dict(weights)
    facts = {
        "checkpoint": str(path),
        "data": {"source": config["data"].get("path") or config["name"]},
        "parameters": sum(p.numel() for p in model.parameters()),
        "credits": sorted({c for e in evaluators for c in getattr(e.dataset, "credits", ())}),
    }
    manifest = manifests.start(run_dir, config, overrides, facts)
    config["trainer"]["devices"], config["trainer"]["strategy"] = 1, "auto"
    if config["trainer"]["accelerator"] == "gpu" and not torch.cuda.is_available():
        config["trainer"]["accelerator"] = "cpu"
    trainer = build_trainer(config, None, False, run_dir)
    module = ContrastiveModule(
        model=model,
        loss=build(config["objective"]),
        optimizer=build(config["optimizer"]),
        schedule=build(config["scheduler"]),
        weight_decay=0.0,
        total_steps=1,
        config=config,
    ).to(trainer.strategy.root_device)
    final: dict[str, float] = {}
    for evaluator in evaluators:
        result = run_evaluator(evaluator, module, tokenizer, trainer.precision_plugin.forward_context())
        prefix = "val" if result.name == "val" else f"zeroshot/{result.name}"
        final |= {f"{prefix}/{key}": value for key, value in result.metrics.items()}
        write_result(run_dir, result, evaluator.dataset, config["name"], path.stem)
        if "acc1" in result.metrics:
            print(f"{result.name}: top-1 {result.metrics['acc1']:.2%}, top-5 {result.metrics['acc5']:.2%}")
    value = final.get(config["optimized_metric"])
    chosen = {"name": config["optimized_metric"], "value": value}
    manifests.finish(run_dir, manifest, "finished", final=final, optimized_metric=chosen)
    print(write_report(run_dir))
    return value
