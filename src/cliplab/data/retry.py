"""Continues to read a source after temporary failures."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from cliplab.data.layout import DamagedPart, DataError
from cliplab.text import one_line

T = TypeVar("T")
RETRY_SECONDS = (1, 2, 4, 8, 16, 32)  # waits before each new attempt


def persistent(start: Callable[[int], Iterator[T]], where: str) -> Iterator[T]:
    """The rows of ``start(0)``. After a failure and a wait, ``start(n)`` continues at row ``n``, the first not given yet.

    Raises DataError when reading keeps failing at the same row, DamagedPart at once: waiting does not repair a file.
    """
    given = failures = 0
    while True:
        try:
            for row in start(given):
                yield row
                given, failures = given + 1, 0
            return
        except DamagedPart:
            raise
        except Exception as error:
            if failures == len(RETRY_SECONDS):
                reason = f"{type(error).__name__}: {one_line(error)[:300]}"
                raise DataError(f"{where} cannot be read any more, after {failures} more attempts: {reason}") from error
            time.sleep(RETRY_SECONDS[failures])
            failures += 1
