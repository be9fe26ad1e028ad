"""Signals during one long call, such as a backward pass. Python's handlers wait until it returns; a thread does not."""

import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from cliplab.signals import NUMBERS

PATIENCE = 3.0  # seconds in which the main thread may follow a signal
_OVER = b"\0"  # no signal has this number
_attending: list[int] = []


@contextmanager
def attended(told: Callable[[int], None], ended: Callable[[int], None], patience: float = PATIENCE) -> Iterator[None]:
    """Within this context, a thread follows signals that the main thread cannot see: Python's handlers wait while it is in
    one long call, such as a backward pass.

    ``told(status)`` is called when the context is still open ``patience`` seconds after a signal, and ``ended(status)`` when
    it is still open ``patience`` seconds after a second one. Then the process ends at once, with that status.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = socket.socketpair()
    writing.setblocking(False)
    over = threading.Event()
    thread = threading.Thread(target=_follow, args=(reading, over, told, ended, patience), daemon=True)
    before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    _attending.append(writing.fileno())
    thread.start()
    try:
        yield
    finally:
        over.set()
        _attending.pop()
        signal.set_wakeup_fd(before)
        writing.send(_OVER)  # to close it would not end the thread: forked processes hold it open
        thread.join()
        writing.close()
        reading.close()


def _follow(
    reading: socket.socket,
    over: threading.Event,
    told: Callable[[int], None],
    ended: Callable[[int], None],
    patience: float,
) -> None:
    """The thread of ``attended``. Each signal arrives as one byte."""
    first = _next_signal(reading)
    second = first and _next_signal(reading, patience)
    if first and not second and not over.is_set():
        told(128 + first)
        second = _next_signal(reading)
    if second and not over.wait(patience):
        ended(128 + first)
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(128 + first)


def _next_signal(reading: socket.socket, seconds: float | None = None) -> int:
    """The next SIGINT or SIGTERM; 0 after so many seconds without one, or at the end of the context."""
    reading.settimeout(seconds)
    try:
        while (received := reading.recv(1)) != _OVER:
            if received[0] in NUMBERS:
                return received[0]
    except TimeoutError:
        pass
    return 0


def _stop_attending() -> None:
    if _attending:
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_stop_attending)  # signals of a forked process would count as this one's
