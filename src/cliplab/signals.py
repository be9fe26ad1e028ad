"""SIGINT and SIGTERM: what asks a run to end."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Notes the first signal. Where the work is ``gentle`` it ends itself at the next good place; elsewhere, and at a second
    signal, KeyboardInterrupt is raised at once.

    ``number`` is the signal, 0 while there was none. A process that was forked from this one does with a signal what it
    would do without.
    """

    def __init__(self) -> None:
        self.number, self.gentle, self.owner = 0, False, os.getpid()
        self.before: dict[int, Any] = {}

    def listen(self) -> None:
        """Handle the signals from now on, also where another handler was put in between. Only a main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in NUMBERS:
                handler = signal.signal(number, self._note)
                self.before.setdefault(number, handler)

    def leave(self) -> None:
        """Put back what handled the signals before."""
        for number, handler in self.before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self.before = {}

    def _note(self, number: int, frame: Any) -> None:
        if os.getpid() != self.owner:  # forked from this process: as if nobody listened
            self.leave()
            os.kill(os.getpid(), number)
            return
        second, self.number = bool(self.number), self.number or number
        if second or not self.gentle:
            raise KeyboardInterrupt

    @contextmanager
    def gently(self) -> Iterator[None]:
        """Within it the first signal is only noted."""
        before, self.gentle = self.gentle, True
        try:
            yield
        finally:
            self.gentle = before

    @property
    def status(self) -> int:
        """What the process exits with: 143 after SIGTERM, 130 after SIGINT or an interrupt of another origin."""
        return 128 + (self.number or signal.SIGINT)


@contextmanager
def listening() -> Iterator[StopRequest]:
    """A StopRequest that handles this process's signals."""
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
    """For processes that read data: a signal to the whole group, as a scheduler or Ctrl-C sends it, is the parent's to
    answer. Only a SIGTERM of the parent's own ends the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # it tells who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
