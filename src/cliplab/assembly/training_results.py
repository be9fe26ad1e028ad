"""What a training run writes after its last step: results, manifest and report."""

import sys
from pathlib import Path
from typing import Any

import lightning
from hydra.core.hydra_config import HydraConfig

from cliplab.assembly.evaluators import announce
from cliplab.assembly.training_parts import TrainingParts, last_checkpoint
from cliplab.assembly.weights import load_weights
from cliplab.checkpoints.read import read_pretrained
from cliplab.distributed import is_sharded
from cliplab.evaluation.running import named_metrics
from cliplab.models.clip import CLIP
from cliplab.models.fingerprint import model_fingerprint
from cliplab.reporting.html import write_report
from cliplab.reporting.results import write_result
from cliplab.runs.manifest import Manifest
from cliplab.settings.build import build
from cliplab.settings.config import did_you_mean
from cliplab.settings.job import Outcome
from cliplab.training.averaging import weights_to_evaluate
from cliplab.training.callbacks.pruning import how_it_ended


def write_results(
    config: dict[str, Any], manifest: Manifest, trainer: lightning.Trainer, parts: TrainingParts
) -> Outcome:
    """Evaluate the last weights thoroughly, then write results, manifest and report. Every rank must call this.

    Returns the report's path, None on ranks other than the first, and the metric that a sweep maximises.
    """
    run_dir, evaluation = Path(config["paths"]["run"]), parts.evaluation
    evaluation.finish(trainer, parts.module)
    modules = weights_to_evaluate(trainer, parts.module)
    stems = [(suffix, e, e.kind.stem(e.name + suffix)) for suffix in modules for e in evaluation.evaluators]
    results = [  # a short run leaves out evaluators that need whole sets
        (suffix, evaluator, evaluation.results[stem]) for suffix, evaluator, stem in stems if stem in evaluation.results
    ]
    counts = parts.datamodule.all_counts()
    logged = {key: float(value) for key, value in trainer.callback_metrics.items() if key != "step"}
    final = {**parts.module.last_step_figures, **logged}
    for _, _, result in results:
        final |= named_metrics(result)
    value = final.get(config["optimized_metric"])
    if not trainer.is_global_zero:
        return Outcome(None, value)
    identities = {suffix: _identity(module.model, parts, run_dir) for suffix, module in modules.items()}
    for suffix, evaluator, result in results:
        identity = identities[suffix]
        write_result(run_dir, result, evaluator.images.dataset, config["name"], f"last{suffix}", identity)
    manifest.finish(
        **how_it_ended(trainer.callbacks),  # type: ignore[attr-defined]
        final=final,
        optimized_metric={"name": config["optimized_metric"], "value": value},
        bad_samples=dict(counts.bad),
        first_bad_samples=counts.first_bad,
        truncated_texts=counts.truncated,
    )
    if value is None:
        _warn_of_missing_metric(config["optimized_metric"], final)
    announce([result for _, _, result in results])
    return Outcome(write_report(run_dir), value)


def _identity(model: CLIP, parts: TrainingParts, run_dir: Path) -> str:
    """The fingerprint of the model. A sharded one is read from its checkpoint, which has it whole."""
    if is_sharded(model):
        weights = read_pretrained(str(last_checkpoint(run_dir)))
        model = build(weights.model, "model")
        load_weights(model, weights)
    return model_fingerprint(model, parts.datamodule.tokenizer, parts.datamodule.eval_transform)


def _warn_of_missing_metric(metric: str, logged: dict[str, float]) -> None:
    """Say that the metric was not logged, in a multirun or when the metric was typed."""
    hydra_config = HydraConfig.get()
    typed = any(override.startswith("optimized_metric=") for override in hydra_config.overrides.task)
    if typed or str(hydra_config.mode).endswith("MULTIRUN"):
        print(f"optimized_metric: {metric} was not logged{did_you_mean(metric, logged)}", file=sys.stderr)
