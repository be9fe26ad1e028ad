"""Search with Optuna: each job is a trial of a study, which is kept in the sweep's folder or in a shared database."""

import json
import math
import os
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cliplab.files import whole_file
from cliplab.rules import Count
from cliplab.study import ADDRESS, TRIAL, open_storage, quiet_optuna
from cliplab.sweeps.drawing import Draw, Ended, Known, Method, Setting, check_not_empty
from cliplab.sweeps.space import Choices, Parameter, Space, SpaceError
from cliplab.text import one_line, shortened

SWEEP, JOB = "cliplab_sweep", "cliplab_job"  # attributes of a trial: the sweep that runs it, and the job's folder


class Search:
    """``trials`` jobs, chosen by ``sampler(seed=…)``.

    What is chosen depends on the seed, the number of the trial and the trials that have ended before, so that a search that
    was killed goes on as one that was not.
    """

    def __init__(self, trials: Count, sampler: Callable[..., Any]) -> None:
        self.trials, self.sampler = trials, sampler

    def __call__(self, setting: Setting) -> Method:
        check_not_empty(setting.space, "<a search>")
        return Trials(setting, self.trials, self.sampler)


class Trials:
    """The jobs of a search. Several commands may work on one study; each goes on with its own trials."""

    def __init__(self, setting: Setting, total: int, sampler: Callable[..., Any]) -> None:
        import optuna

        self.total, self.setting, self.sampler = total, setting, sampler
        self.storage, self.name = str(setting.study["storage"]), str(setting.study["name"])
        with quiet_optuna():
            self.study = optuna.create_study(
                storage=_opened(self.storage),
                study_name=self.name,
                directions=[optuna.study.StudyDirection[way.upper()] for way in setting.directions],
                load_if_exists=True,
            )
        _check_directions(self.study, setting.directions)
        self.ended = [trial for trial in self.study.get_trials(deepcopy=False) if self._ended_here(trial)]
        self.interrupted = [trial for trial in self._running() if self._is_own(trial)]

    def _running(self) -> list[Any]:
        from optuna.trial import TrialState

        return list(self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))

    def _is_own(self, trial: Any) -> bool:
        """Whether this sweep began the trial. One that was killed before it noted that is its own, where no other sweep
        uses the study."""
        alone = self.setting.study.get("shared") is None
        return bool(
            trial.user_attrs.get(SWEEP, self.setting.study["id"] if alone else None) == self.setting.study["id"]
        )

    def _ended_here(self, trial: Any) -> bool:
        """Whether it is over and its job's folder is there, for the lines of a sweep that goes on."""
        folder = trial.user_attrs.get(JOB)
        own = trial.state.is_finished() and trial.user_attrs.get(SWEEP) == self.setting.study["id"]
        return bool(own and folder and (self.setting.folder / folder).is_dir())

    def next(self) -> Draw | None:
        import optuna

        if self.ended:
            frozen = self.ended.pop(0)
            return Draw({key: str(value) for key, value in frozen.params.items()}, frozen.user_attrs[JOB], frozen)

        with quiet_optuna():
            if self.interrupted:
                frozen = self.interrupted.pop(0)
                self.study.sampler = self._seeded(frozen.number)
                return self._draw(optuna.trial.Trial(self.study, frozen._trial_id), frozen.user_attrs.get(JOB))
            made = len(self.study.get_trials(deepcopy=False))
            if made >= self.total:
                return None
            self.study.sampler = self._seeded(made)
            return self._draw(self.study.ask(), None)

    def _seeded(self, number: int) -> Any:
        return self.sampler(seed=random.Random(f"{self.setting.seed} {number}").getrandbits(31))

    def _draw(self, trial: Any, folder: str | None) -> Draw:
        try:
            values = suggested(trial, self.setting.space, self.setting.known)
        except ValueError as error:
            raise SpaceError(
                f"sweep.study: the study {self.name} was begun with other choices; take the same, or another "
                f"sweep_name= ({one_line(error)})"
            ) from error
        return Draw(values, folder, trial)

    def started(self, draw: Draw, folder: Path) -> None:
        trial: Any = draw.token
        trial.set_user_attr(SWEEP, self.setting.study["id"])
        trial.set_user_attr(JOB, folder.name)
        in_database = "://" in self.storage
        if in_database:
            os.environ[ADDRESS] = self.storage
        facts = {
            "storage": None if in_database else self.storage,
            "study": self.name,
            "trial": trial.number,
            "metric": self.setting.study["metric"],
        }
        with whole_file(folder / TRIAL) as file:
            json.dump(facts, file, indent=1)

    def tell(self, draw: Draw, ended: Ended) -> None:
        from optuna.trial import TrialState

        trial: Any = draw.token
        with quiet_optuna():
            if ended.status == "pruned":
                self.study.tell(trial.number, state=TrialState.PRUNED, skip_if_finished=True)
            elif ended.status == "finished" and ended.figures and all(map(math.isfinite, ended.figures)):
                self.study.tell(trial.number, list(ended.figures), skip_if_finished=True)
            else:
                self.study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


def _opened(storage: str) -> Any:
    """Raises SpaceError, which does not show the address: it may hold a password."""
    try:
        return open_storage(storage)
    except Exception as error:
        kind = storage.partition("://")[0] if "://" in storage else storage
        told = f"{type(error).__name__}: {shortened(one_line(error), 120)}"
        raise SpaceError(
            f"sweep.storage: {kind} cannot be used ({told}); give the path of a file, sqlite:///<file>, "
            "or the address of a database whose driver is installed"
        ) from error


def _check_directions(study: Any, wanted: tuple[str, ...]) -> None:
    found = tuple(direction.name.lower() for direction in study.directions)
    if found != wanted:
        raise SpaceError(
            f"sweep.direction: the study {study.study_name} was begun with {', '.join(found)}, and now it is "
            f"{', '.join(wanted)}; take the same metrics and directions, or another sweep_name="
        )


def suggested(trial: Any, space: Space, known: Known) -> Mapping[str, str]:
    """What the trial chooses, one parameter after the other."""
    values: dict[str, str] = {}
    for parameter in space.parameters:
        if space.active(parameter, values, known):
            values[parameter.key] = _suggest(trial, parameter)
    return values


def _suggest(trial: Any, parameter: Parameter) -> str:
    domain = parameter.domain
    if isinstance(domain, Choices):
        return str(trial.suggest_categorical(parameter.key, list(domain.values)))
    if domain.whole:
        step = int(domain.step or 1)
        return domain.text(
            trial.suggest_int(parameter.key, int(domain.low), int(domain.high), step=step, log=domain.log)
        )
    value = trial.suggest_float(parameter.key, domain.low, domain.high, step=domain.step, log=domain.log)
    return domain.text(float(f"{value:.12g}") if domain.step else value)
