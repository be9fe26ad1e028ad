"""A job of a search reports its evaluations to the study, and ends early where a pruner sees no hope for it."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from cliplab.study import ADDRESS, TRIAL, open_storage, quiet_optuna
from cliplab.training.callbacks.evaluate import Evaluate

PRUNED = "cliplab_pruned"  # attribute of a trial: the evaluation after which it was ended


class Prune(Callback):
    """After each evaluation, asks ``pruner`` whether the run goes on. The n-th evaluation is n units of resource.

    ``run_dir`` holds trial.json when a search runs the job. Elsewhere, as in a run that is repeated alone, nothing happens.
    ``pruned_at`` is the step at which the run was ended, None while it was not. A run that resumes asks again for what was
    not reported, and keeps to what was decided.
    """

    def __init__(self, run_dir: str, pruner: Any) -> None:
        self.file, self.pruner = Path(run_dir) / TRIAL, pruner
        self.trial: Any = None
        self.metric = ""
        self.pruned_at: int | None = None
        self.told = False

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero and self.file.is_file():
            facts = json.loads(self.file.read_text(encoding="utf8"))
            facts["storage"] = facts["storage"] or os.environ.get(ADDRESS)
            self.metric, self.trial = facts["metric"], self._trial(facts) if facts["storage"] else None
        if trainer.global_step:  # a kill may have come between an evaluation and its report
            self._ask(trainer)

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self._ask(trainer)

    def _trial(self, facts: dict[str, Any]) -> Any:
        """The trial of the study, or None when it is over: the run goes on by hand."""
        import optuna

        with quiet_optuna():
            storage = open_storage(facts["storage"])
            study = optuna.load_study(study_name=facts["study"], storage=storage, pruner=self.pruner)
            frozen = study.get_trials(deepcopy=False)[facts["trial"]]
            over = frozen.state.is_finished()
            return None if over else optuna.trial.Trial(study, frozen._trial_id)

    def _ask(self, trainer: Trainer) -> None:
        """Where an evaluation was made at this step, report it and do what the pruner says. Every rank must call it."""
        evaluation = next((c for c in trainer.callbacks if isinstance(c, Evaluate)), None)  # type: ignore[attr-defined]
        step = trainer.global_step
        if evaluation is None or evaluation.latest.step != step or evaluation.latest.metrics is None:
            return
        hopeless = self._hopeless(evaluation.latest.metrics, -(-step // evaluation.interval)) if self.trial else False
        if trainer.strategy.reduce_boolean_decision(hopeless, all=False) and step != evaluation.total_steps:
            self.pruned_at, trainer.should_stop = step, True
            if trainer.is_global_zero:
                print(f"step {step:,}: the search sees no hope for this job and ends it (pruned)", flush=True)

    def _hopeless(self, metrics: dict[str, float], evaluation: int) -> bool:
        value = metrics.get(self.metric)
        if value is None:
            if not self.told:
                print(f"sweep.metric: {self.metric} is not evaluated while training; no job is pruned", file=sys.stderr)
            self.told = True
            return False
        with quiet_optuna():
            frozen = self.trial._get_latest_trial()
            if evaluation in frozen.intermediate_values:
                return bool(frozen.user_attrs.get(PRUNED) == evaluation)
            self.trial.report(value, evaluation)
            if not self.trial.should_prune():
                return False
            self.trial.set_user_attr(PRUNED, evaluation)
            return True


def how_it_ended(callbacks: Iterable[Any]) -> dict[str, Any]:
    """The status of a run that came to an end, and at which step a search ended it."""
    for callback in callbacks:
        if isinstance(callback, Prune) and callback.pruned_at is not None:
            return {"status": "pruned", "pruned_at": callback.pruned_at}
    return {"status": "finished"}
