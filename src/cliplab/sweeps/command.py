"""``-m``: from Hydra's config of a sweep to its conductor."""

import copy
import functools
import itertools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import OmegaConf, open_dict

from cliplab.program import key_of
from cliplab.runs.outcome import record_end
from cliplab.settings.build import build
from cliplab.settings.check_job import check_job
from cliplab.settings.check_metric import check_metric
from cliplab.settings.check_targets import check_sources
from cliplab.settings.config import ConfigError, origins
from cliplab.sweeps.conductor import Conductor
from cliplab.sweeps.display import show
from cliplab.sweeps.drawing import Method, Setting
from cliplab.sweeps.jobs import Job
from cliplab.sweeps.launchers.launcher import Here, Launcher, several_ranks
from cliplab.sweeps.launchers.process import LOCK, locked
from cliplab.sweeps.plan import Plan, PlanError, known_value, make_plan
from cliplab.sweeps.space import Choices, Numbers, Parameter
from cliplab.text import one_line

JOURNAL = "study.journal"
ONLY_SHOWN = ("sweep.target", "sweep.notes")  # on the sweep's page


def run_sweep(typed: Sequence[str], config: Any, context: HydraContext, task: TaskFunction) -> None:
    """Run or go on with the sweep in ``hydra.sweep.dir``. Raises before anything is written when it cannot be begun."""
    setup_globals()
    loader = context.config_loader
    node = _nodes(config)
    check_sources(node, dict.fromkeys(node), origins(config))
    asked: Any = OmegaConf.to_container(config.hydra.overrides.hydra)
    hydra_typed = [word for word in asked if not word.startswith(("hydra.mode=", "hydra.sweep.dir="))]
    choices: Any = OmegaConf.to_container(config.hydra.runtime.choices)
    flags = [word for word in sys.argv[1:] if word.startswith("--") and word != "--multirun"]
    folder = Path(config.hydra.sweep.dir).resolve()
    optimized = str(OmegaConf.select(config, "optimized_metric", throw_on_missing=False))
    plan = make_plan(folder, typed, hydra_typed, flags, node["sweep"], choices, optimized, loader)
    if len(plan.metrics) > 1 and OmegaConf.select(config, "callbacks.prune", throw_on_missing=False):
        raise PlanError("sweep.metric: jobs are pruned by one metric; name one, or do not prune: sweep=tpe")
    pruner = OmegaConf.select(config, "callbacks.prune.pruner", throw_on_missing=False)
    if pruner is not None:  # every job would fail with a wrong one
        build(OmegaConf.to_container(pruner, resolve=True), "callbacks.prune.pruner")
    known = known_value(config, choices)
    check_composes(plan, config, loader, known)
    launcher: Launcher = build(node["launcher"], "launcher")
    make: Callable[[Setting], Method] = build(node["sweep"]["method"], "sweep.method")
    folder.mkdir(parents=True, exist_ok=True)
    lock = locked(folder)
    if lock is None:
        raise PlanError(f"sweep_name: another command is at work on {folder}; wait for its end, or name another sweep")
    try:
        method = make(_setting(plan, known))
        plan.write(method.total)
        compose = _composer(config, loader)
        here = Here(folder, _in_this_process(compose, context, task), lambda job: _ranks(job, compose))
        launcher.prepare(here)
        told = _note_on_repeats(plan, method.total)
        if told:
            print(told, flush=True)
        with show(plan, method.total, launcher.slots) as display:
            Conductor(plan, method, launcher, display, hydra_typed, flags).conduct()
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        lock.close()


def _note_on_repeats(plan: Plan, jobs: int) -> str:
    """A sentence when there are fewer combinations than jobs: a repeated one gives the same result again."""
    if plan.facts["method"] in ("grid", "seeds"):
        return ""
    domains = [p.domain for p in plan.space.parameters]
    if any(isinstance(one, Numbers) and one.step is None for one in domains):
        return ""
    number = math.prod(len(p.listed()) for p in plan.space.parameters)
    if number >= jobs:
        return ""
    return (
        f"sweep.trials: {jobs} jobs, and no more than {number} combinations, each of which gives the same result again; "
        "sweep=grid runs each once, seed=1,2,3 beside it repeats them with other seeds"
    )


def _nodes(config: Any) -> dict[str, Any]:
    """``sweep`` and ``launcher`` as plain values."""
    return {key: OmegaConf.to_container(config[key], resolve=True) for key in ("sweep", "launcher")}


def _setting(plan: Plan, known: Callable[[str], str | None]) -> Setting:
    facts = plan.facts
    study = {
        "storage": facts["storage"] or str(plan.folder / JOURNAL),
        "name": facts["study"] or plan.folder.name,
        "shared": facts["storage"],
        "id": facts["id"],
        "metric": plan.metrics[0],
    }
    return Setting(plan.space, plan.folder, facts["seed"], tuple(facts["direction"]), known, study)


def _composer(config: Any, loader: Any) -> Callable[[Job], Any]:
    """Composes the config of a job. The last one is kept: a launcher asks for it before it runs the job."""

    @functools.lru_cache(maxsize=1)
    def kept(overrides: tuple[str, ...]) -> Any:
        return loader.load_sweep_config(config, list(overrides))

    return lambda job: copy.deepcopy(kept(job.overrides))


def _in_this_process(compose: Callable[[Job], Any], context: HydraContext, task: TaskFunction) -> Callable[[Job], None]:
    def run(job: Job) -> None:
        try:
            cfg = compose(job)
            with open_dict(cfg):
                cfg.hydra.sweep.dir, cfg.hydra.sweep.subdir = str(job.folder.parent), job.name
                cfg.hydra.job.id = cfg.hydra.job.num = int(job.name) if job.name.isdigit() else 0
            done = run_job(
                hydra_context=context,
                task_function=task,
                config=cfg,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
            _ = done.return_value
        except Exception as error:
            record_end(job.folder, "failed", job.overrides, error=f"config error: {one_line(error)}")

    return run


def _ranks(job: Job, compose: Callable[[Job], Any]) -> int:
    """How many processes the job's own config asks for."""
    try:
        cfg = compose(job)
    except Exception:  # the job itself tells it
        return several_ranks({})
    trainer: Any = OmegaConf.to_container(cfg.trainer, resolve=True) if "trainer" in cfg else {}
    return several_ranks({"trainer": trainer})


def check_composes(plan: Plan, config: Any, loader: Any, known: Callable[[str], str | None]) -> None:
    """Compose the config once for each choice that could be wrong, the other parameters at their first value, so that it is
    told before any job begins. Raises what Hydra raises, and ConfigError when none of these logs a metric of the sweep."""
    space = plan.space
    first = {p.key: _first(p) for p in space.parameters if not p.conditions}
    samples = [first]
    for parameter in space.parameters:
        needed = {key: wanted[0] for key, wanted in parameter.conditions if key in space.keys}
        is_group = "/" in parameter.key or parameter.key.lstrip("+") in config.hydra.runtime.choices
        chosen = parameter.listed() if is_group else [_first(parameter)]
        samples += [{**first, **needed, parameter.key: value} for value in chosen if is_group or parameter.conditions]
    composed = [
        loader.load_sweep_config(config, space.overrides(values))
        for values in samples
        if all(space.active(p, values, known) for p in space.parameters if p.key in values)
    ]
    last = {p.key: _last(p) for p in space.parameters if not p.conditions}
    _check_no_own_sweep(plan, composed, config)
    _check_one(plan, [*composed, loader.load_sweep_config(config, space.overrides(last))], config)
    for metric in plan.metrics:
        errors = [_not_logged(metric, cfg) for cfg in composed]
        if errors and all(errors):
            raise PlanError(str(errors[0]))


def _check_no_own_sweep(plan: Plan, composed: Sequence[Any], config: Any) -> None:
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


def _check_one(plan: Plan, composed: Sequence[Any], config: Any) -> None:
    """Raises PlanError when none of these could be run: its mistake is that of all jobs. Others are found in their turn."""
    sources = config.hydra.runtime.config_sources
    config_dir = next((Path(source.path) for source in sources if source.provider == "main"), None)
    first: ConfigError | None = None
    for cfg in map(copy.deepcopy, composed if config_dir else ()):
        OmegaConf.set_struct(cfg, False)
        for key in ("hydra", "sweep", "sweep_name", "launcher"):  # no job reads them
            cfg.pop(key, None)
        if OmegaConf.is_missing(cfg.paths, "run"):
            cfg.paths.run = str(plan.folder / "0")
        try:
            check_job(cfg, config_dir, sweeping=False)  # type: ignore[arg-type]
        except ConfigError as error:
            first = first or error
            continue
        except Exception:  # the job itself tells it
            pass
        return
    if first is not None:
        raise PlanError(str(first)) from first


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


def _first(parameter: Parameter) -> str:
    domain = parameter.domain
    return domain.values[0] if isinstance(domain, Choices) else domain.text(domain.low)


def _last(parameter: Parameter) -> str:
    domain = parameter.domain
    return domain.values[-1] if isinstance(domain, Choices) else domain.text(domain.high)
