"""task=train: pre-training with evaluation every epoch, results and a report."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from rich.console import Console
from rich.tree import Tree

from cliplab.evaluation.retrieval import Retrieval
from cliplab.reporting.html import write_report
from cliplab.reporting.results import write_result
from cliplab.tasks import manifest as manifests
from cliplab.tasks.config import build, choose_precision, save_yaml
from cliplab.training.callbacks import Evaluate
from cliplab.training.module import ContrastiveModule


def print_config(config: dict[str, Any]) -> None:
    """The resolved config as a tree."""

    def grow(tree: Tree, node: dict[str, Any]) -> None:
        for key, value in node.items():
            if isinstance(value, dict) and value:
                grow(tree.add(f"[bold]{key}"), value)
            else:
                tree.add(f"{key}: [cyan]{value}")

    tree = Tree(f"[bold]{config['name']}")
    grow(tree, config)
    Console().print(tree)


def set_seed(seed: int) -> None:
    lightning.seed_everything(seed, workers=True, verbose=False)


def build_evaluators(config: dict[str, Any], datamodule: Any | None) -> list[Any]:
    """The configured zero-shot sets, and retrieval over the validation pairs when there are any."""
    evaluators = [build(node) for node in config["zeroshot"].values()]
    pairs = datamodule.validation_pairs() if datamodule is not None else None
    if pairs is not None:
        evaluators.append(Retrieval(name="val", dataset=pairs))
    return evaluators


def build_trainer(config: dict[str, Any], callbacks: Any, loggers: Any, root: Path) -> lightning.Trainer:
    settings = dict(config["trainer"])
    settings["precision"] = choose_precision(settings["precision"], settings["accelerator"])
    return build(settings, callbacks=callbacks, logger=loggers, default_root_dir=str(root))


def total_steps(config: dict[str, Any], steps_per_epoch: int) -> int:
    """Optimizer steps of the whole run, computed by us: the trainer's own estimate disturbs a resumed loader."""
    limit = config["trainer"]["limit_train_batches"]
    if isinstance(limit, int):
        steps_per_epoch = min(limit, steps_per_epoch)
    elif isinstance(limit, float):
        steps_per_epoch = int(limit * steps_per_epoch)
    epochs, most = config["trainer"]["max_epochs"], config["trainer"]["max_steps"]
    steps = math.inf if epochs in (None, -1) else epochs * steps_per_epoch
    return int(min(steps, most) if most and most > 0 else steps)


def model_name(config: dict[str, Any]) -> str:
    return config["name"]


def run(config: dict[str, Any], cfg: Any, overrides: Sequence[str]) -> float | None:
    """Train, then write results and report into the run folder. Returns the metric a sweep maximises."""
    run_dir = Path(config["paths"]["run"])
    run_dir.mkdir(parents=True, exist_ok=True)
    if not (run_dir / "config.yaml").is_file():
        save_yaml(run_dir / "config.yaml", config)
        save_yaml(run_dir / "overrides.yaml", list(overrides))
    print_config(config)
    set_seed(config["seed"])
    evaluators = build_evaluators(config, None)  # a set that cannot be reached stops the run here
    datamodule = build(config["data"])
    evaluators += build_evaluators({"zeroshot": {}}, datamodule)
    steps = total_steps(config, datamodule.steps_per_epoch)
    schedule = build(config["scheduler"])
    schedule(0, total_steps=steps)
    weight_decay = config["optimizer"]["weight_decay"]
    set_seed(config["seed"])
    model = build(config["model"])
    if config["compile"]:
        model.image_encoder.compile()
        model.text_encoder.compile()
    module = ContrastiveModule(
        model=model,
        loss=build(config["objective"]),
        optimizer=build(config["optimizer"]),
        schedule=schedule,
        weight_decay=weight_decay,
        total_steps=steps,
        config=config,
    )
    callbacks = {
        key: build(node)
        for key, node in config["callbacks"].items()
        if node and not (key == "best" and datamodule.validation is None)
    }
    evaluation = next((c for c in callbacks.values() if isinstance(c, Evaluate)), Evaluate())
    evaluation.prepare(evaluators=evaluators, tokenizer=datamodule.tokenizer, run_dir=run_dir)
    facts = {
        "data": {
            "source": config["data"].get("path") or config["name"],
            "fingerprint": datamodule.fingerprint,
            "samples": len(datamodule.train),
            "steps": steps,
        },
        "parameters": sum(p.numel() for p in model.parameters()),
        "credits": sorted({c for e in evaluators for c in getattr(e.dataset, "credits", ())}),
    }
    manifest = manifests.start(run_dir, config, overrides, facts)
    trainer = build_trainer(config, list(callbacks.values()), [build(n) for n in config["logger"].values()], run_dir)
    last = run_dir / "checkpoints" / "last.ckpt"
    try:
        trainer.fit(module, datamodule=datamodule, ckpt_path=str(last) if last.is_file() else None)
        trainer.save_checkpoint(last)
    except BaseException as error:
        status = "interrupted" if isinstance(error, KeyboardInterrupt | SystemExit) else "failed"
        manifests.finish(run_dir, manifest, status, error=f"{type(error).__name__}: {error}"[:500])
        raise
    if trainer.interrupted:
        manifests.finish(run_dir, manifest, "interrupted")
        raise SystemExit(130)
    return _finish(config, run_dir, manifest, trainer, module, evaluation, datamodule)


def _finish(
    config: dict[str, Any],
    run_dir: Path,
    manifest: dict[str, Any],
    trainer: lightning.Trainer,
    module: ContrastiveModule,
    evaluation: Evaluate,
    datamodule: Any,
) -> float | None:
    if evaluation.evaluated_step != trainer.global_step:
        evaluation._evaluate(trainer, module)
    final = {key: float(value) for key, value in trainer.callback_metrics.items() if torch.is_tensor(value)}
    for evaluator in evaluation.evaluators:
        result = evaluation.results[evaluator.name]
        prefix = "val" if result.name == "val" else f"zeroshot/{result.name}"
        final |= {f"{prefix}/{key}": value for key, value in result.metrics.items()}
        if trainer.is_global_zero:
            write_result(run_dir, result, evaluator.dataset, model_name(config), "last")
    value = final.get(config["optimized_metric"])
    if not trainer.is_global_zero:
        return value
    chosen = {"name": config["optimized_metric"], "value": value}
    bad = dict(datamodule.train.bad)
    truncated = getattr(datamodule.tokenizer, "truncated", 0)
    manifests.finish(
        run_dir, manifest, "finished", final=final, optimized_metric=chosen, bad_samples=bad, truncated_texts=truncated
    )
    report = write_report(run_dir)
    for evaluator in evaluation.evaluators:
        metrics = evaluation.results[evaluator.name].metrics
        if "acc1" in metrics:
            print(f"{evaluator.name}: top-1 {metrics['acc1']:.2%}, top-5 {metrics['acc5']:.2%}")
    print(report)
    return value
