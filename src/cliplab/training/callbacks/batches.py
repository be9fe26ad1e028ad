"""Check that a contrastive objective can learn from the first batch."""

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from itertools import chain
from typing import Any, NamedTuple

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from cliplab.data.captions import CaptionDataset
from cliplab.distributed import gather_objects
from cliplab.objectives.contrastive import ClipLoss, GroupedClipLoss, MaskedClipLoss, SigmoidLoss

GROUPED = (GroupedClipLoss, MaskedClipLoss)
CONTRASTIVE = (ClipLoss, SigmoidLoss, *GROUPED)


def batch_problem(captions: Sequence[Hashable], groups: Sequence[int], grouped: bool) -> str:
    """A sentence about what keeps a contrastive objective from learning on this batch, with the key to change. It is empty
    when nothing is wrong.

    ``captions`` and ``groups`` have one item for each sample. With ``grouped``, samples of the same group do not count as
    wrong answers. Otherwise every other sample is a wrong answer, whatever its caption.
    """
    size, different, most_repeats = len(captions), len(set(captions)), max(Counter(captions).values())
    if size == 1:
        return "data.batch_size is 1: a batch of one has nothing to tell apart, so nothing is learned; set two or more"
    if different == 1:
        return (
            f"data.train: all {size} pictures of the first batch have the same caption, so nothing tells them apart "
            "and nothing is learned; check data.train.caption_columns and the captions"
        )
    if grouped and len(set(groups)) == 1:
        return (
            f"data.train.group_column: all {size} pictures of the first batch are of one group, so there is nothing to "
            "tell apart and nothing is learned; check the column, or use objective=clip"
        )
    distinct_answers = len(set(zip(captions, groups, strict=True))) if grouped else size
    conflicts = distinct_answers - different  # equal captions that count as wrong answers
    if 2 * conflicts <= size:
        return ""
    finding = (
        f"the first batch has {size} captions but only {different} different ones, one of them {most_repeats} times"
    )
    if grouped:
        return (
            f"data.train.group_column: {finding}. Equal captions of different groups count as wrong answers; check it"
        )
    return (
        f"data.batch_size: {finding}. This objective counts an equal caption as a wrong answer, so at most "
        f"{different / size:.0%} of a batch can come out right; lower it to {max(2, different)}, or use "
        "objective=clip_grouped with data.train.group_column"
    )


def picture_problem(images: Tensor) -> str:
    """A sentence when no picture of a batch ``[batch, 3, height, width]`` can be told from another, else ""."""
    if len(images) < 2 or not bool((images == images[:1]).all()):
        return ""
    what = "are the same picture"
    if bool((images == images[:, :, :1, :1]).all()):
        what = "are of one and the same colour"
    return _same_pictures(len(images), what)


def _same_pictures(count: int, what: str) -> str:
    return (
        f"data.train: all {count} pictures of the first batch {what}, so nothing is learned; look at them with "
        "debug=data, and check data.train.image_columns"
    )


def file_problem(indices: Sequence[int], file_of: Callable[[int], bytes | None]) -> str:
    """The same sentence when the files of all pictures are equal: augmented pictures of one file differ. Reading ends at
    the first file that differs, the second one as a rule."""
    first = file_of(indices[0]) if len(indices) > 1 else None
    if first is None or any(file_of(index) != first for index in indices[1:]):
        return ""
    return _same_pictures(len(indices), "are the same file")


class WatchFirstBatch(Callback):
    """Before the first step of a run, prints what in its batch keeps a contrastive objective from learning. The manifest
    keeps the sentence."""

    def __init__(self) -> None:
        self.problem = ""

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step:
            return
        self.problem = what_hinders_batch(pl_module, batch)
        source = trainer.datamodule.train  # type: ignore[attr-defined]
        if not self.problem and is_contrastive(pl_module.objective) and isinstance(source, CaptionDataset):
            self.problem = file_problem(batch.indices.tolist(), source.picture_file)
        if self.problem and trainer.is_global_zero:
            print(self.problem, file=sys.stderr)

    def state_dict(self) -> dict[str, Any]:
        return {"problem": self.problem}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.problem = state_dict["problem"]

    def facts(self) -> dict[str, Any]:
        """An entry for the manifest."""
        return {"first_batch": self.problem} if self.problem else {}


def is_contrastive(objective: Any) -> bool:
    """Whether the objective, or a part of it, compares the pairs of a batch with one another."""
    return any(isinstance(part, CONTRASTIVE) for part in objective.modules())


class Compared(NamedTuple):
    """The samples of a batch of all ranks, in order: equal items stand for equal ones."""

    captions: list[Hashable]
    groups: list[int]


def compared(batch: Any) -> Compared:
    """Of a batch of this rank; every rank must call it."""
    tokens = batch.tokens
    ids = [tuple(row[:n]) for row, n in zip(tokens.ids.tolist(), tokens.lengths.tolist(), strict=True)]
    everyone = gather_objects((ids, batch.groups.tolist()))
    return Compared(*(list(chain.from_iterable(of_ranks)) for of_ranks in zip(*everyone, strict=True)))


def what_hinders_batch(pl_module: Any, batch: Any) -> str:
    """The same of a batch of all ranks and the objective of a module; every rank must call it."""
    parts = [part for part in pl_module.objective.modules() if isinstance(part, CONTRASTIVE)]
    if not parts:
        return ""
    captions, groups = compared(batch)
    problem = batch_problem(captions, groups, all(isinstance(part, GROUPED) for part in parts))
    return problem or picture_problem(batch.images)
