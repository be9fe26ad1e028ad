"""Evaluation during training: call the evaluators and record their results."""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from cliplab.evaluation.evaluator import Evaluator
from cliplab.evaluation.result import EvaluationResult
from cliplab.evaluation.running import EvaluationStopped, named_metrics, run_evaluator
from cliplab.files import whole_file
from cliplab.models.tokens import Tokenizer
from cliplab.objectives.objective import features_of, score_of
from cliplab.objectives.writing import write_of
from cliplab.rules import Count, Natural, Positive
from cliplab.signals import StopRequest
from cliplab.training.averaging import weights_to_evaluate
from cliplab.training.callbacks.progress import ProgressLines
from cliplab.training.loggers import CSVLogger
from cliplab.training.module import TrainingModule
from cliplab.training.panel import PredictionPanel, log_reference_lines
from cliplab.training.trackers import trackers_of
from cliplab.training.trial import Parts, describe, in_small_batches, plan_parts, sizes_of


class Latest(NamedTuple):
    """The step of the latest evaluation that was due, its metrics by logged name (None until it is made), and the latest
    step at which callbacks learned that an epoch ended."""

    step: int = -1
    metrics: dict[str, float] | None = None
    epoch_end: int = -1


DECADES = 2  # factors of ten of images seen in which evaluations are evenly spaced


@functools.cache
def log_spaced(total_steps: int, per_decade: int) -> frozenset[int]:
    """The steps at even distances of the logarithm, ``per_decade`` of them for a factor of ten, back from the last step."""
    return frozenset(max(1, round(total_steps * 10 ** (-k / per_decade))) for k in range(DECADES * per_decade + 1))


class Evaluate(Callback):
    """Runs the evaluators before training and after every ``every_n_epochs`` epochs (or ``every_n_steps`` steps), or at even
    distances of the logarithm of images seen: ``per_decade`` times in each of the last ``DECADES`` factors of ten.

    Logs ``zeroshot/<set>/<metric>`` (``val/<metric>`` for the validation pairs), which other callbacks may monitor, and
    appends one line per evaluation to ``zeroshot/history.jsonl``. ``results`` holds the latest, by the stem of its files.
    The evaluation of the last step is thorough; ``evaluated_step`` is the step of the latest thorough one. ``panel_images``
    of the first set whose kind has a panel are drawn with the answers each time; 0 draws none.

    A run that is short compared with its evaluations is a trial. Its evaluations take a part of each set, so that together
    they see at most ``trial_share`` of the images that are trained on (see ``plan_parts``). None always takes whole sets.

    A signal ends an evaluation before its next batch, and nothing of it is kept. A checkpoint says whether the evaluation
    of its step was made. A run that resumes from it makes a missing one first.
    """

    def __init__(
        self,
        every_n_epochs: Count = 1,
        every_n_steps: Count | None = None,
        before_training: bool = True,
        panel_images: Natural = 16,
        trial_share: Positive | None = 0.5,
        per_decade: Count | None = None,
    ) -> None:
        self.every_n_epochs, self.every_n_steps, self.before_training = every_n_epochs, every_n_steps, before_training
        self.panel_images, self.trial_share, self.per_decade = panel_images, trial_share, per_decade
        self.parts = Parts()
        self.evaluators: Sequence[Evaluator] = ()
        self.results: dict[str, EvaluationResult] = {}
        self.evaluated_step = -1
        self.request = StopRequest()
        self.latest = Latest()

    def prepare(
        self,
        *,
        evaluators: Sequence[Evaluator],
        tokenizer: Tokenizer,
        run_dir: Path,
        steps_per_epoch: int,
        total_steps: int,
        check: Callable[[Trainer], None] = lambda trainer: None,
        request: StopRequest | None = None,
    ) -> None:
        """Called by the task. ``check`` runs before each evaluation and may raise. ``request`` records signals."""
        self.check, self.request = check, request or self.request
        self.evaluators, self.tokenizer = evaluators, tokenizer
        self.history = run_dir / "zeroshot" / "history.jsonl"
        self.panel = PredictionPanel(run_dir, self.panel_images)
        self.steps_per_epoch, self.total_steps = steps_per_epoch, total_steps

    def plan(self, *, trained: int, one_pass: int | None) -> str:
        """Decide on parts for a run over ``trained`` images. Returns a sentence for the screen, empty for whole sets."""
        sizes = sizes_of(self.evaluators)
        self.parts = plan_parts(sizes, trained=trained, one_pass=one_pass, share=self.trial_share)
        return describe(self.parts, self.evaluators, trained)

    @property
    def interval(self) -> int:
        """Steps from one evaluation to the next."""
        return self.every_n_steps or self.every_n_epochs * self.steps_per_epoch

    def _due(self, step: int) -> bool:
        if self.per_decade is not None:
            return step in log_spaced(self.total_steps, self.per_decade)
        return step % self.interval == 0 or step == self.total_steps

    def on_train_start(self, trainer: Trainer, pl_module: TrainingModule) -> None:  # type: ignore[override]
        step = trainer.global_step
        if trainer.is_global_zero:
            # Forget evaluations after the step where training continues, and all of them when it starts over.
            self._keep_history(lambda earlier: 0 < step >= earlier)
            for table in [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]:
                table.rewind(step)
                for tracker in trackers_of(trainer.loggers):
                    tracker.catch_up(table.rows)
        if self.before_training and step == 0:
            self._evaluate_between_steps(trainer, pl_module, thorough=False)
        elif step > 0:
            self._catch_up(trainer, pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: TrainingModule, *_: Any) -> None:  # type: ignore[override]
        """Evaluate in the last step of an epoch, so that the checkpoint of that step knows of the evaluation."""
        step = trainer.global_step
        if not self._due(step):
            return
        self.latest = self.latest._replace(step=step, metrics=None)
        metrics = self.evaluate(trainer, pl_module, thorough=step == self.total_steps)
        if metrics is not None:  # otherwise StopBetweenSteps ends the run in this step
            self.latest = self.latest._replace(metrics=metrics)
            pl_module.log_dict(metrics, logger=False, rank_zero_only=True)
            if step % self.steps_per_epoch:  # at the end of the epoch the weights are others than those evaluated
                self._let_act(metrics, trainer, pl_module, (ModelCheckpoint,))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TrainingModule) -> None:  # type: ignore[override]
        self.latest = self.latest._replace(epoch_end=trainer.global_step)

    def state_dict(self) -> dict[str, Any]:
        return self.latest._asdict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.latest = Latest(**state_dict)

    def finish(self, trainer: Trainer, module: TrainingModule) -> None:
        """After the last step, make the thorough evaluation unless it was made. Raises KeyboardInterrupt at a signal."""
        if self.evaluated_step != trainer.global_step:
            self.latest = self.latest._replace(step=trainer.global_step, metrics=None)
            self._catch_up(trainer, module, thorough=True)

    def _catch_up(self, trainer: Trainer, module: TrainingModule, *, thorough: bool = False) -> None:
        """After a resume, give callbacks the figures that they monitor. If the checkpoint was written before the evaluation
        of its step, evaluate now, and let best.ckpt and early stopping see the result at the end of an epoch."""
        step = trainer.global_step
        if step == self.latest.step and self.latest.metrics is None:
            metrics = self._evaluate_between_steps(trainer, module, thorough=thorough or step == self.total_steps)
            self.latest = self.latest._replace(metrics=metrics)
        at_end, seen_end = step % self.steps_per_epoch == 0, step == self.latest.epoch_end
        self._let_act(
            self.latest.metrics or {},
            trainer,
            module,
            (EarlyStopping, ModelCheckpoint) if at_end and not seen_end else (ModelCheckpoint,),
        )
        if at_end and any(isinstance(c, EarlyStopping) and c.wait_count >= c.patience for c in trainer.callbacks):  # type: ignore[attr-defined]
            trainer.should_stop = True  # checkpoints do not store this

    def _let_act(
        self, metrics: dict[str, float], trainer: Trainer, module: TrainingModule, kinds: tuple[type[Callback], ...]
    ) -> None:
        """Let callbacks of these kinds act now, as at the end of an epoch, where they monitor one of the metrics."""
        trainer.callback_metrics.update({key: torch.tensor(value) for key, value in metrics.items()})
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, kinds) and callback.monitor in metrics:  # type: ignore[attr-defined]
                callback.on_train_epoch_end(trainer, module)

    def _evaluate_between_steps(self, trainer: Trainer, module: TrainingModule, *, thorough: bool) -> dict[str, float]:
        """An evaluation between steps, where a signal may end the run at once. Raises KeyboardInterrupt at a signal."""
        metrics = self.evaluate(trainer, module, thorough=thorough)
        if metrics is None:
            raise KeyboardInterrupt
        return metrics

    def _stopped(self, trainer: Trainer) -> bool:
        """Whether any rank has received a signal. Every rank must call it."""
        return trainer.strategy.reduce_boolean_decision(bool(self.request.number), all=False)

    def evaluate(self, trainer: Trainer, module: TrainingModule, *, thorough: bool) -> dict[str, float] | None:
        """Run every evaluator, and write history and loggers. Returns the metrics by logged name; None after a signal."""
        self.check(trainer)
        try:
            with self.request.gently():
                return self._run_evaluators(trainer, module, thorough=thorough)
        except EvaluationStopped:
            return None

    def _run_evaluators(self, trainer: Trainer, module: TrainingModule, *, thorough: bool) -> dict[str, float]:
        metrics: dict[str, float] = {}
        lines = []
        step = trainer.global_step
        parts = (self.parts.before if step == 0 else self.parts.during) or {}
        whole = thorough and not parts
        modules, found = weights_to_evaluate(trainer, module), list[EvaluationResult]()
        for evaluator in self.evaluators:
            if evaluator.final_only and not whole:
                continue
            most = parts.get(evaluator.kind.stem(evaluator.name))
            for suffix, one in modules.items():
                result = self._run_evaluator(evaluator, trainer, one, thorough=whole, most=most)
                found.append(replace(result, name=evaluator.name + suffix))
        for result in found:
            self.results[result.stem] = result
            if isinstance(trainer.progress_bar_callback, ProgressLines):
                trainer.progress_bar_callback.evaluated(result, step)
            metrics |= named_metrics(result)
            lines.append(
                {
                    "set": result.name,
                    "task": result.kind.task,
                    "epoch": -(-step // self.steps_per_epoch),
                    "step": step,
                    "samples_seen": step * trainer.datamodule.batch_size,  # type: ignore[attr-defined]
                    "subset": result.details["subset"],
                    "metrics": result.metrics,
                    "protocol_hash": result.protocol_hash,
                    "seconds": result.seconds,
                }
            )
        if thorough:
            self.evaluated_step = step
        if trainer.is_global_zero and lines:
            self._keep_history(lambda earlier: earlier != step)
            self.history.parent.mkdir(parents=True, exist_ok=True)
            with self.history.open("a") as file:
                file.writelines(json.dumps(line) + "\n" for line in lines)
            for logger in trainer.loggers:
                logger.log_metrics(metrics, step=step)
            self._show(trainer.loggers, module.config["name"], step)
        return metrics

    def _run_evaluator(
        self, evaluator: Evaluator, trainer: Trainer, module: TrainingModule, *, thorough: bool, most: int | None
    ) -> EvaluationResult:
        training = module.model.training
        module.objective.eval()
        with in_small_batches(evaluator.images, most):
            result = run_evaluator(
                evaluator,
                module.model,
                self.tokenizer,
                trainer.strategy.root_device,
                trainer.precision_plugin.forward_context(),
                thorough=thorough,
                most=most,
                stopped=functools.partial(self._stopped, trainer),
                score=score_of(module.objective, module.model),
                write=write_of(module.objective, module.model, self.tokenizer),
                features=features_of(module.objective, module.model),
            )
        module.train(training)  # frozen parts stay in eval mode
        return result

    def _show(self, loggers: Sequence[Any], model: str, step: int) -> None:
        """Show the panel of the first set whose kind has one, and the reference lines."""
        latest = [(e.images.dataset, self.results.get(e.kind.stem(e.name))) for e in self.evaluators]
        drawn = [(dataset, result) for dataset, result in latest if result and result.kind.panel and result.samples]
        if drawn and self.panel_images:
            self.panel.show(*drawn[0], loggers, step)
        log_reference_lines(loggers, [result for _, result in latest if result], model, step)

    def _keep_history(self, keep: Callable[[int], bool]) -> None:
        """Remove the evaluations of the steps for which ``keep`` returns False."""
        if self.history.is_file():
            lines = self.history.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and keep(json.loads(line)["step"])]
            if kept != lines:  # a kill may have cut the last line
                with whole_file(self.history) as file:
                    file.write("".join(kept))
