"""A signal while the main thread is in one long call, in which Python's handlers have to wait."""

import hashlib
import os
import signal
import threading
import time

from cliplab.long_calls import attended
from cliplab.signals import listening


def _in_a_long_call(signals: int, iterations: int) -> tuple[int, str]:
    """The exit status of a forked process that receives so many signals during a long call, and what its thread did."""
    here, there = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(here)

        def say(word: str) -> None:
            os.write(there, word.encode())

        with (
            listening() as request,
            request.gently(),
            attended(lambda code: say(f"told {code} "), lambda code: say(f"ended {code}"), patience=0.2),
        ):
            say("ready ")
            hashlib.pbkdf2_hmac("sha256", b"", b"", iterations)  # no handler runs before it returns
        say("returned")
        os._exit(request.status)
    os.close(there)
    with os.fdopen(here, "rb", buffering=0) as said:
        heard = said.read(len("ready "))
        for number in range(signals):
            time.sleep(0.5 if number else 0.05)  # between two, the first is told
            os.kill(child, signal.SIGTERM)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return status, (heard + said.read()).decode()


def test_the_first_signal_is_told_at_once_and_the_call_is_finished() -> None:
    assert _in_a_long_call(1, 5_000_000) == (143, "ready told 143 returned")


def test_a_second_signal_ends_the_process_within_the_call() -> None:
    begun = time.monotonic()
    assert _in_a_long_call(2, 2_000_000_000) == (143, "ready told 143 ended 143")
    assert time.monotonic() - begun < 10


def test_nothing_is_told_when_the_call_ends_in_time() -> None:
    assert _in_a_long_call(0, 1000) == (130, "ready returned")


def test_a_forked_process_that_lives_on_does_not_keep_the_thread() -> None:
    threads = threading.active_count()
    with listening(), attended(lambda code: None, lambda code: None):
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert threading.active_count() == threads


def test_other_signals_and_other_listeners_are_left_alone() -> None:
    before = signal.set_wakeup_fd(-1)
    with listening(), attended(lambda code: None, lambda code: None):
        assert signal.set_wakeup_fd(-1) > 0
    assert signal.set_wakeup_fd(before) == -1
