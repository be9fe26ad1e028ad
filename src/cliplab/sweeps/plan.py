"""A sweep as it was asked for: where it lies, what it varies, how it chooses and compares jobs."""

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hydra.errors import HydraException

from cliplab.program import command_line, hydra_quoted, hydra_unquoted, key_of
from cliplab.reporting.sweep.jobs import Metric
from cliplab.runs.outcome import holds_run, job_folders
from cliplab.runs.sweep_file import read_sweep_file, write_sweep_file
from cliplab.settings.config import did_you_mean
from cliplab.sweeps.space import Space, read_space

OF_THE_SWEEP = ("sweep.", "sweep_name", "launcher", "space")  # typed keys that no job needs
SETTINGS = (
    "metric",
    "direction",
    "trials",
    "seed",
    "space",
    "storage",
    "study",
    "retry_failed",
    "fail_on_error",
    "method",
    "target",
    "notes",
)


class PlanError(HydraException):
    """A sweep that cannot be begun or gone on with, told in one line."""


@dataclass(frozen=True)
class Plan:
    """``facts`` are those of sweep.yaml. ``settings`` is the ``sweep`` node of the config."""

    folder: Path
    space: Space
    settings: Mapping[str, Any]
    facts: Mapping[str, Any]

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.facts["metric"])

    def write(self, jobs: int) -> None:
        """Write sweep.yaml. The address of a database may hold a password, and stays out of it."""
        storage = "a database" if "://" in str(self.facts["storage"]) else self.facts["storage"]
        write_sweep_file(self.folder, {**self.facts, "storage": storage, "jobs": jobs})


def make_plan(
    folder: Path,
    typed: Sequence[str],
    hydra_typed: Sequence[str],
    flags: Sequence[str],
    settings: Mapping[str, Any],
    choices: Mapping[str, str],
    optimized: str,
    loader: Any,
) -> Plan:
    """Read what was typed and what lies in the folder. Jobs say in their manifests how they did by the first metric, which
    ``optimized`` is unless another was asked for. Raises PlanError when the folder is another sweep's, and SpaceError."""
    _check_choices(settings, choices)
    own = [word for word in typed if not key_of(word).startswith(OF_THE_SWEEP)]
    method = choices.get("sweep", "grid")
    space = read_space(own, _space_of_files(own, settings, choices, loader), loader)
    metrics = _listed(settings["metric"])
    if not all(metrics) or not metrics:
        raise PlanError(
            f"sweep.metric: {settings['metric']} names nothing that jobs could be compared by; name a logged metric, as "
            "sweep.metric=val/recall@1"
        )
    if metrics[0] != optimized:
        kept = [w for w in space.fixed if key_of(w) != "optimized_metric"]
        space = replace(space, fixed=(*kept, f"optimized_metric={hydra_quoted(metrics[0])}"))
    there = read_sweep_file(folder)
    facts = {
        "command": command_line("-m", *typed),
        "typed": [*typed, *hydra_typed],
        "flags": list(flags),
        "fixed": list(space.fixed),
        "swept": {p.key: p.written for p in space.parameters},
        "method": method,
        "how": method if method == "grid" else f"{method}, {settings['trials']} jobs",
        "seed": there.get("seed", settings["seed"] if settings["seed"] is not None else secrets.randbits(32)),
        "metric": metrics,
        "direction": directions(metrics, settings["direction"]),
        "target": settings["target"],
        "notes": list(settings["notes"] or ()),
        "storage": settings["storage"],
        "study": settings["study"],
        "id": there.get("id", secrets.token_hex(8)),
        "started": there.get("started", datetime.now(UTC).isoformat(timespec="seconds")),
    }
    _check_same(folder, there, facts)
    return Plan(folder, space, settings, facts)


def _check_choices(settings: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """Raises PlanError for a file of sweep/ that sets values in the wrong place, and for a launcher that is not asked."""
    for key in settings:
        if key not in SETTINGS:
            raise PlanError(
                f"sweep.{key}: no such setting of a sweep; a file of sweep/ begins with # @package _global_, and under "
                f"sweep: may stand {', '.join(SETTINGS)}"
            )
    launcher = choices.get("hydra/launcher", "basic")
    if launcher != "basic":
        raise PlanError(
            f"hydra/launcher: {launcher} is not asked to run jobs here; choose launcher=basic, joblib or slurm"
        )


def _listed(value: Any) -> list[str]:
    return ["" if one is None else str(one) for one in (value if isinstance(value, list) else [value])]


def _space_of_files(own: Sequence[str], settings: Mapping[str, Any], choices: Mapping[str, str], loader: Any) -> Any:
    """``sweep.space``. The default one is for a search in which nothing else is varied."""
    files = settings["space"] or {}
    if choices.get("space", "default") != "default":
        return files
    grid = choices.get("sweep", "grid") in ("grid", "seeds")
    return {} if grid or read_space(own, {}, loader).parameters else files


def directions(metrics: Sequence[str], asked: Any) -> list[str]:
    """One for each metric: what was asked for, or else by its name. Raises PlanError."""
    if asked is None:
        return ["maximize" if Metric.named(metric).maximise else "minimize" for metric in metrics]
    ways = [str(one) for one in asked] if isinstance(asked, list) else [str(asked)] * len(metrics)
    if len(ways) != len(metrics):
        raise PlanError(
            f"sweep.direction: there are {len(metrics)} metrics and {len(ways)} directions; give one for each"
        )
    wrong = next((way for way in ways if way not in ("maximize", "minimize")), None)
    if wrong is not None:
        raise PlanError(
            f"sweep.direction: {wrong!r} is neither maximize nor minimize"
            f"{did_you_mean(wrong, ('maximize', 'minimize'))}"
        )
    return ways


def _check_same(folder: Path, there: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """A sweep goes on with the same command. A grid may get more values; jobs that are there stay."""
    if not there:
        if any(holds_run(job) for job in job_folders(folder)):
            raise PlanError(f"hydra.sweep.dir: {folder} holds the runs of another multirun; name a new folder")
        return
    lists = now["method"] == there.get("method") in ("grid", "seeds")
    before, after = _identity(there, lists), _identity(now, lists)
    gone, new = [w for w in before if w not in after], [w for w in after if w not in before]
    if gone or new:
        told = ", ".join([*(f"without {w}" for w in new), *(f"with {w}" for w in gone)])
        raise PlanError(
            f"sweep_name: {folder} holds the runs of another multirun, {told}; name another one, or go on with it: "
            f"{command_line(f'resume={hydra_quoted(folder)}')}"
        )


def _identity(facts: Mapping[str, Any], lists: bool) -> list[str]:
    """Words that must be the same when a sweep goes on."""
    swept = facts.get("swept") or {}
    varied = [key if lists else f"{key}={swept[key]}" for key in swept]
    words = [f"sweep={facts.get('method')}", *(w for w in facts.get("fixed") or () if key_of(w) != "sweep"), *varied]
    return sorted(map(hydra_unquoted, words))


def known_value(config: Any, choices: Mapping[str, str]) -> Callable[[str], str | None]:
    """The value of a key that is not varied, or the choice of a group, as text."""
    from omegaconf import OmegaConf

    def value(key: str) -> str | None:
        if key in choices:
            return str(choices[key])
        found = OmegaConf.select(config, key, default=None, throw_on_missing=False) if "/" not in key else None
        return None if found is None or OmegaConf.is_config(found) else str(found)

    return value
