"""``resume=`` beyond a stopped run: the newest one that is not finished, and a finished one that is to train longer."""

import importlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cliplab.cli import places
from cliplab.cli.arguments import UsageError
from cliplab.program import key_of
from cliplab.runs.listing import RunRow, find_runs
from cliplab.runs.outcome import read_manifest
from cliplab.runs.status import RUNNING

AUTO = "auto"
LENGTH = ("trainer.max_epochs", "trainer.max_steps")
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


def lengthens(changed: Iterable[str]) -> bool:
    """Whether what was typed gives a finished run another length."""
    return any(key_of(override) in LENGTH for override in changed)


def about_schedule(run: Path, config: Mapping[str, Any], changed: Iterable[str]) -> str:
    """What a longer run does to its learning rate; empty where the rate does not hang on the length, or cannot be told."""
    values = {key_of(override): override.partition("=")[2] for override in changed}
    try:
        before = int(read_manifest(run)["data"]["steps"])
        after = _steps(before, config["trainer"], values)
        node = {key: value for key, value in config["scheduler"].items() if not key.startswith("_")}
        module, _, name = str(config["scheduler"]["_target_"]).rpartition(".")
        schedule = getattr(importlib.import_module(module), name)
        then, now = (schedule(before, total_steps=steps, **node) for steps in (before, after))
        rate = float(config["optimizer"]["lr"])
    except Exception:  # another class of schedule, an earlier version's manifest: nothing is said
        return ""
    if after <= before or abs(then - now) < 1e-6:
        return ""
    return (
        f"this run had {before:,} steps and now ends after {after:,}. Its {name} schedule covers the whole run: the "
        f"learning rate, which had come down to {rate * then:.3g}, goes on at {rate * now:.3g} and comes down again. "
        f"A run of {after:,} steps from the start has other rates on its way, so that this is not its result"
    )


def _steps(before: int, trainer: Mapping[str, Any], values: Mapping[str, str]) -> int:
    """The steps of the run with another length, from those that it had."""
    epochs = float(values.get("trainer.max_epochs", trainer["max_epochs"]) or -1)
    most = int(values.get("trainer.max_steps", trainer["max_steps"]) or -1)
    by_epochs = epochs * before / float(trainer["max_epochs"]) if epochs > 0 else float("inf")
    if int(trainer["max_steps"] or -1) > 0:  # it did not end by epochs
        by_epochs = float("inf") if most > 0 else by_epochs
    return int(min(by_epochs, most if most > 0 else float("inf")))
