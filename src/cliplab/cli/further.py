"""``resume=`` beyond a stopped run: the newest one that is not finished, and a finished one that is to train longer."""

import importlib
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser

from cliplab.cli import places
from cliplab.cli.arguments import UsageError
from cliplab.program import key_of
from cliplab.runs.listing import RunRow, find_runs
from cliplab.runs.outcome import read_manifest
from cliplab.runs.status import RUNNING
from cliplab.settings.annotations import problem
from cliplab.settings.foreign import Limit
from cliplab.settings.length import EPOCHS, STEPS, Length, length_of

AUTO = "auto"
LENGTH, TIME = (EPOCHS, STEPS), "trainer.max_time"
DONE = ("finished", "pruned")


def newest_unfinished(logs: Path | None = None) -> Path:
    """The newest training run below ``logs`` that neither finished nor still runs. Raises UsageError when there is none."""
    place = logs or _usual_logs()
    rows = [row for row in find_runs(str(place.resolve())) if row.status not in DONE and _trains(row)]
    waiting = sorted((row for row in rows if row.status != RUNNING), key=lambda row: row.age)
    if waiting:
        print(f"resume=auto: {waiting[0].folder} ({waiting[0].status})", flush=True)
        return waiting[0].folder
    if rows:
        raise UsageError(f"resume=auto: {rows[0].folder} is still running, and no other run in {place} is unfinished")
    raise UsageError(
        f"resume=auto: no run in {place} is unfinished; name a folder, resume=logs/train/<experiment>/<run>"
    )


def _usual_logs() -> Path:
    """``paths.logs`` of this machine's own settings, or else ``logs`` of the clone."""
    if (places.config_dir() / "local" / "default.yaml").is_file():
        from hydra import compose, initialize_config_dir

        try:
            with initialize_config_dir(str(places.config_dir()), version_base="1.3"):
                return Path(str(compose("config").paths.logs)).expanduser()
        except Exception:  # any other command tells what is wrong in that file
            pass
    return Path(os.environ.get("CLIPLAB_ROOT", ".")) / "logs"


def _trains(row: RunRow) -> bool:
    return row.facts.get("task", "train") == "train" and (row.folder / "config.yaml").is_file()


def lengthens(run: Path, changed: Iterable[str]) -> bool:
    """Whether what was typed gives a finished run another length; another time only where it ended before its last step."""
    keys, facts = set(map(key_of, changed)), read_manifest(run)
    done, data = facts.get("step"), facts.get("data")
    early = isinstance(done, int) and isinstance(data, Mapping) and done < data.get("steps", 0)
    return bool(keys & set(LENGTH)) or (early and TIME in keys)


class Further(NamedTuple):
    """A run that is given another length: the steps that it has trained, where they are known, those that its schedule was
    made for, and its length now."""

    done: int | None
    planned: int
    length: Length


def further(run: Path, config: Mapping[str, Any], changed: Iterable[str]) -> Further | None:
    """None where nothing is known: the run never began a step, or what was typed is no length, which is told later."""
    facts = read_manifest(run)
    data = facts.get("data")
    planned = data.get("steps") if isinstance(data, Mapping) else None
    if not isinstance(data, Mapping) or not isinstance(planned, int):
        return None
    trainer = dict(config["trainer"])
    by_epochs = length_of(trainer, 0).first.key == EPOCHS and trainer["max_steps"] in (None, -1)
    per_epoch = data.get("steps_per_epoch", planned / trainer["max_epochs"] if by_epochs else None)
    for override in changed:
        if key_of(override) in LENGTH:
            value = OverridesParser.create().parse_override(override).value()
            if problem(value, Limit):
                return None
            trainer[key_of(override).removeprefix("trainer.")] = value
    if {trainer["max_epochs"], trainer["max_steps"]} <= {None, -1}:
        return None
    done = facts.get("step") or (planned if facts.get("status") == "finished" else None)
    return Further(done, planned, length_of(trainer, per_epoch or math.inf))


def check_longer(run: Path, now: Further, changed: Iterable[str]) -> str:
    """A sentence about a finished run that has trained as long as it is asked to; "" for one that goes on. Raises UsageError
    when the limit that was typed lies beyond its end, and the other one ends it."""
    assert now.done is not None
    if now.length.steps > now.done:
        return ""
    had = f"{run} is finished, after {now.done:,} steps"
    typed = [limit for limit in (now.length.first, now.length.other) if limit.key in map(key_of, changed)]
    beyond = [limit for limit in typed if limit.steps > now.done]
    if beyond:
        fix = f"to go on, type {now.length.first.key}=-1 beside it"
        raise UsageError(f"{beyond[0]}: {had}, and it ends {now.length.why}; {fix}")
    return f"{had}, and {typed[0]} asks for {int(typed[0].steps):,} steps; nothing to do"


def about_length(now: Further, config: Mapping[str, Any]) -> str:
    """How a finished run goes on, with what becomes of its learning rate where that hangs on the length."""
    told = f"this run had {now.done:,} steps and now ends after {now.length.steps:,}"
    return ". ".join(
        filter(None, [told if math.isinf(now.length.other.steps) else f"{told}, {now.length.why}", _rate(now, config)])
    )


def _rate(now: Further, config: Mapping[str, Any]) -> str:
    """ "" where the learning rate does not hang on the length, or cannot be told."""
    before, after = now.planned, now.length.steps
    try:
        node = {key: value for key, value in config["scheduler"].items() if not key.startswith("_")}
        module, _, name = str(config["scheduler"]["_target_"]).rpartition(".")
        schedule = getattr(importlib.import_module(module), name)
        at_end, goes_on = (schedule(now.done, total_steps=steps, **node) for steps in (before, after))
        rate = float(config["optimizer"]["lr"])
    except Exception:  # another class of schedule, an earlier version's manifest: nothing is said
        return ""
    if after <= before or abs(at_end - goes_on) < 1e-6:
        return ""
    return (
        f"Its {name} schedule covers the whole run: the learning rate, which had come down to {rate * at_end:.3g}, goes on "
        f"at {rate * goes_on:.3g} and comes down again. A run of {after:,} steps from the start has other rates on its way, "
        "so that this is not its result"
    )
