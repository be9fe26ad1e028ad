"""A job in a process of its own."""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from cliplab.sweeps.jobs import Job, environment, record_process_end

LOCK = ".lock"  # in a folder that a process works in; the system releases it when the process ends, however it does
_held: set[IO[bytes]] = set()


def locked(folder: Path) -> IO[bytes] | None:
    """The folder's lock, with the id of this process, or None while a process holds it."""
    file = (folder / LOCK).open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    note_holder(file, os.getpid())
    _held.add(file)
    return file


def note_holder(lock: IO[bytes], pid: int) -> None:
    lock.truncate(0)
    lock.write(str(pid).encode())
    lock.flush()


def holder(folder: Path) -> int | None:
    """The id of the process that holds the folder's lock, or held it."""
    try:
        return int((folder / LOCK).read_bytes())
    except (OSError, ValueError):
        return None


def _close_in_child() -> None:
    """A forked process, such as one that reads data, keeps no lock when this one is killed."""
    for file in _held:
        file.close()
    _held.clear()


os.register_at_fork(after_in_child=_close_in_child)


class JobProcess:
    """Begins at once. Its process has a session of its own, so that Ctrl-C comes to the sweep alone, which then asks its
    jobs to end. ``output`` is the file for what it prints."""

    def __init__(self, job: Job, variables: Mapping[str, str], output: Path | None) -> None:
        self.job, self.stopping = job, False
        lock = _lock_when_free(job)
        out = output.open("ab") if output else None
        try:
            self.process = subprocess.Popen(
                job.command(),
                env=environment(variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT if out else None,
                start_new_session=True,
                pass_fds=[lock.fileno()],
            )
            note_holder(lock, self.process.pid)
        finally:
            lock.close()  # the process holds it
            if out:
                out.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def is_over(self) -> bool:
        """Whether the process has ended; what it left undone is written down then."""
        if self.process.poll() is None:
            return False
        self._end_group()
        if not self.stopping:
            record_process_end(self.job, self.process.returncode)
        return True

    def wait(self) -> None:
        self.process.wait()
        self.is_over()

    def ask_to_stop(self) -> None:
        self.stopping = True
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Ask it to end after its step and wait for it; when that is interrupted, end it at once."""
        self.ask_to_stop()
        try:
            self.process.wait()
        finally:
            self._end_group()

    def _end_group(self) -> None:
        """Further ranks of a job whose first process is gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)


def _lock_when_free(job: Job) -> IO[bytes]:
    """A process of an earlier command that was killed may still be ending its step there."""
    told = False
    while (lock := locked(job.folder)) is None:
        if not told:
            pid = holder(job.folder)
            ending = f"process {pid} of an earlier command still ends its step"
            print(f"job {job.name}: {ending}; waiting for it (kill {pid} ends it at once)", flush=True)
            told = True
        time.sleep(0.2)
    return lock
