"""``resume=<run>``: a start from that run's own saved config, in that run's own folder.

What was typed beside it takes effect or is refused: a run keeps what its numbers hang on.
"""

import sys
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from cliplab.checkpoints.earlier import current
from cliplab.cli import places
from cliplab.cli.arguments import Arguments, UsageError
from cliplab.cli.further import AUTO, about_schedule, lengthens, newest_unfinished
from cliplab.cli.grammar import key_of, value_of
from cliplab.cli.job import is_further_rank
from cliplab.files import read_yaml
from cliplab.program import command_line, hydra_quoted, hydra_unquoted, shell_quoted
from cliplab.runs.outcome import read_manifest
from cliplab.runs.sweep_file import SWEEP, read_sweep_file

ABSENT = object()
# Where a run goes on, how long, and what is written meanwhile; everything else stays as it began
MAY_CHANGE = (
    *(f"trainer.{name}" for name in ("max_epochs", "max_steps", "max_time", "log_every_n_steps", "on_nan", "enable_*")),
    *(f"trainer.{name}" for name in ("accelerator", "devices", "num_nodes", "strategy*", "precision", "profiler*")),
    *("trainer.deterministic", "trainer.benchmark", "compile", "optimized_metric"),
    *("data.num_workers", "data.path", "data.train.path", "data.validation.path", "data.train.sources.*.path"),
    *("data.allow_changed_data", "data.max_bad_fraction", "data.train.cache_images", "data.validation.cache_images"),
    *("zeroshot.*.dataset.path", "zeroshot.*.train.path"),
    *("callbacks.evaluation.*", "callbacks.checkpoint.every_n_*", "callbacks.log_steps*", "callbacks.progress*"),
    *("tags", "note", "logger.*", "hydra.verbose", "hydra.job.name", "hydra.output_subdir"),
)
SHORT = "trainer.max_epochs, trainer.devices, data.num_workers, data.path, callbacks.evaluation.*, logger.*"
OF_A_SWEEP = ("launcher", "launcher.*", "sweep.trials", "sweep.retry_failed", "sweep.fail_on_error")
OWN_WEIGHTS = ("ckpt", "run", "pretrained", "pretrained_tower")


def resumed(arguments: Arguments) -> Arguments:
    """The arguments by which Hydra composes the run's own config. Exits with 0 when the run is finished. Raises UsageError
    when there is no run, or when something beside ``resume=`` would have no effect."""
    run, rest = _named(arguments)
    if (run / SWEEP).is_file():
        return _sweep(arguments, run, rest)
    place = hydra_quoted(run)
    own = [f"hydra.run.dir={place}", "hydra.output_subdir=null", "hydra/job_logging=none", f"paths.run={place}"]
    there = arguments.with_([*own, f"resume={place}", *rest], config_path=str(run), config_name="composed")
    if is_further_rank():  # the first one has looked at everything
        return there
    config = _read(run / "config.yaml")
    started = (run / "checkpoints" / "last.ckpt").is_file()
    changed = [o for o in rest if _changes(o, config)]
    ended = read_manifest(run).get("status") == "finished"
    finished = ended and not lengthens(changed)
    may_change = MAY_CHANGE
    if "data.allow_changed_data=true" in (o.lower() for o in rest):
        may_change += ("data.*",)  # other data, or the same in another order: asked for
    for override in changed:
        _check(override, run, config, may_change, keeps_all=finished, started=started or ended)
    if finished and not arguments.shows_only:
        print(f"{run} is finished; nothing to do\n{run}")
        sys.exit(0)
    if (run / "composed.yaml").is_file():
        _renew(run / "composed.yaml")
    else:
        _compose_again(run, config)
    if not arguments.shows_only:
        before = Path(config["paths"]["run"])
        if before != run:
            print(f"this run was made in {before}; it goes on in {run}")
        if ended and (words := about_schedule(run, config, changed)):
            print(words)
        if not started:
            print(f"there is no checkpoint in {run} yet: the run starts over")
    return there


def _named(arguments: Arguments) -> tuple[Path, list[str]]:
    """The run's folder, and what was typed beside it."""
    targets = [hydra_unquoted(value_of(o)) for o in arguments.overrides if o.startswith("resume=")]
    rest = [o for o in arguments.overrides if not o.startswith("resume=")]
    if len(targets) > 1:
        raise UsageError(f"resume: {' and '.join(targets)} are given; one run goes on at a time")
    for flag in ("multirun", "config_path", "config_name", "config_dir"):
        if arguments.flags.get(flag):
            raise UsageError(f"resume: a run goes on alone, from its own config; leave out --{flag.replace('_', '-')}")
    (target,) = targets
    if target == AUTO:
        target = str(newest_unfinished())
    if not target:
        raise UsageError("resume: no folder is named; resume=logs/train/<experiment>/<run>")
    path = Path(target).expanduser().resolve()
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.yaml").is_file() and (
            folder == path or path.suffix == ".ckpt" or path.name == "checkpoints"
        ):
            return folder, rest
    if (path / SWEEP).is_file():
        return path, rest
    where = "in that folder" if path.is_dir() else f"in {path}, which is no folder"
    fix = "name the folder of a run, as resume=logs/train/<experiment>/<run>"
    raise UsageError(f"resume={target}: there is no config.yaml {where}; {fix}")


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
    return arguments.with_([*typed, *rest, place], multirun=True, **own)


def _read(file: Path) -> Any:
    """A run's config in today's words. Raises UsageError when it is no YAML of a config."""
    try:
        config = read_yaml(file)
        assert isinstance(config["paths"]["run"], str)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AssertionError) as error:
        told = " ".join(str(error).split())
        raise UsageError(f"resume: {file} is no config of a run; put the right one back: {told}") from error
    return current(config)


def _value(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = config.get(name, ABSENT) if isinstance(config, Mapping) else ABSENT
    return config


def _changes(override: str, config: Mapping[str, Any]) -> bool:
    """Whether a value is typed that the run has otherwise. What Hydra cannot read counts as none: Hydra says so."""
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
    """Raises UsageError with the reason and the way on for what cannot change in this run."""
    key = key_of(override)
    held = _value(config, key)
    way = shell_quoted(f"resume={hydra_quoted(run)}")
    if (places.config_dir() / key).is_dir():
        if key == "task":
            line = command_line(override, f"run={hydra_quoted(run)}")
            raise UsageError(f"{override}: resume= goes on with the run's own task; for another one: {line}")
        raise UsageError(f"{override}: only values as trainer.devices=2 can change beside resume=, not a whole group")
    if key.startswith(("hydra.run", "hydra.sweep", "paths.")) or key == "name":
        raise UsageError(f"{override}: a run goes on in its own folder under its own name; copy the folder, then {way}")
    if held is ABSENT and not override.startswith(("+", "~")) and not key.startswith("hydra."):
        return  # Hydra knows no such key and says so
    if keeps_all:
        raise UsageError(f"{override}: {run} is finished, and nothing in it changes; {_new_run(override, run, key)}")
    if not started or any(fnmatchcase(key, pattern) for pattern in may_change):
        return
    if key in OWN_WEIGHTS:
        raise UsageError(f"{override}: the run goes on from its own last checkpoint; {_new_run(override, run, key)}")
    kept = (
        "" if held is ABSENT else f"it is {held!r} from the run's beginning to its end, since its numbers hang on it; "
    )
    short = f"{SHORT}, with data.allow_changed_data=true also data.*" if key.startswith("data.") else SHORT
    raise UsageError(f"{override}: {kept}beside resume= can change {short}; {_new_run(override, run, key)}")


def _new_run(override: str, run: Path, key: str) -> str:
    """The command of a new run with the change, from this run's weights where they fit."""
    typed = _typed(run)
    weights = f"run={hydra_quoted(run)}"
    fits = not key.startswith(("model", "tokenizer", *OWN_WEIGHTS)) and (run / "checkpoints" / "last.ckpt").is_file()
    kept = [o for o in typed if key_of(o) not in (key, *(OWN_WEIGHTS if fits else ()))]
    line = command_line(*kept, *([weights] if fits else []), override)
    return f"{'from its weights, a' if fits else 'a'} new run: {line}"


def _typed(run: Path) -> list[str]:
    file = run / "overrides.yaml"
    typed = read_yaml(file) if file.is_file() else []
    return [str(o) for o in typed or () if key_of(str(o)) not in ("resume", "paths.run", "hydra.run.dir")]


def _renew(file: Path) -> None:
    """What an earlier version wrote is told in today's words."""
    from cliplab.settings.config import save_yaml

    there = read_yaml(file)
    if current(there) != there:
        save_yaml(file, current(there))


def _compose_again(run: Path, config: Mapping[str, Any]) -> None:
    """A run of an earlier version saved its config without references: take them from today's configs where they fit."""
    from hydra import compose, initialize_config_dir

    from cliplab.settings.config import save_yaml
    from cliplab.settings.interpolations import with_interpolations

    composed: Any = {}
    for overrides in (_typed(run), []):
        try:
            with initialize_config_dir(str(places.config_dir()), version_base="1.3"):
                composed = compose("config", overrides=overrides)
            break
        except Exception:  # keys may have gone since
            continue
    save_yaml(run / "composed.yaml", with_interpolations(config, composed))
