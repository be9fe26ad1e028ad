"""What became of a run is told truly, also when its process could not say it any more."""

import os
import platform
import subprocess
import sys

import pytest

from cliplab.runs.status import at_work, is_gone, process_start, status_after, status_of, this_process


def test_a_process_that_lives_is_running() -> None:
    facts = {"status": "running", **this_process()}
    assert facts["pid"] == os.getpid()
    assert status_of(facts) == "running"


def test_a_process_that_is_gone_is_lost() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    began = process_start(child.pid)
    facts = {"status": "running", "pid": child.pid, "host": platform.node(), "process_started": began}
    assert status_of(facts) == "running"
    child.kill()
    while process_start(child.pid) == began:  # it may take a moment to end; until it is collected it is a zombie
        pass
    assert status_of(facts) == "lost"
    child.wait()
    assert status_of(facts) == "lost"
    assert status_of({**facts, "status": "failed"}) == "failed"


def test_another_process_is_at_work_until_it_ends() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    facts = {"pid": child.pid, "host": platform.node(), "process_started": process_start(child.pid)}
    works = {status: at_work({**facts, "status": status}) for status in ("running", "preempted", "finished", "failed")}
    assert works == {"running": child.pid, "preempted": child.pid, "finished": None, "failed": None}
    assert at_work({**this_process(), "status": "running"}) is None
    child.communicate()
    assert at_work({**facts, "status": "running"}) is None


def test_another_process_of_the_same_id_is_not_the_run() -> None:
    assert is_gone({**this_process(), "process_started": "of another boot"})


@pytest.mark.parametrize("missing", [{"host": "elsewhere"}, {"pid": None}, {"process_started": None}])
def test_of_what_cannot_be_known_nothing_is_said(missing: dict[str, object]) -> None:
    facts = {"status": "running", **this_process(), "process_started": "before", **missing}
    assert status_of(facts) == "running"
    assert status_of({}) == "begun"


def test_signals() -> None:
    assert [status_after(code) for code in (130, 143)] == ["interrupted", "preempted"]
