"""What became of a run: its manifest says ``running`` for ever when its process was killed; then it is ``lost``."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RUNNING, LOST, BEGUN = "running", "lost", "begun"
INTERRUPTED, PREEMPTED = "interrupted", "preempted"  # by Ctrl-C; by SIGTERM, as a scheduler sends it
BOOT = Path("/proc/sys/kernel/random/boot_id")
START = 21  # fields of /proc/<pid>/stat before the start time; the name of the program, in brackets, is the second


def this_process() -> dict[str, Any]:
    """What tells this process from every other one: its id, its machine, and when it began."""
    return {"pid": os.getpid(), "host": platform.node(), "process_started": process_start(os.getpid())}


def process_start(pid: int) -> str | None:
    """When a process of this machine began, in words of the system; None when there is no such process, or it has ended and
    only waits to be collected."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
            boot = BOOT.read_text().strip()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in "ZX" else f"{boot} {fields[START - 2]}"
    if sys.platform == "win32":
        return None
    asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return asked.stdout.strip() or None


def status_after(code: int) -> str:
    """The status of a run that was stopped by a signal, from the exit status of its process."""
    return PREEMPTED if code == 128 + signal.SIGTERM else INTERRUPTED


def is_gone(facts: Mapping[str, Any]) -> bool:
    """Whether the process that a manifest names has ended. Of another machine's process nothing is known: False."""
    pid = _of_this_machine(facts)
    return pid is not None and process_start(pid) != facts["process_started"]


def at_work(facts: Mapping[str, Any]) -> int | None:
    """The id of the other process of this machine that works on the run, or ends its work after a signal; else None."""
    pid = _of_this_machine(facts)
    begun = facts.get("status") in (RUNNING, INTERRUPTED, PREEMPTED)
    return pid if begun and pid != os.getpid() and not is_gone(facts) else None


def _of_this_machine(facts: Mapping[str, Any]) -> int | None:
    pid = facts.get("pid")
    here = isinstance(pid, int) and facts.get("process_started") and facts.get("host") == platform.node()
    return pid if here else None


def status_of(facts: Mapping[str, Any]) -> str:
    """The status of a manifest's facts, ``lost`` where a running one's process has gone."""
    status = str(facts.get("status", BEGUN))
    return LOST if status == RUNNING and is_gone(facts) else status
