"""Seconds in alternation, floating-point operations, peak memory, and the speed of the device's own matrix products."""

import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cliplab.benchmarks.setting import Setting

Work = Callable[[], None]
SIDES = {("cuda", torch.bfloat16): 8192, ("cuda", torch.float32): 4096}  # of the matrices that are multiplied
SIDE_ELSEWHERE = 1536
TRIES = 12


def seconds_of(work: Work, times: int, setting: Setting) -> float:
    """Seconds of one run of ``work``: the mean of ``times`` runs in a row, with no waiting for the device between them."""
    setting.wait()
    begun = time.perf_counter()
    for _ in range(times):
        work()
    setting.wait()
    return (time.perf_counter() - begun) / times


def in_turn(works: Mapping[str, Work], rounds: int, times: int, setting: Setting) -> dict[str, list[float]]:
    """Seconds by name and round. Every round times each of ``works`` once, so that a change of the machine meets all."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            found[name].append(seconds_of(work, times, setting))
    return found


class Ratio(NamedTuple):
    """How many times as fast: the median over the rounds, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, slower: Iterable[float], faster: Iterable[float]) -> "Ratio":
        by_round = [a / b for a, b in zip(slower, faster, strict=True)]
        return cls(median(by_round), min(by_round), max(by_round))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def matrix_speed(setting: Setting, side: int | None = None) -> float:
    """Floating-point operations a second of a product of two square matrices of random numbers, the fastest of several."""
    side = side or SIDES.get((setting.device.type, setting.dtype), SIDE_ELSEWHERE)
    a, b = (torch.randn(side, side, device=setting.device, dtype=setting.dtype) for _ in range(2))
    out = torch.empty_like(a)

    def multiply() -> None:
        torch.mm(a, b, out=out)

    return 2 * side**3 / min(seconds_of(multiply, 1, setting) for _ in range(TRIES))


def storage_of(tensor: Tensor) -> torch.UntypedStorage:
    """Where this process keeps its part of the tensor."""
    return getattr(tensor, "_local_tensor", tensor).untyped_storage()


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors that operations make while it is on. ``peak`` is the most that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.peak = 0, 0
        self.seen = weakref.WeakSet[Any]()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(storage_of(tensor))
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage in self.seen:
            return
        self.seen.add(storage)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.alive -= size


def held_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def peak_bytes(work: Work, setting: Setting, held: Iterable[Tensor], before: int) -> int:
    """The most memory in use during ``work``, with what is held for it before it begins.

    On a GPU it is what torch's allocator counted above ``before`` bytes, which others hold. On a CPU, whose allocator does
    not count, it is the bytes of ``held`` and of the tensors made by ``work``; temporary memory inside an operation is not
    seen there.
    """
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)
        work()
        setting.wait()
        return torch.cuda.max_memory_allocated(setting.device) - before
    known = held_bytes(held)
    with LiveBytes() as live:
        work()
    return known + live.peak


def allocated(setting: Setting) -> int:
    """Bytes that torch's allocator has given out on a GPU; 0 on a CPU."""
    return torch.cuda.memory_allocated(setting.device) if setting.device.type == "cuda" else 0
