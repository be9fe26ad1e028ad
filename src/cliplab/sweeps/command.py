"""``-m``: from Hydra's config of a sweep to its conductor."""

import copy
import functools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import OmegaConf, open_dict

from cliplab.runs.outcome import record_end
from cliplab.settings.build import build
from cliplab.settings.check_targets import check_sources
from cliplab.settings.config import origins
from cliplab.sweeps.checking import LISTS, check_jobs
from cliplab.sweeps.conductor import Conductor
from cliplab.sweeps.display import show
from cliplab.sweeps.drawing import Method, Setting
from cliplab.sweeps.jobs import Job
from cliplab.sweeps.launchers.launcher import Here, Launcher, several_ranks
from cliplab.sweeps.launchers.process import LOCK, holder, locked
from cliplab.sweeps.plan import Plan, PlanError, known_value, make_plan
from cliplab.sweeps.space import Numbers
from cliplab.text import one_line

JOURNAL = "study.journal"


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
    launcher: Launcher = build(node["launcher"], "launcher")
    make: Callable[[Setting], Method] = build(node["sweep"]["method"], "sweep.method")
    check_jobs(plan, config, loader, known, elsewhere=launcher.elsewhere)
    folder.mkdir(parents=True, exist_ok=True)
    lock = locked(folder)
    if lock is None:
        pid = holder(folder)
        raise PlanError(
            f"sweep_name: another command, process {pid}, is at work on {folder}; wait for its end, stop it with "
            f"kill {pid}, or name another sweep"
        )
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
    if plan.facts["method"] in LISTS:
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
