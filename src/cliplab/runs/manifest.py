"""manifest.json of a run: its command, code, versions, hardware, data and status."""

import os
import platform
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from cliplab.cores import memory_bytes
from cliplab.program import command_line
from cliplab.reporting.results import read_json, write_json
from cliplab.runs.outcome import with_further
from cliplab.runs.status import this_process
from cliplab.settings.config import tags_of

PACKAGES = (
    "cliplab",
    "torch",
    "lightning",
    "hydra-core",
    "torchmetrics",
    "datasets",
    "transformers",
    "open_clip_torch",
)


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def git_state(root: Path) -> dict[str, Any]:
    """The commit of the clone that the code runs from, and whether it has changes; null outside a clone."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def hardware() -> dict[str, Any]:
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    memory = memory_bytes()
    return {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(memory / 2**30, 1) if memory else None,
        "gpus": gpus,
        "torch_threads": torch.get_num_threads(),
    }


def now_facts() -> dict[str, Any]:
    """What a run hangs on beside its config and its data: Python, packages, code, hardware."""
    return {
        "python": sys.version.split()[0],
        "versions": {p: metadata.version(p) for p in PACKAGES},
        "git": git_state(Path(__file__).parent),
        "hardware": hardware(),
    }


class Manifest:
    """manifest.json of a run. Each change writes the whole file. Only the first rank writes (``write``)."""

    def __init__(self, run_dir: Path, config: dict[str, Any], overrides: Sequence[str], write: bool = True) -> None:
        self.path, self.write = run_dir / "manifest.json", write
        self.lock = threading.RLock()  # a second thread tells of a signal
        earlier = read_json(self.path) or {}
        self.facts = {
            "run_name": config["name"],
            "task": config["task"]["name"],
            "status": "running",
            **this_process(),
            "tags": tags_of(config),
            "note": config.get("note"),
            "overrides": with_further(earlier.get("overrides", []), overrides),
            "command": earlier.get("command", command_line(*overrides)),
            "seed": config["seed"],
            "started": earlier.get("started", now()),
            "finished": None,
            "resumed": [*earlier.get("resumed", []), now()] if earlier else [],
            **now_facts(),
        }

    def start(self, **facts: Any) -> None:
        """Set the status to ``running``. A resumed run keeps its first start and command."""
        self._update(facts)

    def finish(self, status: str, **facts: Any) -> None:
        """Set the status: ``finished``, ``pruned``, ``interrupted`` (Ctrl-C), ``preempted`` (SIGTERM) or ``failed``."""
        self._update({"status": status, "finished": now(), **facts})

    def _update(self, facts: dict[str, Any]) -> None:
        with self.lock:
            self.facts |= facts
            if self.write:
                write_json(self.path, self.facts)
