"""Seconds per phase of an evaluation."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


class Phases:
    """``with phases("images"): …`` adds up the time of each phase on ``device``.

    A GPU works while the program goes ahead. So the phases of a GPU are timed by its events, which does not stop it. With
    ``host=True``, the time of the program is taken instead. On a CPU the phases add up to the whole.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.host_seconds = device, dict[str, float]()
        self.events: list[tuple[str, Any, Any]] = []

    @contextmanager
    def __call__(self, name: str, host: bool = False) -> Iterator[None]:
        if self.device.type == "cuda" and not host:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
            self.events.append((name, start, end))
        else:
            began = time.perf_counter()
            yield
            self.host_seconds[name] = self.host_seconds.get(name, 0.0) + time.perf_counter() - began

    def seconds(self) -> dict[str, float]:
        """Seconds of each phase so far. Waits for the device."""
        total = dict(self.host_seconds)
        for name, start, end in self.events:
            end.synchronize()
            total[name] = total.get(name, 0.0) + start.elapsed_time(end) / 1000
        return total
