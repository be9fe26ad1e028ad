"""SIGINT and SIGTERM, which ask a run to end."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)
_listening: "list[StopRequest]" = []


class StopRequest:
    """Records the first signal. While ``gentle`` is set, the work itself ends at the next suitable point. Otherwise, and at
    a second signal, KeyboardInterrupt with the exit status is raised at once.

    ``number`` is the signal; 0 before there was one. A process that is forked from this one handles signals as before.
    """

    def __init__(self) -> None:
        self.number, self.gentle, self.owner = 0, False, os.getpid()
        self.before: dict[int, Any] = {}

    def listen(self) -> None:
        """Handle the signals from now on, in place of any other handler. This works in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                handler = signal.signal(number, self._record)
                self.before.setdefault(number, handler)
            if self not in _listening:
                _listening.append(self)

    def leave(self) -> None:
        """Restore the handlers of the signals."""
        for number, handler in self.before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self.before = {}
        if self in _listening:
            _listening.remove(self)

    def _record(self, number: int, frame: Any) -> None:
        if os.getpid() != self.owner:  # a forked process handles the signal as before
            self.leave()
            os.kill(os.getpid(), number)
            return
        second, self.number = bool(self.number), self.number or number
        if second or not self.gentle:
            raise KeyboardInterrupt(self.status)

    @contextmanager
    def gently(self) -> Iterator[None]:
        """Within this context, the first signal is only recorded."""
        before, self.gentle = self.gentle, True
        try:
            yield
        finally:
            self.gentle = before

    @property
    def status(self) -> int:
        """The exit status: 143 after SIGTERM, 130 after SIGINT or any other interrupt."""
        return 128 + (self.number or signal.SIGINT)


def signalled() -> int:
    """The exit status after a signal that this process has received while it listened; 0 before there was one."""
    return next((request.status for request in _listening if request.number), 0)


def status_told(stop: KeyboardInterrupt, otherwise: int) -> int:
    """The exit status that an interrupt carries, or else the other one."""
    return next((code for code in stop.args if isinstance(code, int)), otherwise)


@contextmanager
def listening() -> Iterator[StopRequest]:
    """A StopRequest that handles the signals of this process within the context."""
    request = StopRequest()
    request.listen()
    try:
        yield request
    finally:
        request.leave()


def end_with(parent: int) -> None:
    """End this process as SIGTERM does once the one with this id is no longer its parent: it was killed, and nobody waits
    for what is done here."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    if os.getppid() == parent:  # else a rank that the job itself has started
        threading.Thread(target=watch, daemon=True).start()


def leave_signals_to_the_parent(worker: int = 0) -> None:
    """For processes that read data: ignore signals that a scheduler or Ctrl-C sends to the whole process group, since the
    parent handles them. Only a SIGTERM from the parent ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # it returns the sender of a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
