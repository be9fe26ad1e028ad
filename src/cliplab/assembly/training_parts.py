"""The parts of a training run, built from its config: module, data, evaluation and callbacks."""

import functools
import pickle
from pathlib import Path
from typing import Any, NamedTuple

import lightning
import torch
from lightning.pytorch.callbacks import Callback

from cliplab.assembly.evaluators import build_evaluators, validation_evaluators, with_captions
from cliplab.assembly.trainer import module_class
from cliplab.assembly.training_checks import check_vocabulary, count_steps, fitting_schedule, is_first_rank
from cliplab.assembly.weights import load_weights
from cliplab.checkpoints.run_checkpoint import objective_state, standalone_config, without_definitions
from cliplab.checkpoints.weights import Weights
from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.reading import training_captions
from cliplab.evaluation.kind import VALIDATION
from cliplab.models.checkpointing import checkpoint_towers
from cliplab.models.compiling import compile_towers
from cliplab.objectives.objective import Corpus, Objective
from cliplab.settings.build import build
from cliplab.settings.check_trainer import every_nth
from cliplab.settings.length import Length
from cliplab.signals import StopRequest
from cliplab.training.averaging import AverageWeights
from cliplab.training.callbacks import Evaluate, FollowMove, StopBetweenSteps, watch
from cliplab.training.module import TrainingModule
from cliplab.training.sharding import ShardedTrainingModule


class TrainingParts(NamedTuple):
    """What a trainer needs. ``evaluation`` is one of ``callbacks``, unless the config leaves it out."""

    module: TrainingModule
    datamodule: CaptionDataModule
    length: Length
    evaluation: Evaluate
    callbacks: list[Callback]


def seed_training(seed: int) -> None:
    """Seed this process and the workers of its data loaders."""
    lightning.seed_everything(seed, workers=True, verbose=False)


def last_checkpoint(run_dir: Path) -> Path:
    """The checkpoint from which a resumed run continues."""
    return run_dir / "checkpoints" / "last.ckpt"


def config_to_build(config: dict[str, Any], last: Path) -> dict[str, Any]:
    """The config from which parts are built. When the run has a checkpoint, weights and tokenizer come from it.

    Raises ValueError for a damaged checkpoint.
    """
    if not last.is_file():
        return config
    try:
        return standalone_config(config, torch.load(last, map_location="cpu", mmap=True, weights_only=True))
    except (RuntimeError, EOFError, OSError, LookupError, pickle.UnpicklingError) as error:
        raise ValueError(
            f"{last}: this checkpoint is damaged; put a whole one in its place, or remove it to start over"
        ) from error


def build_parts(config: dict[str, Any], weights: Weights | None, request: StopRequest) -> TrainingParts:
    """Build all parts. Raises ConfigError or ValueError for a part that cannot be built or is out of reach."""
    run_dir = Path(config["paths"]["run"])
    buildable = config_to_build(config, last_checkpoint(run_dir))
    tokenizer = build(buildable["tokenizer"], "tokenizer")  # before the data: it may be out of reach
    evaluators = build_evaluators(config)
    datamodule: CaptionDataModule = build(buildable["data"], "data", tokenizer=tokenizer)
    evaluators += validation_evaluators(datamodule)
    steps_per_epoch, length = count_steps(config, datamodule.steps_per_epoch, len(datamodule.train))
    steps = length.steps
    corpus = Corpus(functools.partial(training_captions, datamodule.train), tokenizer)
    module = build_module(config, buildable, corpus, weights, steps)
    evaluators = with_captions(evaluators, module.objective, sharded=isinstance(module, ShardedTrainingModule))
    watching = watch(config["trainer"].get("on_nan", "stop"), config["trainer"]["log_every_n_steps"])
    callbacks = [watching, FollowMove(), *build_callbacks(config, validation=datamodule.validation is not None)]
    stopping = [callback for callback in callbacks if isinstance(callback, StopBetweenSteps)]
    for callback in stopping:
        callback.prepare(request)
    evaluation = next((callback for callback in callbacks if isinstance(callback, Evaluate)), Evaluate())
    evaluation.prepare(
        check=watching.check,
        request=request if stopping else StopRequest(),  # without StopBetweenSteps nothing would end the step
        evaluators=evaluators,
        tokenizer=tokenizer,
        run_dir=run_dir,
        steps_per_epoch=steps_per_epoch,
        total_steps=steps,
    )
    one_pass = len(datamodule.train) if datamodule.sized else None
    short_run = evaluation.plan(trained=steps * datamodule.batch_size, one_pass=one_pass)
    if short_run and is_first_rank():
        print(short_run, flush=True)
    return TrainingParts(module, datamodule, length, evaluation, callbacks)


def build_module(
    config: dict[str, Any], buildable: dict[str, Any], corpus: Corpus, weights: Weights | None, steps: int
) -> TrainingModule:
    """The module of a run of so many steps. ``buildable`` is what ``config_to_build`` makes of ``config``. Its objective is
    prepared, with what it needs of the run's checkpoint where there is one, or else of the training captions."""
    tokenizer = corpus.tokenizer
    schedule = build(fitting_schedule(config["scheduler"], steps), "scheduler")
    seed_training(config["seed"])
    model = build(buildable["model"], "model")
    check_vocabulary(model.text_encoder, tokenizer)
    if weights is not None:
        load_weights(model, weights)
    checkpoint_towers(model, every_nth(config["trainer"].get("activation_checkpointing")))
    if config["compile"]:
        compile_towers(model)
    return assembled(
        config,
        model=model,
        objective=_prepared_objective(config, corpus),
        schedule=schedule,
        total_steps=steps,
        tokenizer_definition=getattr(tokenizer, "definition", None),
    )


def assembled(config: dict[str, Any], **parts: Any) -> TrainingModule:
    """The kind of module that the config asks for, of its ``parts`` and of the config's optimizer and locks."""
    return module_class(config)(
        optimizer=build(config["optimizer"], "optimizer"),
        config=without_definitions(config),
        locking=build(config["locking"], "locking"),
        chunks=config["trainer"].get("contrastive_accumulation", 1),
        **parts,
    )


def _prepared_objective(config: dict[str, Any], corpus: Corpus) -> Objective:
    objective: Objective = build(config["objective"], "objective")
    last = last_checkpoint(Path(config["paths"]["run"]))
    if last.is_file():
        saved = torch.load(last, map_location="cpu", mmap=True, weights_only=True)
        objective.adopt(objective_state(saved["state_dict"]))
    objective.prepare(corpus)
    return objective


def build_callbacks(config: dict[str, Any], *, validation: bool) -> list[Callback]:
    """The callbacks of the config. Without validation pairs, ``best`` is left out if it monitors one of their metrics."""
    nodes = {key: node for key, node in config["callbacks"].items() if node}
    if not validation and str(nodes.get("best", {}).get("monitor")).startswith(f"{VALIDATION}/"):
        nodes.pop("best")
    callbacks = [build(node, f"callbacks.{key}") for key, node in nodes.items()]
    return sorted(
        callbacks, key=lambda callback: not isinstance(callback, AverageWeights)
    )  # evaluations need its update
