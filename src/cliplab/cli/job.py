"""Run one job: check its config, run its task, and record how it ended."""

import os
import re
import secrets
import sys
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from cliplab.cli import places
from cliplab.cli.grammar import notes_on_repeated, value_of
from cliplab.cli.naming import results_name, sweep_folder
from cliplab.cli.sweep import remove_empty
from cliplab.program import SWEEP_JOB, command_line, hydra_quoted, key_of
from cliplab.runs.outcome import (
    AsItWas,
    holds_run,
    read_manifest,
    record_end,
    record_traceback,
    remove_failed_start,
    remove_start_files,
)
from cliplab.runs.status import status_after, status_of
from cliplab.settings.config import ConfigError
from cliplab.signals import signalled, status_told
from cliplab.text import one_line, shortened

# Environment variables that Lightning and schedulers set for ranks
RANK_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "GROUP_RANK", "RANK", "WORLD_SIZE")
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
EXPECTED_ERRORS = (ValueError, ImportError, RuntimeError, OSError)  # raised with a message that says what to do

MOST_OF_MEMORY = 110  # characters of what PyTorch says about memory, which goes on with advice of its own
SWEEP_KEYS = ("sweep", "sweep_name", "launcher")

# Registered here because the processes of a launcher import only this module
OmegaConf.register_new_resolver("run_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
OmegaConf.register_new_resolver("results_name", results_name, replace=True)
OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True)


def is_further_rank() -> bool:
    """Whether another process started this one as a rank of its job. That process has checked the config."""
    return any(os.environ.get(name, "0") not in ("", "0") for name in RANKS)


def run_job(cfg: Any) -> float | None:
    """Check the config and run its task. A mistake is printed in one line, and the process exits with status 1.

    In a sweep, a job that fails returns None, so that the sweep goes on; the folder of the job records how it ended.
    CLIPLAB_TRACEBACK=1 prints tracebacks.
    """
    from hydra.core.hydra_config import HydraConfig

    hydra_cfg = HydraConfig.get()
    sweeping = str(hydra_cfg.mode).endswith("MULTIRUN") or SWEEP_JOB in os.environ
    OmegaConf.set_struct(cfg, False)
    for name in SWEEP_KEYS:  # no job reads them
        cfg.pop(name, None)
    output = Path(hydra_cfg.runtime.output_dir).resolve()
    if OmegaConf.is_missing(cfg.paths, "run"):
        cfg.paths.run = str(output)
    resumed, cfg.resume = cfg.get("resume"), None
    overrides: Any = OmegaConf.to_container(hydra_cfg.overrides.task, resolve=False)
    typed = [o for o in overrides if not o.startswith(("resume=", "paths.run="))]
    folder = Path(cfg.paths.run)
    if not resumed and not is_further_rank():
        remove_failed_start(folder)
    if holds_run(folder) and not resumed and not is_further_rank():
        remove_empty(output)
        sys.exit(f"error: {_occupied_message(folder)}")
    before = {name: os.environ.get(name) for name in RANK_VARIABLES}
    form = warnings.formatwarning
    warnings.formatwarning = _one_line_warning  # type: ignore[assignment]
    try:
        return _run_and_record(cfg, typed, folder, sweeping, resumed=bool(resumed))
    finally:
        warnings.formatwarning = form
        remove_empty(output)  # the task may have written elsewhere
        for name in RANK_VARIABLES:
            if before[name] is None:
                os.environ.pop(name, None)


def _one_line_warning(message: object, *_: object, **__: object) -> str:
    """A warning on the screen: its words, without the place in the code and the line of code."""
    return f"warning: {one_line(message)}\n"


def _occupied_message(folder: Path) -> str:
    """Say that the folder holds a run, so that nothing is written into it, and how to continue."""
    status = status_of(read_manifest(folder))
    way = "" if status == "finished" else f"; go on with it: {command_line(f'resume={hydra_quoted(folder)}')}"
    return f"hydra.run.dir: {folder} already holds a run ({status}), which is left as it is; name another folder{way}"


def _run_and_record(cfg: Any, typed: Sequence[str], folder: Path, sweeping: bool, resumed: bool) -> float | None:
    """Run the task. Record in its folder how it ended, unless the task has recorded it."""
    as_it_was = AsItWas(folder) if resumed and not (sweeping or is_further_rank()) else None
    try:
        value = _interruptible(cfg, typed, sweeping)
    except (KeyboardInterrupt, SystemExit) as stop:
        code = stop.code if isinstance(stop, SystemExit) else status_told(stop, 130)
        stopped = isinstance(code, int) and code >= 128
        if read_manifest(folder).get("status") == "running":
            record_end(folder, status_after(code) if isinstance(code, int) and stopped else "failed", typed)
        if sweeping and stopped:  # Hydra would go on with the next job
            raise KeyboardInterrupt(code) from stop
        if sweeping and not is_further_rank():
            record_end(folder, "failed", typed, error=f"exit {code}")
            return None
        raise
    except BrokenPipeError:  # what reads the output has seen enough
        raise
    except Exception as error:
        message = _error_message(error, folder, typed)
        print(message, file=sys.stderr)
        if isinstance(error, ConfigError) and not (sweeping or resumed or is_further_rank()):
            remove_start_files(folder)
        if (sweeping or holds_run(folder)) and not is_further_rank():
            record_end(folder, "failed", typed, error=message)
        if as_it_was is not None:
            as_it_was.restore()
        if sweeping:
            return None
        remove_empty(folder)  # only when nothing was written there
        sys.exit(1)
    if sweeping and not is_further_rank() and read_manifest(folder).get("status") not in ("finished", "pruned"):
        figure = {} if value is None else {"optimized_metric": {"name": str(cfg.optimized_metric), "value": value}}
        record_end(folder, "finished", typed, **figure)
    return value


def _key_of_file(error: Exception, typed: Sequence[str]) -> str:
    """``key: `` of the typed path that an error of the file system is about, or that it lies below; "" otherwise."""
    path = str(error.filename or "") if isinstance(error, OSError) else ""
    return next((f"{key_of(o)}: " for o in typed if len(value_of(o)) > 1 and path.startswith(value_of(o))), "")


def _about_memory(error: Exception) -> str:
    """What helps a job that runs out of the memory of the machine or of a device; "" for any other error. PyTorch raises a
    plain RuntimeError for the machine's own memory."""
    told = one_line(error)
    from_torch = isinstance(error, RuntimeError) and re.search(
        "out of memory|can't allocate memory", told, re.IGNORECASE
    )
    if not (from_torch or isinstance(error, MemoryError)):
        return ""
    return f"out of memory{f' ({shortened(told, MOST_OF_MEMORY)})' if told else ''}; take a smaller data.batch_size"


def _error_message(error: Exception, folder: Path, typed: Sequence[str] = ()) -> str:
    """The error in one line. The traceback goes into the folder of the run, unless the error is a mistake in the config."""
    if os.environ.get("CLIPLAB_TRACEBACK"):
        traceback.print_exc()
    if isinstance(error, ConfigError):
        return f"config error: {one_line(error)}"
    place = _key_of_file(error, typed)
    expected = isinstance(error, EXPECTED_ERRORS) and str(error) and not isinstance(error, NotImplementedError)
    told = _about_memory(error) or f"{type(error).__name__}: {one_line(error) or 'no message'}"
    if expected and not holds_run(folder):
        return f"error: {place}{_about_memory(error) or one_line(error)}"
    try:
        path = record_traceback(folder, error)
    except OSError:  # the disk may be full
        return f"error: {told}"
    ours = type(error).__module__.startswith("cliplab.")
    if expected and (ours or not isinstance(error, RuntimeError)):
        return f"error: {place}{one_line(error)}"
    return f"error: {told}; the traceback is in {path}"


def _interruptible(cfg: Any, typed: Sequence[str], sweeping: bool) -> float | None:
    """Check and run the task. An error after a signal is its consequence: a library that was being imported is broken, or
    another process has ended first."""
    try:
        return _checked_task(cfg, typed, sweeping)
    except Exception as error:
        if signalled():
            raise KeyboardInterrupt(signalled()) from error
        raise


def _checked_task(cfg: Any, typed: Sequence[str], sweeping: bool) -> float | None:
    from cliplab.settings.check_hub import check_hub
    from cliplab.settings.check_job import check_job
    from cliplab.settings.config import fill_known_values, origins, resolved
    from cliplab.settings.job import Job
    from cliplab.settings.verbs import check_verb, run_verb

    config = check_job(cfg, places.config_dir(), sweeping=sweeping)
    check_verb(Job(config, cfg, typed))
    if not is_further_rank():
        check_hub(config, origins(cfg))
    if not sweeping and not is_further_rank():
        for note in notes_on_repeated(typed):
            print(note, file=sys.stderr)
    if config["task"].get("builds", True):
        fill_known_values(cfg)
        config = resolved(cfg)
    outcome = run_verb(Job(config, cfg, typed))
    if outcome.path is not None:
        print(outcome.path)
    return outcome.figure
