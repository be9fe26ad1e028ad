"""A training run from its config to its report: parts, trainer, manifest, results."""

import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import lightning
import torch
from hydra.core.hydra_config import HydraConfig
from lightning.pytorch.callbacks import ProgressBar as LightningBar
from omegaconf import OmegaConf
from rich.console import Console
from rich.tree import Tree

from cliplab.assembly.device import choose_precision
from cliplab.assembly.evaluators import announce, build_evaluators, credits_of, validation_evaluators
from cliplab.assembly.process import quiet
from cliplab.assembly.tracking import tracked
from cliplab.assembly.training import (
    check_device,
    check_parts,
    check_vocabulary,
    count_steps,
    fitting_schedule,
    is_first_rank,
)
from cliplab.assembly.weights import load_weights, with_weights
from cliplab.checkpoints.run_checkpoint import self_contained, without_definitions
from cliplab.checkpoints.weights import Weights
from cliplab.data.datamodule import CaptionDataModule
from cliplab.evaluation.kinds.retrieval import VALIDATION
from cliplab.evaluation.running import named_metrics
from cliplab.models.fingerprint import model_fingerprint
from cliplab.program import command_line, hydra_quoted
from cliplab.reporting.html import write_report
from cliplab.reporting.results import write_result
from cliplab.runs import manifest as manifests
from cliplab.runs.folder import run_of, save_config
from cliplab.runs.status import status_after
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError, did_you_mean, for_lightning
from cliplab.settings.job import Job, Outcome
from cliplab.settings.model_source import KEYS, model_source
from cliplab.signals import StopRequest, listening
from cliplab.training.callbacks import Evaluate, FollowMove, NotFiniteError, StopBetweenSteps, WatchWeights, watch
from cliplab.training.callbacks.pruning import how_it_ended
from cliplab.training.checkpoint_io import AtomicCheckpointIO
from cliplab.training.module import TrainingModule
from cliplab.training.trackers import trackers_of


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


def build_trainer(
    config: dict[str, Any], callbacks: Any, loggers: Any, root: Path, module: TrainingModule
) -> lightning.Trainer:
    """The trainer stops by steps, which a resumed run counts right, whereas Lightning's epochs may be off by one. Ranks do
    not wait for gradients of what the objective leaves unread."""
    settings = {**for_lightning(config["trainer"]), "max_epochs": -1, "max_steps": module.total_steps}
    if settings["strategy"] == "ddp" and module.leaves_parameters_unread:
        settings["strategy"] = "ddp_find_unused_parameters_true"
    settings["precision"] = choose_precision(settings["precision"], settings["accelerator"])
    plugins = [AtomicCheckpointIO(), *(settings.pop("plugins", None) or [])]
    settings["enable_progress_bar"] = any(isinstance(c, LightningBar) for c in callbacks or ())  # else it adds its own
    return build(settings, "trainer", callbacks=callbacks, logger=loggers, plugins=plugins, default_root_dir=str(root))


@contextmanager
def relaunched_by_config(run_dir: Path) -> Iterator[None]:
    """Further ranks are started by Lightning with this command's arguments: let them read this run's own config, so that
    they train the same job in the same folder whatever was typed (a sweep, a resume)."""
    typed, hydra_config = sys.argv, HydraConfig.get()
    sys.argv = [typed[0], f"resume={hydra_quoted(run_dir)}"]
    OmegaConf.set_readonly(hydra_config, False)  # type: ignore[arg-type]
    hydra_config.run.dir = str(run_dir)
    try:
        yield
    finally:
        sys.argv = typed


def _with_checkpoints_parts(config: dict[str, Any], last: Path) -> dict[str, Any]:
    """The config to build from: where there is a checkpoint already, it brings weights and tokenizer along."""
    if not last.is_file():
        return config
    try:
        return self_contained(config, torch.load(last, map_location="cpu", mmap=True, weights_only=True))
    except (RuntimeError, EOFError, OSError, LookupError, pickle.UnpicklingError) as error:
        raise ValueError(f"{last}: this is no whole checkpoint; put a good one in its place, or remove it") from error


def tell_start(weights: Weights) -> None:
    """Say that weights of a file begin a new run, and how the run that wrote them would go on instead."""
    if not is_first_rank():
        return
    run_dir = run_of(weights.source)
    instead = f"; to go on with that run instead: {command_line(f'resume={hydra_quoted(run_dir)}')}" if run_dir else ""
    print(f"a new run, which begins with the weights of {weights.source}{instead}", flush=True)


def check_steps_left(total_steps: int, last: Path) -> None:
    """Raises ConfigError when a run is to end before the step that its checkpoint has reached."""
    if not last.is_file():
        return
    done = torch.load(last, map_location="cpu", mmap=True, weights_only=True)["global_step"]
    if total_steps < done:
        raise ConfigError(
            f"trainer.max_epochs: the run would end at step {total_steps}, and its checkpoint is at step {done}; let it end "
            "later, or use the checkpoint as it is"
        )


def build_parts(
    config: dict[str, Any], weights: Weights | None, request: StopRequest
) -> tuple[TrainingModule, CaptionDataModule, Evaluate, list[Any]]:
    """Module, data module, the evaluation callback and all callbacks; what cannot be reached stops the run here."""
    parts = _with_checkpoints_parts(config, Path(config["paths"]["run"]) / "checkpoints" / "last.ckpt")
    tokenizer = build(parts["tokenizer"], "tokenizer")  # before data is read: it may be unreachable
    evaluators = build_evaluators(config)
    datamodule: CaptionDataModule = build(parts["data"], "data", tokenizer=tokenizer)
    evaluators += validation_evaluators(datamodule)
    steps_per_epoch, steps = count_steps(config, datamodule.steps_per_epoch)
    schedule = build(fitting_schedule(config["scheduler"], steps), "scheduler")
    set_seed(config["seed"])
    model = build(parts["model"], "model")
    check_vocabulary(model.text_encoder, tokenizer)
    if weights is not None:
        load_weights(model, weights)
    if config["compile"]:
        model.image_encoder.compile()
        model.text_encoder.compile()
    module = TrainingModule(
        model=model,
        objective=build(config["objective"], "objective"),
        optimizer=build(config["optimizer"], "optimizer"),
        schedule=schedule,
        total_steps=steps,
        config=without_definitions(config),
        locking=build(config["locking"], "locking"),
        tokenizer_definition=getattr(tokenizer, "definition", None),
    )
    nodes = {key: node for key, node in config["callbacks"].items() if node}
    if datamodule.validation is None and str(nodes.get("best", {}).get("monitor")).startswith(f"{VALIDATION}/"):
        nodes.pop("best")
    callbacks = [build(node, f"callbacks.{key}") for key, node in nodes.items()]
    watching = watch(config["trainer"].get("on_nan", "stop"), config["trainer"]["log_every_n_steps"])
    callbacks[:0] = [watching, FollowMove()]
    stopping = [c for c in callbacks if isinstance(c, StopBetweenSteps)]
    for callback in stopping:
        callback.prepare(request)
    evaluation = next((c for c in callbacks if isinstance(c, Evaluate)), Evaluate())
    evaluation.prepare(
        check=watching.check,
        request=request if stopping else StopRequest(),  # nobody would end the step
        evaluators=evaluators,
        tokenizer=tokenizer,
        run_dir=Path(config["paths"]["run"]),
        steps_per_epoch=steps_per_epoch,
        total_steps=steps,
    )
    short = evaluation.plan(
        trained=steps * datamodule.batch_size, one_pass=len(datamodule.train) if datamodule.sized else None
    )
    if short and is_first_rank():
        print(short, flush=True)
    return module, datamodule, evaluation, callbacks


def train(job: Job) -> Outcome:
    """Train, then write results and report into the run folder. Returns the report and the metric a sweep maximises."""
    config, run_dir = job.config, job.run_dir
    quiet()
    check_device(config["trainer"])
    last = run_dir / "checkpoints" / "last.ckpt"
    weights = None
    named = any(config[key] for key in KEYS)
    if named and not last.is_file():  # a resumed run has all it needs
        config, weights = with_weights(job.composed, job.typed, model_source(config))
        tell_start(weights)
    check_parts(config)
    with listening() as request:
        if is_first_rank():
            save_config(config, job)
        manifest = manifests.Manifest(run_dir, config, job.typed, write=is_first_rank())
        manifest.start()
        try:
            if is_first_rank():
                print_config(config)
                sys.stdout.flush()  # a log shows at once that the run has begun
            return _train(config, manifest, weights, request)
        except BaseException as error:
            way = command_line(f"resume={hydra_quoted(run_dir)}")
            asked = request.number and not isinstance(error, NotFiniteError)  # the signal may have ended a helper first
            if asked or isinstance(error, KeyboardInterrupt | SystemExit):
                manifest.finish(status_after(request.status))
                if is_first_rank():
                    print(f"{status_after(request.status)}; go on with: {way}", file=sys.stderr)
                raise SystemExit(request.status) from None
            at = {"step": error.step} if isinstance(error, NotFiniteError) else {}
            with suppress(OSError):  # the disk may be full
                manifest.finish("failed", error=f"{type(error).__name__}: {error}"[:500], **at)
            if last.is_file() and is_first_rank():
                print(f"stopped by an error; when it is mended, go on with: {way}", file=sys.stderr)
            raise


def _train(
    config: dict[str, Any], manifest: manifests.Manifest, weights: Weights | None, request: StopRequest
) -> Outcome:
    """Build everything, train, and finish. Raises KeyboardInterrupt or SystemExit at a signal."""
    run_dir = Path(config["paths"]["run"])
    last = run_dir / "checkpoints" / "last.ckpt"
    set_seed(config["seed"])
    module, datamodule, evaluation, callbacks = build_parts(config, weights, request)
    check_steps_left(module.total_steps, last)
    manifest.start(
        data={
            "source": config["data"].get("path") or config["name"],
            "fingerprint": datamodule.fingerprint,
            "samples": len(datamodule.train),
            "steps": module.total_steps,
        },
        parameters=sum(p.numel() for p in module.model.parameters()),
        credits=credits_of(evaluation.evaluators),
    )
    with tracked(config, module.model) as loggers:
        trainer = build_trainer(config, callbacks, loggers, run_dir, module=module)
        with relaunched_by_config(run_dir):
            try:
                trainer.fit(
                    module, datamodule=datamodule, ckpt_path=str(last) if last.is_file() else None, weights_only=True
                )
            finally:  # whether it finishes, fails or is interrupted
                manifest.facts |= next((c.facts() for c in callbacks if isinstance(c, WatchWeights)), {})
        if trainer.interrupted:
            raise KeyboardInterrupt
        trainer.save_checkpoint(last)
        outcome = _finish(config, run_dir, manifest, trainer, module, evaluation, datamodule)
        if outcome.path is not None:
            for tracker in trackers_of(loggers):
                tracker.attach(outcome.path)
        return outcome


def _finish(
    config: dict[str, Any],
    run_dir: Path,
    manifest: manifests.Manifest,
    trainer: lightning.Trainer,
    module: TrainingModule,
    evaluation: Evaluate,
    datamodule: CaptionDataModule,
) -> Outcome:
    """Results, manifest and report of the last weights."""
    evaluation.finish(trainer, module)
    named = [(e, e.kind.stem(e.name)) for e in evaluation.evaluators]
    results = [(e, evaluation.results[name]) for e, name in named if name in evaluation.results]  # a trial has no probe
    counts = datamodule.all_counts()
    final = {key: float(value) for key, value in trainer.callback_metrics.items() if key != "step"}
    for _, result in results:
        final |= named_metrics(result)
    value = final.get(config["optimized_metric"])
    if not trainer.is_global_zero:
        return Outcome(None, value)
    identity = model_fingerprint(module.model, datamodule.tokenizer, datamodule.eval_transform)
    for evaluator, result in results:
        write_result(run_dir, result, evaluator.images.dataset, config["name"], "last", identity)
    manifest.finish(
        **how_it_ended(trainer.callbacks),  # type: ignore[attr-defined]
        final=final,
        optimized_metric={"name": config["optimized_metric"], "value": value},
        bad_samples=dict(counts.bad),
        first_bad_samples=counts.first_bad,
        truncated_texts=counts.truncated,
    )
    asked = HydraConfig.get()
    wanted = str(asked.mode).endswith("MULTIRUN") or any(
        o.startswith("optimized_metric=") for o in asked.overrides.task
    )
    if value is None and wanted:
        hint = did_you_mean(config["optimized_metric"], final)
        print(f"optimized_metric: {config['optimized_metric']} was not logged{hint}", file=sys.stderr)
    announce([result for _, result in results])
    return Outcome(write_report(run_dir), value)
