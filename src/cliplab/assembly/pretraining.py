"""A training run, from its config to its report."""

import logging
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.tree import Tree

from cliplab.assembly.evaluators import credits_of
from cliplab.assembly.process import quiet
from cliplab.assembly.tracking import tracked
from cliplab.assembly.trainer import build_trainer, relaunch_from_folder
from cliplab.assembly.training_checks import check_device, check_parts, check_steps_left, is_first_rank
from cliplab.assembly.training_parts import build_parts, last_checkpoint, seed_training
from cliplab.assembly.training_results import write_results
from cliplab.assembly.weights import with_weights
from cliplab.checkpoints.weights import Weights
from cliplab.long_calls import attended
from cliplab.program import command_line, hydra_quoted
from cliplab.runs.folder import run_of, save_config
from cliplab.runs.manifest import Manifest
from cliplab.runs.status import status_after
from cliplab.settings.job import Job, Outcome
from cliplab.settings.length import note_on_limits
from cliplab.settings.model_source import KEYS, model_source
from cliplab.signals import StopRequest, listening
from cliplab.training.callbacks import NotFiniteError, WatchFirstBatch, WatchLearning, WatchWeights
from cliplab.training.trackers import trackers_of


def print_config(config: dict[str, Any], file: Path) -> None:
    """Print the resolved config as a tree, on a terminal or with hydra.verbose=true; else where it is."""
    if not (sys.stdout.isatty() or logging.getLogger().isEnabledFor(logging.DEBUG)):
        print(f"config: {file}")
        return

    def grow(tree: Tree, node: dict[str, Any]) -> None:
        for key, value in node.items():
            if isinstance(value, dict) and value:
                grow(tree.add(f"[bold]{key}"), value)
            else:
                tree.add(f"{key}: [cyan]{value}")

    tree = Tree(f"[bold]{config['name']}")
    grow(tree, config)
    Console().print(tree)


def announce_weights(weights: Weights) -> None:
    """Say that a new run begins with these weights, and how to resume the run that wrote them instead."""
    run_dir = run_of(weights.source)
    instead = f"; to go on with that run instead: {command_line(f'resume={hydra_quoted(run_dir)}')}" if run_dir else ""
    print(f"a new run, which begins with the weights of {weights.source}{instead}", flush=True)


def train(job: Job) -> Outcome:
    """Train, then write results and report into the run folder. Returns the report and the metric that a sweep maximises."""
    config, run_dir = job.config, job.run_dir
    quiet()
    check_device(config["trainer"])
    weights = None
    names_model = any(config[key] for key in KEYS)
    if names_model and not last_checkpoint(run_dir).is_file():  # a resumed run has its weights in its checkpoint
        config, weights = with_weights(job.composed, job.typed, model_source(config))
        if is_first_rank():
            announce_weights(weights)
    check_parts(config)
    with listening() as request:
        if is_first_rank():
            save_config(config, job)
        manifest = Manifest(run_dir, config, job.typed, write=is_first_rank())
        manifest.start()
        try:
            with attended(*_long_step(manifest, run_dir)):
                if is_first_rank():
                    print_config(config, run_dir / "config.yaml")
                    sys.stdout.flush()  # a log shows at once that the run has begun
                return _fit(config, job.typed_keys, manifest, weights, request)
        except BaseException as error:
            _record_end(error, request, manifest, run_dir)
            raise


def _fit(
    config: dict[str, Any], typed: Sequence[str], manifest: Manifest, weights: Weights | None, request: StopRequest
) -> Outcome:
    """Build the parts, train, and write the results. Raises KeyboardInterrupt or SystemExit at a signal."""
    run_dir = Path(config["paths"]["run"])
    last = last_checkpoint(run_dir)
    seed_training(config["seed"])
    parts = build_parts(config, weights, request)
    module, datamodule = parts.module, parts.datamodule
    check_steps_left(parts.length, last)
    unheeded = "" if last.is_file() else note_on_limits(parts.length, typed)
    if unheeded and is_first_rank():
        print(unheeded, flush=True)
    manifest.start(
        data={
            "source": config["data"].get("path") or config["name"],
            "fingerprint": datamodule.fingerprint,
            "samples": len(datamodule.train),
            "steps": parts.length.steps,
            "steps_per_epoch": parts.evaluation.steps_per_epoch if datamodule.sized else None,
        },
        parameters=sum(p.numel() for p in module.model.parameters()),
        credits=credits_of(parts.evaluation.evaluators),
    )
    checkpoint = str(last) if last.is_file() else None
    with tracked(config, module.model) as loggers:
        trainer = build_trainer(config, parts.callbacks, loggers, run_dir, module)
        with relaunch_from_folder(run_dir):
            try:
                trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
            finally:  # also when it fails or is interrupted
                manifest.facts["step"] = trainer.global_step
                for callback in parts.callbacks:
                    if isinstance(callback, WatchWeights | WatchFirstBatch | WatchLearning):
                        manifest.facts |= callback.facts()
        if trainer.interrupted:
            raise KeyboardInterrupt
        trainer.save_checkpoint(last)
        outcome = write_results(config, manifest, trainer, parts)
        if outcome.path is not None:
            for tracker in trackers_of(loggers):
                tracker.attach(outcome.path)
        return outcome


def _long_step(manifest: Manifest, run_dir: Path) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """What is done when a step goes on after a signal, and when it goes on after a second one; see ``attended``. The
    manifest tells of the signal at once, since a scheduler may kill before the step has ended."""

    def say(text: str) -> None:
        if is_first_rank():
            print(text, file=sys.stderr, flush=True)

    def told(code: int) -> None:
        manifest.finish(status_after(code))
        say(
            f"{signal.Signals(code - 128).name}: the run ends after what it is doing now; a second signal ends it at once"
        )

    def ended(code: int) -> None:
        manifest.finish(status_after(code))
        say(f"{status_after(code)}; go on with: {command_line(f'resume={hydra_quoted(run_dir)}')}")

    return told, ended


def _record_end(error: BaseException, request: StopRequest, manifest: Manifest, run_dir: Path) -> None:
    """Record in the manifest why the run ended early, and print how to go on. Raises SystemExit after a signal."""
    resume = command_line(f"resume={hydra_quoted(run_dir)}")
    # A signal may have ended another process first, so that an error arrives here
    signalled = request.number and not isinstance(error, NotFiniteError)
    if signalled or isinstance(error, KeyboardInterrupt | SystemExit):
        status = status_after(request.status)
        manifest.finish(status)
        if is_first_rank():
            print(f"{status}; go on with: {resume}", file=sys.stderr)
        raise SystemExit(request.status) from None
    step = {"step": error.step} if isinstance(error, NotFiniteError) else {}
    with suppress(OSError):  # the disk may be full
        manifest.finish("failed", error=f"{type(error).__name__}: {error}"[:500], **step)
    if last_checkpoint(run_dir).is_file() and is_first_rank():
        print(f"stopped by an error; when it is fixed, go on with: {resume}", file=sys.stderr)
