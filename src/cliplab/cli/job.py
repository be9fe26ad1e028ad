"""One job: its folder, its checks, its task, and what it ended with."""

import os
import secrets
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cliplab.cli import places
from cliplab.cli.grammar import one_line
from cliplab.cli.naming import results_name
from cliplab.cli.sweep import remove_empty
from cliplab.program import command_line, hydra_quoted
from cliplab.runs.outcome import forget_begun, holds_run, note_end, note_traceback, read_manifest
from cliplab.settings.config import ConfigError

# In the environment of ranks, by Lightning and by schedulers
RANK_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "GROUP_RANK", "RANK", "WORLD_SIZE")
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
FOR_PEOPLE = (ValueError, ImportError, RuntimeError, OSError)  # raised with a message that tells what to do

GLOBAL = ("experiment", "debug", "sweep", "local")  # groups whose files set values of the whole config

# Here, since processes of a launcher import this module alone
OmegaConf.register_new_resolver("run_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
OmegaConf.register_new_resolver("results_name", results_name, replace=True)


def is_further_rank() -> bool:
    """Whether another process began this job; it has checked everything."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in RANKS)


def run_job(cfg: Any) -> float | None:
    """Check the config, then run its task. A mistake is one line, and the process exits with status 1.

    A job of a sweep that fails returns None and the sweep goes on; its folder says how it ended. CLIPLAB_TRACEBACK=1
    prints tracebacks.
    """
    from hydra.core.hydra_config import HydraConfig

    hydra_cfg = HydraConfig.get()
    sweeping = str(hydra_cfg.mode).endswith("MULTIRUN")
    OmegaConf.set_struct(cfg, False)
    output = Path(hydra_cfg.runtime.output_dir).resolve()
    if OmegaConf.is_missing(cfg.paths, "run"):
        cfg.paths.run = str(output)
    resumed, cfg.resume = cfg.get("resume"), None
    asked: Any = OmegaConf.to_container(hydra_cfg.overrides.task, resolve=False)
    typed = [o for o in asked if not o.startswith(("resume=", "paths.run="))]
    folder = Path(cfg.paths.run)
    if holds_run(folder) and not resumed and not is_further_rank():
        remove_empty(output)
        sys.exit(f"error: {_occupied(folder)}")
    before = {name: os.environ.get(name) for name in RANK_VARIABLES}
    try:
        return _ended(cfg, typed, folder, sweeping, resumed=bool(resumed))
    finally:
        remove_empty(output)  # where a task wrote elsewhere
        for name in RANK_VARIABLES:
            if before[name] is None:
                os.environ.pop(name, None)


def _occupied(folder: Path) -> str:
    """Why nothing is written into a folder that holds a run, and the ways on."""
    status = read_manifest(folder).get("status", "begun")
    way = "" if status == "finished" else f"; go on with it: {command_line(f'resume={hydra_quoted(folder)}')}"
    return f"hydra.run.dir: {folder} holds a run already ({status}), which is left alone; name another folder{way}"


def _ended(cfg: Any, typed: Sequence[str], folder: Path, sweeping: bool, resumed: bool) -> float | None:
    """Run the task and note in its folder how it ended, where the task itself has not."""
    try:
        value = _checked_task(cfg, typed, sweeping)
    except (KeyboardInterrupt, SystemExit) as stop:
        code = stop.code if isinstance(stop, SystemExit) else 130
        stopped = isinstance(code, int) and code >= 128
        if read_manifest(folder).get("status") == "running":
            note_end(folder, "interrupted" if stopped else "failed", typed)
        if sweeping and stopped:  # Hydra takes an exit for the end of this job alone
            raise KeyboardInterrupt from stop
        if sweeping:
            note_end(folder, "failed", typed, error=f"exit {code}")
            return None
        raise
    except Exception as error:
        message = _told(error, folder)
        print(message, file=sys.stderr)
        if isinstance(error, ConfigError) and not (sweeping or resumed or is_further_rank()):
            forget_begun(folder)
        if (sweeping or holds_run(folder)) and not is_further_rank():
            note_end(folder, "failed", typed, error=message)
        if sweeping:
            return None
        remove_empty(folder)  # only when nothing was written there
        sys.exit(1)
    if sweeping and not read_manifest(folder):
        note_end(folder, "finished", typed)
    return value


def _told(error: Exception, folder: Path) -> str:
    """One line. The traceback of what is no mistake in the config goes into a file of the run's folder."""
    if os.environ.get("CLIPLAB_TRACEBACK"):
        traceback.print_exc()
    if isinstance(error, ConfigError):
        return f"config error: {one_line(error)}"
    expected = isinstance(error, FOR_PEOPLE) and str(error) and not isinstance(error, NotImplementedError)
    if expected and not holds_run(folder):
        return f"error: {one_line(error)}"
    try:
        path = note_traceback(folder, error)
    except OSError:  # the disk may be full
        return f"error: {type(error).__name__}: {one_line(error) or 'it says no more'}"
    if expected and not isinstance(error, RuntimeError):
        return f"error: {one_line(error)}"
    return f"error: {type(error).__name__}: {one_line(error) or 'it says no more'}; the traceback is in {path}"


def _checked_task(cfg: Any, typed: Sequence[str], sweeping: bool) -> float | None:
    from cliplab.settings.check import check_sources
    from cliplab.settings.config import base_config, fill_known_values, origins, resolved
    from cliplab.settings.job import Job
    from cliplab.settings.values import check_optimized, check_values
    from cliplab.settings.verbs import check_verb, run_verb

    for group in GLOBAL:
        if group in cfg:
            raise ConfigError(
                f"{group}: the chosen file of {group}/ sets values under {group} and not at the top; its first line must be "
                "# @package _global_"
            )
    typed_at = origins(cfg)
    config = resolved(cfg)
    check_values(config, typed_at)
    check_sources(config, base_config(places.config_dir()), typed_at)
    if sweeping:
        check_optimized(config)
    check_verb(Job(config, cfg, typed))
    if config["task"].get("builds", True):
        fill_known_values(cfg)
        config = resolved(cfg)
    outcome = run_verb(Job(config, cfg, typed))
    if outcome.path is not None:
        print(outcome.path)
    return outcome.figure
