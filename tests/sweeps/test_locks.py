"""A folder's lock tells who works there, and ends with that process."""

import os
import signal
from pathlib import Path

from cliplab.sweeps.launchers.process import holder, locked


def test_a_lock_names_its_process_and_is_free_when_it_is_closed(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    lock = locked(tmp_path)
    assert lock is not None
    assert holder(tmp_path) == os.getpid()
    assert locked(tmp_path) is None
    lock.close()
    assert locked(tmp_path) is not None


def test_a_forked_process_keeps_no_lock_of_one_that_is_gone(tmp_path: Path) -> None:
    lock = locked(tmp_path)
    assert lock is not None
    told, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(tell, b".")
        signal.pause()
    os.read(told, 1)
    lock.close()
    try:
        assert locked(tmp_path) is not None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
