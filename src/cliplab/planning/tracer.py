"""Counts what a step without values would hold, compute, move and send."""

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from cliplab.benchmarks.measuring import LiveBytes, storage_of

WEIGHTS, GRADIENTS, OPTIMIZER = "weights", "gradients", "optimizer state"
BATCH, ACTIVATIONS, LOSS, GATHERED = "batch", "activations", "logits and loss", "gathered"
PARTS = (WEIGHTS, GRADIENTS, OPTIMIZER, ACTIVATIONS, LOSS, BATCH, GATHERED)
FLOPS, MOVED, SECONDS = "flops", "moved bytes", "seconds"
SENT_EMBEDDINGS, SENT_GRADIENTS = "sent bytes of embeddings", "sent bytes of weights and gradients"
SDPA = "_scaled_dot_product_flash_attention_for_cpu"
PACKED = "_varlen_attn"
BACKWARD = 2.5  # products of a fused attention's backward over those of its forward: five over two

# seconds of an operation from its floating-point operations, the bytes that it reads and writes, and the type of its inputs
Pace = Callable[[int, int, torch.dtype], float]


class _Held:
    """A storage that is alive: the part that it is counted to, and its bytes."""

    __slots__ = ("part", "size")

    def __init__(self, part: str) -> None:
        self.part, self.size = part, 0


class Tracer(LiveBytes):
    """While it is on, ``held`` are the bytes that are alive by part; what is made is counted to ``part``, except casts and
    what the ranks exchange. ``peaks`` has the parts at the peak of each phase since ``begin``; ``work`` what was done.

    ``text_length`` is the sum of the squared lengths of the texts over that of the lengths; ``ranks`` share the work.
    """

    def __init__(self, pace: Pace, text_length: float, ranks: int) -> None:
        super().__init__()
        self.pace, self.text_length, self.share = pace, text_length, (ranks - 1) / ranks
        self.entries: weakref.WeakKeyDictionary[torch.UntypedStorage, _Held] = weakref.WeakKeyDictionary()
        self.held: Counter[str] = Counter()
        self.peaks: dict[str, Counter[str]] = {}
        self.work: Counter[str] = Counter()
        self.part, self.phase = WEIGHTS, ""

    def begin(self, phase: str, part: str) -> None:
        self.phase, self.part = phase, part
        self.peak, self.peaks[phase] = self.alive, self.held.copy()

    def reset(self) -> None:
        """Forget the work and the peaks so far."""
        self.work.clear()
        self.peaks.clear()

    def count_to(self, part: str, tensors: Any) -> None:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, Tensor):
                self._move(self._entry(storage_of(tensor)), part)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "prim":
            return func(*args, **(kwargs or {}))
        if func.namespace == "c10d":
            self._exchange(func.overloadpacket.__name__, args)
            return func(*args, **(kwargs or {}))
        part = self.part
        if func is torch.ops.aten._to_copy.default and (source := self.entries.get(storage_of(args[0]))) is not None:
            self.part = source.part if source.part in (WEIGHTS, GATHERED) else part
        before = len(self.entries)
        out = super().__torch_dispatch__(func, types, args, kwargs)
        self.part = part
        self._count_work(func, args, kwargs or {}, out, made=len(self.entries) > before)
        return out

    def _count_work(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any, made: bool) -> None:
        if not (made or func._schema.is_mutable):
            return  # a view
        inputs = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        written = [x for x in tree_leaves(out) if isinstance(x, Tensor)]
        if func.overloadpacket.__name__.startswith("empty") or not (inputs or written):
            return
        moved = sum(_bytes(x) for x in (*inputs, *written))
        flops = self._flops(func, args, kwargs, out, inputs)
        dtype = next((x.dtype for x in inputs if x.is_floating_point()), torch.float32)
        self.work.update({FLOPS: flops, MOVED: moved})
        self.work[SECONDS] += self.pace(flops, moved, dtype)  # type: ignore[assignment]

    def _flops(self, func: Any, args: Any, kwargs: dict[str, Any], out: Any, inputs: list[Tensor]) -> int:
        name = func.overloadpacket.__name__
        if name.startswith(SDPA):
            q, k = (inputs[1], inputs[2]) if name.endswith("backward") else inputs[:2]
            flops = 4 * q.numel() * k.shape[-2]
        elif name.startswith(PACKED):
            flops = int(4 * inputs[0].numel() * self.text_length)
        else:
            formula = flop_registry.get(func.overloadpacket)
            return 0 if formula is None else formula(*args, **kwargs, out_val=out)
        return int(BACKWARD * flops) if name.endswith("backward") else flops

    def _exchange(self, name: str, args: Any) -> None:
        if name.startswith("recv"):
            return
        tensors = [x for x in tree_leaves(args) if isinstance(x, Tensor)]
        largest = max(sum(_bytes(x) for x in tree_leaves(arg) if isinstance(x, Tensor)) for arg in args)
        sent = largest if name == "send" else largest * self.share * (2 if name.startswith("allreduce") else 1)
        self.work[SENT_EMBEDDINGS if self.part == LOSS else SENT_GRADIENTS] += int(sent)
        if name != "send" and not name.startswith("allreduce"):
            self.count_to(GATHERED, tensors)
        if name.startswith("_reduce_scatter"):
            self.count_to(GRADIENTS, args[0])

    def _entry(self, storage: torch.UntypedStorage) -> _Held:
        entry = self.entries.get(storage)
        if entry is None:
            entry = self.entries[storage] = _Held(self.part)
            weakref.finalize(storage, self._resize, entry, 0)
            self._resize(entry, storage.nbytes())
        return entry

    def _count(self, storage: torch.UntypedStorage) -> None:
        self._entry(storage)

    def _resize(self, entry: _Held, size: int) -> None:
        self.held[entry.part] += size - entry.size
        self.alive += size - entry.size
        entry.size = size
        self._note_peak()

    def _move(self, entry: _Held, part: str) -> None:
        self.held[entry.part] -= entry.size
        self.held[part] += entry.size
        entry.part = part

    def _note_peak(self) -> None:
        if self.phase and self.alive > self.peak:
            self.peak, self.peaks[self.phase] = self.alive, self.held.copy()

    @contextmanager
    def following_sizes(self) -> Iterator[None]:
        """Count storages that are made larger or smaller, as those of gathered weights are."""
        resize = torch.UntypedStorage.resize_

        def counted(storage: torch.UntypedStorage, size: int) -> Any:
            entry = self._entry(storage)
            out = resize(storage, size)
            if size > entry.size:
                self._move(entry, GATHERED)
            self._resize(entry, size)
            return out

        torch.UntypedStorage.resize_ = counted  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            torch.UntypedStorage.resize_ = resize  # type: ignore[method-assign]


def _bytes(tensor: Tensor) -> int:
    local = getattr(tensor, "_local_tensor", tensor)
    return local.numel() * local.element_size()
