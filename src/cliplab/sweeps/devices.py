"""The devices of this machine, shared out among jobs that run side by side."""

import os
import shutil
import subprocess
from collections.abc import Sequence

from cliplab.cores import usable_cores

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def visible_gpus() -> list[str]:
    """The GPUs that this command may use, by the names CUDA_VISIBLE_DEVICES takes; none is asked to do anything."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    if asked is not None:
        return [gpu.strip() for gpu in asked.split(",") if gpu.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    asked_for = [program, "--query-gpu=index", "--format=csv,noheader"]
    try:
        told = subprocess.run(asked_for, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in told.splitlines() if line.strip().isdigit()]


def usable_core_numbers() -> list[int]:
    """Empty where the system does not bind processes to cores."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def share(things: Sequence[str], jobs: int, place: int) -> list[str]:
    """What the job at ``place`` of ``jobs`` gets: as many as each, or one of them in turn where there are fewer than jobs.

    >>> share(["0", "1", "2", "3"], 2, 1)
    ['2', '3']
    >>> share(["0", "1"], 4, 3)
    ['1']
    """
    each = len(things) // jobs
    if each:
        return list(things[place * each : (place + 1) * each])
    return [things[place % len(things)]] if things else []


def variables(gpus: Sequence[str], jobs: int, place: int) -> dict[str, str]:
    """The environment of the job at ``place``: its own GPUs, and its share of the cores as threads, where the user has not
    set them."""
    threads = str(max(1, usable_cores() // jobs))
    own = {name: threads for name in THREADS if name not in os.environ}
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(share(gpus, jobs, place))
    return own
