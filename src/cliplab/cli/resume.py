"""``resume=<run>``: continue a run from its saved config, in its own folder.

An override that is typed beside it takes effect or is refused: values that the numbers of the run depend on stay.
"""

import re
import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from cliplab.checkpoints.earlier import current
from cliplab.cli import places
from cliplab.cli.arguments import Arguments, UsageError
from cliplab.cli.further import AUTO, LENGTH, about_length, check_longer, further, lengthens, newest_unfinished
from cliplab.cli.grammar import value_of
from cliplab.cli.job import is_further_rank
from cliplab.files import read_yaml
from cliplab.program import command_line, hydra_quoted, hydra_unquoted, key_of, shell_quoted
from cliplab.runs.outcome import read_manifest
from cliplab.runs.selection import run_to_resume
from cliplab.runs.status import at_work
from cliplab.runs.sweep_file import SWEEP, read_sweep_file
from cliplab.settings.config import ConfigError
from cliplab.settings.length import too_short
from cliplab.text import one_line

ABSENT = object()
# Where and how long a run goes on, and what it writes. Everything else stays as it was when the run began.
MAY_CHANGE = (
    *(f"trainer.{name}" for name in ("max_epochs", "max_steps", "max_time", "log_every_n_steps", "on_nan", "enable_*")),
    *(f"trainer.{name}" for name in ("accelerator", "devices", "num_nodes", "strategy*", "precision", "profiler*")),
    *(
        "trainer.activation_checkpointing",
        "trainer.contrastive_accumulation",
        "objective*.block_size",
        "trainer.deterministic",
        "trainer.benchmark",
        "compile",
        "optimized_metric",
    ),
    *("data.num_workers", "data.path", "data.train.path", "data.validation.path", "data.train.sources.*.path"),
    *("data.allow_changed_data", "data.max_bad_fraction", "data.train.cache_images", "data.validation.cache_images"),
    *("zeroshot.*.dataset.path", "zeroshot.*.train.path"),
    *("callbacks.evaluation.*", "callbacks.checkpoint.every_n_*", "callbacks.log_steps*", "callbacks.progress*"),
    *("tags", "note", "logger.*", "hydra.verbose", "hydra.job.name", "hydra.output_subdir"),
)
MAY_CHANGE_IN_SHORT = (
    "trainer.max_epochs, trainer.devices, data.num_workers, data.path, callbacks.evaluation.*, logger.*"
)
OF_A_SWEEP = ("launcher", "launcher.*", "sweep.trials", "sweep.retry_failed", "sweep.fail_on_error")
WEIGHT_KEYS = ("ckpt", "run", "pretrained", "pretrained_tower")


def resumed(arguments: Arguments) -> Arguments:
    """The arguments with which Hydra composes the saved config of the run. Exits with 0 when the run is finished. Raises
    UsageError when there is no run, or when an override beside ``resume=`` is refused."""
    run, overrides = _named_run(arguments)
    if (run / SWEEP).is_file():
        return _sweep(arguments, run, overrides)
    place = hydra_quoted(run)
    fixed = [f"hydra.run.dir={place}", "hydra.output_subdir=null", "hydra/job_logging=none", f"paths.run={place}"]
    resuming = arguments.replaced([*fixed, f"resume={place}", *overrides], config_path=str(run), config_name="composed")
    if is_further_rank():  # the first rank has checked everything
        return resuming
    config = _read(run / "config.yaml")
    pid = at_work(read_manifest(run))
    if pid and not arguments.shows_only:
        raise UsageError(f"resume: process {pid} is at work on {run}; wait for its end, or stop it with kill {pid}")
    started = (run / "checkpoints" / "last.ckpt").is_file()
    changed = [o for o in overrides if _changes(o, config)]
    ended = read_manifest(run).get("status") == "finished"
    longer = lengthens(run, changed)
    now = further(run, config, changed) if longer else None
    had_enough = check_longer(run, now, changed) if ended and now else ""
    finished = ended and (bool(had_enough) or not longer)
    may_change = MAY_CHANGE
    if "data.allow_changed_data=true" in (o.lower() for o in overrides):
        may_change += ("data.*",)  # the user allows other data, or another order
    for override in changed:
        if not (had_enough and key_of(override) in LENGTH):
            _check(override, run, config, may_change, keeps_all=finished, started=started or ended)
    if finished and not arguments.shows_only:
        print(f"{had_enough or f'{run} is finished; nothing to do'}\n{run}")
        sys.exit(0)
    if not ended and now and now.done and now.length.steps < now.done:
        raise UsageError(f"{now.length.first.key}: {too_short(now.length, now.done)}")
    if (run / "composed.yaml").is_file():
        _update_names(run / "composed.yaml")
    else:
        _compose_again(run, config)
    if not arguments.shows_only:
        before = Path(config["paths"]["run"])
        if before != run:
            print(f"this run was made in {before}; it goes on in {run}")
        if ended and now:
            print(about_length(now, config))
        if not started:
            print(f"there is no checkpoint in {run} yet: the run starts over")
    return resuming


def _named_run(arguments: Arguments) -> tuple[Path, list[str]]:
    """The folder of the run, and the other overrides."""
    targets = [hydra_unquoted(value_of(o)) for o in arguments.overrides if o.startswith("resume=")]
    others = [o for o in arguments.overrides if not o.startswith("resume=")]
    several = [*targets, *(t for t in targets if re.fullmatch(r"\[.*\]|.*[^,],[^,].*", t) and not Path(t).exists())]
    if len(several) > 1:
        raise UsageError(f"resume: {' and '.join(targets)}: only one run can be resumed at a time")
    for flag in ("multirun", "config_path", "config_name", "config_dir"):
        if arguments.flags.get(flag):
            raise UsageError(
                f"resume: a run is resumed alone, from its saved config; leave out --{flag.replace('_', '-')}"
            )
    (target,) = targets
    if target == AUTO:
        logs = [hydra_unquoted(value_of(o)) for o in others if key_of(o) == "paths.logs"]
        others = [o for o in others if key_of(o) != "paths.logs"]
        target = str(newest_unfinished(Path(logs[-1]).expanduser() if logs else None))
    if not target:
        raise UsageError("resume: the folder is missing; resume=logs/train/<experiment>/<run>")
    try:
        return run_to_resume("resume", target), others
    except ConfigError as error:
        raise UsageError(str(error)) from error


def _sweep(arguments: Arguments, folder: Path, rest: list[str]) -> Arguments:
    """The arguments that began a sweep, in its folder. Raises UsageError for what would make it another one."""
    facts = read_sweep_file(folder)
    typed, flags = facts.get("typed"), facts.get("flags") or []
    if not isinstance(typed, list):
        raise UsageError(f"resume: {folder / SWEEP} is no file of a sweep; put the right one back")
    for override in rest:
        key = key_of(override)
        if not (key in OF_A_SWEEP or key.startswith(("launcher.", "hydra."))):
            raise UsageError(
                f"{override}: a sweep goes on with its own settings; beside resume= can change {', '.join(OF_A_SWEEP)}"
            )
    typed = [str(o) for o in typed if key_of(str(o)) not in map(key_of, rest)]
    own = {
        str(flag).lstrip("-").partition("=")[0].replace("-", "_"): str(flag).partition("=")[2] or True for flag in flags
    }
    place = f"hydra.sweep.dir={hydra_quoted(folder)}"
    return arguments.replaced([*typed, *rest, place], multirun=True, **own)


def _read(file: Path) -> Any:
    """Read the config of a run, with the names of this version. Raises UsageError when the file is not a config."""
    try:
        config = read_yaml(file)
        assert isinstance(config["paths"]["run"], str)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AssertionError) as error:
        raise UsageError(f"resume: {file} is not the config of a run; restore it: {one_line(error)}") from error
    return current(config)


def _value(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name, ABSENT) if isinstance(config, Mapping) else ABSENT
    return config


def _changes(override: str, config: Mapping[str, Any]) -> bool:
    """Whether an override changes a value of the run. An override that Hydra cannot read does not: Hydra reports it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    held = _value(config, key_of(override))
    if parsed.is_delete():
        return held is not ABSENT
    return bool(held is ABSENT or parsed.is_sweep_override() or parsed.value() != held)


def _check(
    override: str,
    run: Path,
    config: Mapping[str, Any],
    may_change: tuple[str, ...],
    *,
    keeps_all: bool,
    started: bool,
) -> None:
    """Raises UsageError, with the reason and an alternative, for an override that cannot change in this run."""
    key = key_of(override)
    held = _value(config, key)
    resume = shell_quoted(f"resume={hydra_quoted(run)}")
    if (places.config_dir() / key).is_dir():
        if key == "task":
            line = command_line(override, f"run={hydra_quoted(run)}")
            raise UsageError(f"{override}: resume= continues the task of the run; for another task: {line}")
        raise UsageError(
            f"{override}: only values such as trainer.devices=2 can change beside resume=, not a whole group"
        )
    if key.startswith(("hydra.run", "hydra.sweep", "paths.")) or key == "name":
        raise UsageError(
            f"{override}: a run is resumed in its own folder, under its own name; copy the folder, then {resume}"
        )
    if held is ABSENT and not override.startswith(("+", "~")) and not key.startswith("hydra."):
        return  # Hydra reports the unknown key
    if keeps_all:
        raise UsageError(f"{override}: {run} is finished, so nothing in it can change; {_new_run(override, run, key)}")
    if not started or any(fnmatchcase(key, pattern) for pattern in may_change):
        return
    if key in WEIGHT_KEYS:
        raise UsageError(f"{override}: the run is resumed from its own last checkpoint; {_new_run(override, run, key)}")
    kept = "" if held is ABSENT else f"it stays {held!r} for the whole run, since the numbers depend on it; "
    short = (
        f"{MAY_CHANGE_IN_SHORT}, with data.allow_changed_data=true also data.*"
        if key.startswith("data.")
        else MAY_CHANGE_IN_SHORT
    )
    raise UsageError(f"{override}: {kept}beside resume=, you can change {short}; {_new_run(override, run, key)}")


def _new_run(override: str, run: Path, key: str) -> str:
    """The command of a new run with the change. It starts from the weights of this run, if they fit."""
    typed = _typed(run)
    weights = f"run={hydra_quoted(run)}"
    weights_fit = (
        not key.startswith(("model", "tokenizer", *WEIGHT_KEYS)) and (run / "checkpoints" / "last.ckpt").is_file()
    )
    kept = [o for o in typed if key_of(o) not in (key, *(WEIGHT_KEYS if weights_fit else ()))]
    line = command_line(*kept, *([weights] if weights_fit else []), override)
    return f"{'from its weights, a' if weights_fit else 'a'} new run: {line}"


def _typed(run: Path) -> list[str]:
    file = run / "overrides.yaml"
    typed = read_yaml(file) if file.is_file() else []
    return [str(o) for o in typed or () if key_of(str(o)) not in ("resume", "paths.run", "hydra.run.dir")]


def _update_names(file: Path) -> None:
    """Rewrite a config of an earlier version with the names of this version."""
    from cliplab.settings.config import save_yaml

    there = read_yaml(file)
    if current(there) != there:
        save_yaml(file, current(there))


def _compose_again(run: Path, config: Mapping[str, Any]) -> None:
    """Write composed.yaml for a run of an earlier version, which saved no references. They come from the current configs."""
    from hydra import compose, initialize_config_dir

    from cliplab.settings.config import save_yaml
    from cliplab.settings.interpolations import with_interpolations

    composed: Any = {}
    for overrides in (_typed(run), []):
        try:
            with initialize_config_dir(str(places.config_dir()), version_base="1.3"):
                composed = compose("config", overrides=overrides)
            break
        except Exception:  # keys may have been removed since
            continue
    save_yaml(run / "composed.yaml", with_interpolations(config, composed))
