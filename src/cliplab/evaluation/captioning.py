"""Captions that a model writes, against references."""

from collections.abc import Sequence
from typing import Any

import torch

from cliplab.distributed import gather_objects
from cliplab.evaluation.batches import EvaluationImages, PictureSet
from cliplab.evaluation.caption_scores import caption_scores
from cliplab.evaluation.clock import Phases
from cliplab.evaluation.kind import Kind, ProtocolHashes
from cliplab.evaluation.kinds.captioning import KIND, CaptioningDetails
from cliplab.evaluation.model import ZeroShotModel
from cliplab.evaluation.protocol import protocol_of
from cliplab.evaluation.result import EvaluationResult
from cliplab.rules import Count


class Captioning:
    """Writes a caption for each picture, and scores it by BLEU, ROUGE-L and CIDEr-D against the captions of the set.

    ``beams`` captions are followed at once; 1 writes greedily. Captions are written in thorough evaluations only. Raises
    ValueError for a model that writes no captions, and for a picture without a reference.
    """

    kind: Kind = KIND
    final_only = True

    def __init__(self, *, name: str, images: EvaluationImages[PictureSet], beams: Count = 1) -> None:
        self.name, self.images, self.beams, self.notes = name, images, beams, list(images.dataset.notes)

    def protocol(self) -> ProtocolHashes:
        """See ``protocol_of``. The data include how captions are written."""
        return protocol_of(images=self.images, part={"beams": self.beams})

    @torch.no_grad()
    def evaluate(self, model: ZeroShotModel, *, thorough: bool = True, most: int | None = None) -> EvaluationResult:
        """See ``Evaluator``. There is a row for each image: its references, what was written, and its ROUGE-L."""
        phases = Phases(model.device)
        written, references = self._write(model, phases)
        with phases("scores"):
            scores = caption_scores(written, references)
        metrics = scores.metrics | {"images": float(len(written)), "captions": float(sum(map(len, references)))}
        protocol = self.protocol()
        warnings = [*self.notes, *same_caption_note(written)]
        details: CaptioningDetails = {"protocol": protocol, "subset": None, "warnings": warnings, "beams": self.beams}
        samples: dict[str, list[Any]] = {
            "index": list(range(len(written))),
            "captions": references,
            "written": written,
            "rouge_l": scores.rouge_l,
            "exact": scores.exact,
        }
        return EvaluationResult(self.name, self.kind, metrics, protocol["all"], details, samples, phases.seconds())

    def _write(self, model: ZeroShotModel, phases: Phases) -> tuple[list[str], list[list[str]]]:
        """What was written for each picture of the set, and its references, in the order of the set."""
        if model.write is None:
            raise ValueError(
                f"{self.name}: this model writes no captions; evaluate one of objective=caption or coca, or leave this "
                "set out"
            )
        mine: list[tuple[int, str, list[str]]] = []
        for batch in self.images.batches(model.device, phases):
            with phases("images"):
                texts = model.write(batch.images, self.beams)
            mine += zip(batch.rows, texts, batch.targets, strict=False)  # a batch is padded with pictures without a row
        rows = sorted(row for of_rank in gather_objects(mine) for row in of_rank)
        without = next((number for number, _, known in rows if not known), None)
        if without is not None:
            raise ValueError(f"{self.name}: row {without} has no caption to compare with")
        return [text for _, text, _ in rows], [list(known) for _, _, known in rows]


def same_caption_note(written: Sequence[str]) -> list[str]:
    """A sentence where every picture got one and the same caption."""
    if len(written) > 1 and len(set(written)) == 1:
        return [f"every picture got the same caption, {written[0]!r}: the decoder does not look at the picture yet"]
    return []
