"""Evaluate one model on the zero-shot sets of the config."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cliplab.assembly.device import choose_precision, in_precision, one_device
from cliplab.assembly.evaluators import announce, build_evaluators, credits_of, validation_evaluators, with_captions
from cliplab.assembly.model import evaluated_config
from cliplab.assembly.objective import trained_objective
from cliplab.assembly.process import quiet, set_seed
from cliplab.assembly.weights import load_weights
from cliplab.evaluation.evaluator import Evaluator
from cliplab.evaluation.result import EvaluationResult
from cliplab.evaluation.running import named_metrics, run_evaluator
from cliplab.models.clip import CLIP
from cliplab.models.fingerprint import model_fingerprint
from cliplab.models.tokens import Tokenizer
from cliplab.objectives.objective import Objective, features_of, score_of
from cliplab.objectives.writing import write_of
from cliplab.reporting.html import write_report
from cliplab.reporting.results import write_result
from cliplab.runs.folder import save_config
from cliplab.runs.manifest import Manifest
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError
from cliplab.settings.job import Job, Outcome
from cliplab.settings.model_source import ModelSource


def evaluate(job: Job, source: ModelSource) -> Outcome:
    """Rebuild one model, evaluate it, write results and report. Returns the report's path and the metric of a sweep."""
    config, weights = evaluated_config(job, source)
    quiet()
    save_config(config, job)
    set_seed(config["seed"])
    evaluators = wanted_evaluators(config, job.typed_keys)
    model = build(config["model"], "model")
    load_weights(model, weights)
    objective = trained_objective(weights, model)
    evaluators = with_captions(evaluators, objective)
    manifest = Manifest(job.run_dir, config, job.typed)
    manifest.start(
        checkpoint=weights.source,
        data={"source": config["data"].get("path") or config["name"]},
        parameters=sum(p.numel() for p in model.parameters()),
        objective_parameters=sum(p.numel() for p in objective.parameters()) if objective else 0,
        credits=credits_of(evaluators),
    )
    transform = build(config["data"]["eval_transform"], "data.eval_transform")
    tokenizer = build(config["tokenizer"], "tokenizer")
    identity = model_fingerprint(model, tokenizer, transform)
    results = evaluate_all(model, objective, tokenizer, evaluators, config)
    final: dict[str, float] = {}
    for evaluator, result in zip(evaluators, results, strict=True):
        stem = Path(weights.source).stem
        write_result(job.run_dir, result, evaluator.images.dataset, config["name"], stem, identity)
        final |= named_metrics(result)
    value = final.get(config["optimized_metric"])
    manifest.finish("finished", final=final, optimized_metric={"name": config["optimized_metric"], "value": value})
    announce(results)
    return Outcome(write_report(job.run_dir), value)


def wanted_evaluators(config: dict[str, Any], typed_keys: Sequence[str]) -> list[Evaluator]:
    """Evaluators of the zero-shot sets, and of the validation pairs unless other sets were typed. Raises ConfigError when
    there are none."""
    evaluators = build_evaluators(config)
    groups = {key.split(".")[0] for key in typed_keys}
    if config["data"].get("validation") and not (evaluators and "zeroshot" in groups and "data" not in groups):
        evaluators += validation_evaluators(build(config["data"], "data"))
    if not evaluators:
        raise ConfigError("zeroshot: there is nothing to evaluate; choose a set, zeroshot=…")
    return evaluators


def evaluate_all(
    model: CLIP,
    objective: Objective | None,
    tokenizer: Tokenizer,
    evaluators: Sequence[Evaluator],
    config: dict[str, Any],
) -> list[EvaluationResult]:
    """The result of every evaluator, on one device and in the precision of training."""
    accelerator = config["trainer"]["accelerator"]
    device = one_device(accelerator)
    precision = choose_precision(config["trainer"]["precision"], device.type)
    model.to(device)
    on_device = objective.to(device) if objective else None
    score, features = score_of(on_device, model), features_of(on_device, model)
    write = write_of(on_device, model, tokenizer)

    def run(evaluator: Evaluator) -> EvaluationResult:
        within = in_precision(precision, device)
        return run_evaluator(
            evaluator,
            model,
            tokenizer,
            device,
            within,
            thorough=True,
            score=score,
            write=write,
            features=features,
        )

    return [run(evaluator) for evaluator in evaluators]
