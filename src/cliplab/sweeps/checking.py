"""Check what the jobs of a sweep are given, one value after the other, before the first job begins."""

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cliplab.program import key_of
from cliplab.runs.sweep_file import read_sweep_file
from cliplab.settings.check_job import check_job
from cliplab.settings.check_metric import check_metric
from cliplab.settings.config import ConfigError
from cliplab.sweeps.drawing import Known, combinations
from cliplab.sweeps.plan import Plan, PlanError
from cliplab.sweeps.space import Choices, Parameter

ONLY_SHOWN = ("sweep.target", "sweep.notes")  # on the sweep's page
OF_THE_COMMAND = ("hydra", "sweep", "sweep_name", "launcher")  # no job reads them
LISTS = ("grid", "seeds")  # methods that run every combination
MOST_STEPS = 16  # of a range with steps, beyond which its ends stand for it
EFFORT, OF_COMPOSING = 30, 5  # for further combinations of a grid, where a check is 1: some two seconds together

Values = Mapping[str, str]


class JobConfigs:
    """The configs of jobs. Composing takes a quarter of a second, so it is done once for each choice of groups, and values
    are set in a copy."""

    def __init__(self, plan: Plan, config: Any, loader: Any) -> None:
        self.space, self.config, self.loader = plan.space, config, loader
        typed: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        self.further = [word for word in plan.space.fixed if word not in typed]
        self.kept: dict[tuple[tuple[str, str], ...], Any] = {}

    def is_group(self, key: str) -> bool:
        return "/" in key or key.lstrip("+") in self.config.hydra.runtime.choices

    def groups(self, values: Values) -> tuple[tuple[str, str], ...]:
        return tuple((key, value) for key, value in values.items() if self.is_group(key))

    def of(self, values: Values) -> Any:
        """The config of the job with these values. Raises what Hydra raises."""
        groups = self.groups(values)
        words = [f"{key}={value}" for key, value in values.items() if (key, value) not in groups]
        try:
            if groups not in self.kept:
                self.kept[groups] = self._composed(dict(groups))
            found = copy.deepcopy(self.kept[groups])
            for override in OverridesParser.create().parse_overrides(words):
                key: Any = override.key_or_group
                if override.is_add() and OmegaConf.select(found, key, throw_on_missing=False) is not None:
                    return self._composed(values)  # raises
                added = override.is_add() or override.is_force_add()
                OmegaConf.update(found, key, override.value(), merge=True, force_add=added)
            return found
        except (HydraException, OmegaConfBaseException):
            return self._composed(values)  # what it raises is told with the word that was typed

    def _composed(self, values: Values) -> Any:
        if not (values or self.further):
            return self.config
        return self.loader.load_sweep_config(self.config, self.space.overrides(values))


class JobChecks:
    """``problem`` is what is wrong with the job that gets these values."""

    def __init__(self, plan: Plan, configs: JobConfigs, elsewhere: bool) -> None:
        sources = configs.config.hydra.runtime.config_sources
        self.config_dir = next((Path(source.path) for source in sources if source.provider == "main"), None)
        self.folder, self.configs, self.elsewhere = plan.folder / "0", configs, elsewhere
        self.known: dict[tuple[tuple[str, str], ...], str] = {}

    def problem(self, values: Values) -> str:
        """ "" for a job that can begin. Other exceptions than a ConfigError are told by the job itself."""
        place = tuple(values.items())
        if place not in self.known:
            self.known[place] = self._problem(values)
        return self.known[place]

    def _problem(self, values: Values) -> str:
        config = self.configs.of(values)
        OmegaConf.set_struct(config, False)
        for key in OF_THE_COMMAND:
            config.pop(key, None)
        if OmegaConf.is_missing(config.paths, "run"):
            config.paths.run = str(self.folder)
        try:
            if self.config_dir is not None:
                check_job(config, self.config_dir, sweeping=False, elsewhere=self.elsewhere)
        except ConfigError as error:
            return str(error)
        except Exception:
            pass
        return ""


def check_jobs(plan: Plan, config: Any, loader: Any, known: Known, *, elsewhere: bool) -> None:
    """Raises PlanError with the override of a job that cannot begin, or when no job logs a metric of the sweep, and what
    Hydra raises for a job that cannot be composed. ``elsewhere`` are jobs on other machines than this one."""
    space, configs = plan.space, JobConfigs(plan, config, loader)
    first, last = ({p.key: end(p) for p in space.parameters if not p.conditions} for end in (_first, _last))
    singles = [*_singles(plan, configs, first, known)]
    composed = [configs.of(first), *(configs.of(values) for values in _of_groups(plan, configs, first, known))]
    _check_no_own_sweep(plan, composed, config)
    for metric in plan.metrics:
        errors = [_not_logged(metric, cfg) for cfg in composed]
        if all(errors):
            raise PlanError(str(errors[0]))
    begun = read_sweep_file(plan.folder).get("swept")
    if begun is not None and all(begun.get(p.key) == p.written for p in space.parameters):
        return  # it goes on: its jobs tell
    checks = JobChecks(plan, configs, elsewhere)
    wrong = checks.problem(first)
    others = checks.problem(last) if wrong or plan.facts["method"] not in LISTS else ""
    if wrong and (others or plan.facts["method"] in LISTS):
        raise PlanError(wrong if wrong == others else _told(first, wrong))
    for varied in singles:
        bases = (first,) if plan.facts["method"] in LISTS else (first, last)
        problems = [checks.problem({**base, **varied}) for base in bases]
        if all(problems):
            raise PlanError(_told(varied, problems[0]))
    if plan.facts["method"] in LISTS:
        _check_combinations(plan, checks, known)


def _check_combinations(plan: Plan, checks: JobChecks, known: Known) -> None:
    """Of a grid, as many as can be checked in a moment."""
    effort = EFFORT
    for values in combinations(plan.space, known):
        effort -= 1 if checks.configs.groups(values) in checks.configs.kept else OF_COMPOSING
        if effort < 0:
            return
        wrong = checks.problem(values)
        if wrong:
            raise PlanError(f"{_overrides(values)}: {wrong}")


def _told(varied: Values, wrong: str) -> str:
    """The message, with the job's overrides where it does not begin with one of their keys."""
    if any(wrong.startswith(f"{key.lstrip('+')}: ") for key in varied):
        return wrong
    return f"{_overrides(varied)}: {wrong}"


def _overrides(values: Values) -> str:
    return " ".join(f"{key}={value}" for key, value in values.items())


def _singles(plan: Plan, configs: JobConfigs, first: Values, known: Known) -> Iterator[Values]:
    """Each value of each parameter, with what its conditions need, to be put in the place of those of ``first``. Values come
    before choices of groups, which take longer."""
    for parameter in sorted(plan.space.parameters, key=lambda p: configs.is_group(p.key)):
        for value in _tested(parameter):
            varied = {**_needed(plan, parameter), parameter.key: value}
            if _possible(plan, {**first, **varied}, known):
                yield varied


def _of_groups(plan: Plan, configs: JobConfigs, first: Values, known: Known) -> Iterator[Values]:
    for varied in _singles(plan, configs, first, known):
        if any(map(configs.is_group, varied)):
            yield {**first, **varied}


def _needed(plan: Plan, parameter: Parameter) -> dict[str, str]:
    return {key: wanted[0] for key, wanted in parameter.conditions if key in plan.space.keys}


def _possible(plan: Plan, values: Values, known: Known) -> bool:
    return all(plan.space.active(p, values, known) for p in plan.space.parameters if p.key in values)


def _first(parameter: Parameter) -> str:
    return _tested(parameter)[0]


def _last(parameter: Parameter) -> str:
    return _tested(parameter)[-1]


def _tested(parameter: Parameter) -> tuple[str, ...]:
    """The values that stand for all of a parameter: its choices, or the ends of a range."""
    domain = parameter.domain
    if isinstance(domain, Choices):
        return domain.values
    if domain.step is not None and (domain.high - domain.low) / domain.step < MOST_STEPS:
        return parameter.listed()
    return domain.text(domain.low), domain.text(domain.high)


def _check_no_own_sweep(plan: Plan, composed: Iterable[Any], config: Any) -> None:
    """Raises PlanError when a choice of the jobs, such as one of several experiments, sets how the sweep itself goes: it
    comes too late for that."""
    typed = [key_of(word) for word in plan.facts["typed"]]
    for cfg, node in itertools.product(composed, ("sweep", "launcher")):
        own, of_job = (OmegaConf.to_container(one[node], resolve=False) for one in (config, cfg))
        assert isinstance(own, dict)
        assert isinstance(of_job, dict)
        for key in {**own, **of_job}:
            name = f"{node}.{key}"
            is_typed = any(word in (node, name, key) or word.startswith(f"{name}.") for word in typed)
            if name in ONLY_SHOWN or is_typed or own.get(key) == of_job.get(key):
                continue
            raise PlanError(
                f"{name}: a choice that only some jobs make sets it, which comes too late for the sweep they belong to; "
                "type it beside -m, or run each choice in a sweep of its own"
            )


def _not_logged(metric: str, cfg: Any) -> ConfigError | None:
    try:
        config: Any = {key: OmegaConf.to_container(cfg[key], resolve=True) for key in ("task", "data", "zeroshot")}
    except Exception:  # the job itself tells it
        return None
    try:
        check_metric(metric, config, "sweep.metric")
    except ConfigError as error:
        return error
    return None
