"""The first batch is looked at: whether there is anything in it to be told apart."""

import sys
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from cliplab.distributed import gather_objects
from cliplab.objectives.contrastive import ClipLoss, GroupedClipLoss, MaskedClipLoss, SigmoidLoss

GROUPED = (GroupedClipLoss, MaskedClipLoss)
CONTRASTIVE = (ClipLoss, SigmoidLoss, *GROUPED)


def what_hinders(captions: Sequence[Hashable], groups: Sequence[int], grouped: bool) -> str:
    """A sentence about a batch in which pictures are compared with each other's captions, with the key to mend it; empty
    when there is nothing to say.

    ``captions`` and ``groups`` by sample; ``grouped`` is an objective to which samples of one group are no wrong answers.
    To the others every other sample is one, whatever its caption.
    """
    size, different, repeats = len(captions), len(set(captions)), max(Counter(captions).values())
    if size == 1:
        return "data.batch_size: 1: a batch of one has nothing to tell apart, so that nothing is learned; raise it"
    if different == 1:
        return (
            f"data.train: all {size} pictures of the first batch have the same caption, so that nothing tells them apart "
            "and nothing is learned; check data.train.caption_columns and the captions"
        )
    if grouped and len(set(groups)) == 1:
        return (
            f"data.train.group_column: all {size} pictures of the first batch are of one group, so that nothing is to be "
            "told apart and nothing is learned; check the column, or use objective=clip"
        )
    against = len(set(zip(captions, groups, strict=True))) - different if grouped else size - different
    if 2 * against <= size:
        return ""
    met = f"the {size} captions of the first batch are only {different} different ones, one of them {repeats} times"
    if grouped:
        return f"data.train.group_column: {met}, and equal ones are of different groups, as wrong answers; check the column"
    return (
        f"data.batch_size: {met}, and to this objective an equal caption is a wrong answer: no more than "
        f"{different / size:.0%} of a batch can come out right; lower it to {max(2, different)}, or use "
        "objective=clip_grouped with data.train.group_column"
    )


class WatchFirstBatch(Callback):
    """Tells, before the first step of a run, what in its batch keeps a contrastive objective from learning."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        parts = [part for part in pl_module.objective.modules() if isinstance(part, CONTRASTIVE)]
        if trainer.global_step or not parts:
            return
        tokens = batch.tokens
        ids = [tuple(row[:n]) for row, n in zip(tokens.ids.tolist(), tokens.lengths.tolist(), strict=True)]
        everyone = gather_objects((ids, batch.groups.tolist()))
        captions = [caption for of_rank, _ in everyone for caption in of_rank]
        groups = [group for _, of_rank in everyone for group in of_rank]
        told = what_hinders(captions, groups, all(isinstance(part, GROUPED) for part in parts))
        if told and trainer.is_global_zero:
            print(told, file=sys.stderr)
