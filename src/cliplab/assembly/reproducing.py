"""A run made again: its config, what differs now, the run itself, and whether the same came out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from cliplab.checkpoints.earlier import current
from cliplab.reporting.results import read_json, write_json
from cliplab.reporting.sweep.typed import read_typed, readable_yaml
from cliplab.runs.differences import Difference, config_differences, figure_differences, moved, surrounding_differences
from cliplab.runs.manifest import now_facts
from cliplab.runs.outcome import read_manifest
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError, resolved
from cliplab.settings.job import Job, Outcome
from cliplab.settings.verbs import check_verb, run_verb

RECORD = "reproduced.json"
MOST_SHOWN = 12


def same_job(job: Job, folder: Path) -> Job:
    """The job of the run in ``folder``, to be run in the folder of ``job``. Raises ConfigError when its config cannot be
    read."""
    stored = readable_yaml(folder / "composed.yaml") or readable_yaml(folder / "config.yaml")
    if not (isinstance(stored, Mapping) and isinstance(stored.get("task"), Mapping) and "paths" in stored):
        raise ConfigError(f"run: {folder} has no config that can be read; put the right config.yaml back")
    places = (readable_yaml(folder / "config.yaml") or {}).get("paths") or {}
    cfg = OmegaConf.create(moved(current(stored), places, job.config["paths"]))
    cfg.paths = job.config["paths"]
    cfg.resume = None
    return Job(resolved(cfg), cfg, read_typed(folder))


def data_fingerprint(config: Mapping[str, Any]) -> str | None:
    """Of the training data as they are now; None for a task that has none."""
    if config["task"]["name"] != "train":
        return None
    tokenizer = build(config["tokenizer"], "tokenizer")
    return str(build(config["data"], "data", tokenizer=tokenizer).fingerprint)


def differences(folder: Path, again: Job) -> list[Difference]:
    """All that is otherwise than in the run of ``folder``."""
    then, stored = read_manifest(folder), readable_yaml(folder / "config.yaml")
    found = config_differences(current(stored), again.config) if isinstance(stored, Mapping) else []
    found += surrounding_differences(then, now_facts())
    before = (then.get("data") or {}).get("fingerprint")
    after = data_fingerprint(again.config) if before else None
    return [*found, Difference("data fingerprint", before, after)] if before != after else found


def _tell(found: list[Difference], what: str) -> None:
    if not found:
        print(f"{what}: the same")
    for difference in found[:MOST_SHOWN]:
        print(f"{what}: {difference}")
    if len(found) > MOST_SHOWN:
        print(f"{what}: {len(found) - MOST_SHOWN} more, in {RECORD}")


def _same_weights(first: Path, second: Path) -> bool | None:
    """Whether two runs ended with the same weights, bit for bit. None when one of them has none."""
    files = [folder / "checkpoints" / "last.ckpt" for folder in (first, second)]
    if not all(file.is_file() for file in files):
        return None
    left, right = (torch.load(f, map_location="cpu", mmap=True, weights_only=True)["state_dict"] for f in files)
    return left.keys() == right.keys() and all(torch.equal(value, right[key]) for key, value in left.items())


def reproduce(job: Job, folder: Path) -> Outcome:
    """Say what differs from the run of ``folder``, run its task in this job's folder, and compare what came out. Returns
    what the task returns, or the path of the record when only that was asked for."""
    again = same_job(job, folder)
    check_verb(again)
    found = differences(folder, again)
    _tell(found, "now")
    record: dict[str, Any] = {"of": str(folder), "differences": [one._asdict() for one in found]}
    path = job.run_dir / RECORD
    if job.config["task"]["check_only"]:
        job.run_dir.mkdir(parents=True, exist_ok=True)
        write_json(path, record)
        return Outcome(path)
    outcome = run_verb(again)
    if outcome.path is None:
        return outcome
    manifest = job.run_dir / "manifest.json"
    facts = read_json(manifest) or {}
    write_json(manifest, {**facts, "reproduces": str(folder)})
    figures = figure_differences(read_manifest(folder).get("final") or {}, facts.get("final") or {})
    _tell(figures, "figures")
    same = _same_weights(folder, job.run_dir)
    if same is not None:
        print(f"weights: {'the same, bit for bit' if same else 'others'}")
    write_json(path, {**record, "figures": [one._asdict() for one in figures], "same_weights": same})
    return outcome
