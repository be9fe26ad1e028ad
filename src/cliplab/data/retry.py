"""Reading on from a source that fails now and then."""

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from cliplab.data.layout import DamagedPart

T = TypeVar("T")
RETRY_SECONDS = (1, 2, 4, 8, 16, 32)  # waits before a source that fails is asked again


def persistent(start: Callable[[int], Iterator[T]], where: str) -> Iterator[T]:
    """The rows of ``start(0)``. When reading fails, ``start(n)`` is asked for those from row ``n`` on, behind the last one
    given, after longer and longer waits.

    Raises RuntimeError when it keeps failing at the same row; DamagedPart at once, since waiting mends no file.
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
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                raise RuntimeError(
                    f"{where} cannot be read any more, after {failures} more attempts: {reason}"
                ) from error
            time.sleep(RETRY_SECONDS[failures])
            failures += 1
