"""Zero-shot classification of pictures with several labels each."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cliplab.evaluation.batches import EvaluationImages, LabelledSet, embed_images
from cliplab.evaluation.clock import Phases
from cliplab.evaluation.kind import Kind, ProtocolHashes
from cliplab.evaluation.kinds.multi_label import KIND, MultiLabelDetails
from cliplab.evaluation.model import ZeroShotModel
from cliplab.evaluation.prompts import (
    Candidates,
    Prompts,
    candidates_for,
    candidates_in_words,
    chosen_prompts,
    evenly_spread,
    same_tokens_note,
)
from cliplab.evaluation.protocol import protocol_of
from cliplab.evaluation.result import EvaluationResult
from cliplab.evaluation.tally import fewer

TOP = 5


def average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """For each class, the mean of the precision at each right image, in the order of the scores; float64 ``[classes]``.

    Scores and targets are ``[images, classes]``. A class without images gets NaN. Of equal scores, the earlier image comes
    first.
    """
    order = scores.sort(dim=0, descending=True, stable=True).indices
    truth = targets.bool().gather(0, order).double()
    places = torch.arange(1, len(scores) + 1, dtype=torch.float64, device=scores.device).unsqueeze(1)
    return (truth * truth.cumsum(0) / places).sum(0) / truth.sum(0)


class MultiLabelClassification:
    """Scores every image against every class, for sets in which an image has any number of labels. The metric is the mean
    average precision over the classes that have images. For the options see ZeroShotClassification."""

    kind: Kind = KIND
    final_only = False

    def __init__(
        self,
        *,
        name: str,
        images: EvaluationImages[LabelledSet],
        templates: str | Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.name, self.images = name, images
        self.dataset = images.dataset
        self.class_names, self.templates = chosen_prompts(name, self.dataset, class_names, templates)
        self.notes = list(self.dataset.notes)
        self._prompts: tuple[Prompts, Candidates] | None = None

    def protocol(self, part: str | None = None) -> ProtocolHashes:
        """See ``protocol_of``. ``part`` says which part of the set and of the prompts was used."""
        return protocol_of(images=self.images, names=self.class_names, templates=self.templates, part=part)

    @torch.no_grad()
    def evaluate(self, model: ZeroShotModel, *, thorough: bool = True, most: int | None = None) -> EvaluationResult:
        """See ``Evaluator``. A thorough evaluation adds a row for each image: its labels, and the five best classes with
        their cosines."""
        phases = Phases(model.device)
        every = range(len(self.class_names))  # a class that were left out would change the mean over classes
        chosen = candidates_for(self.class_names, self.templates, every, None if thorough else most)
        if self._prompts is None or self._prompts[1] != chosen:
            self._prompts = Prompts(self.class_names, chosen.templates, model.tokenizer), chosen
        prompts = self._prompts[0]
        with phases("text"):
            weights = prompts.weights(model.encoders, model.device)
        limit = None if thorough else fewer(most, of=len(self.images))
        rows = None if limit is None else evenly_spread(len(self.images), limit)
        embeds, labels = embed_images(model.encoders, self.images, model.device, phases, rows)
        with phases("logits"):
            targets = torch.from_numpy(np.stack(labels)).to(model.device)
            logits = prompts.logits(embeds, weights)
            precision = average_precision(logits, targets)
        shown = precision[~precision.isnan()]
        metrics = {
            "mean_average_precision": float(shown.mean()),
            "images": float(len(targets)),
            "classes": float(len(self.class_names)),
            "labels_per_image": float(targets.double().sum(1).mean()),
        }
        pictures = [] if rows is None else [f"{limit:,} of the {len(self.images):,} images, evenly spread"]
        part = ", ".join([*pictures, *candidates_in_words(chosen, self.class_names, self.templates)]) or None
        protocol = self.protocol(part)
        details: MultiLabelDetails = {
            "class_names": self.class_names,
            "templates": chosen.templates,
            "average_precision": [None if np.isnan(x) else x for x in precision.tolist()],
            "protocol": protocol,
            "subset": part,
            "warnings": [*self.notes, *same_tokens_note(prompts.equal_names)],
        }
        samples: dict[str, list[Any]] = {}
        if thorough:
            top = logits.topk(min(TOP, logits.shape[1]), dim=1)
            samples = {
                "index": list(range(len(targets))),
                "labels": [np.flatnonzero(row).tolist() for row in labels],
                "top5": top.indices.tolist(),
                "top5_cosine": (top.values / 100).tolist(),
            }
        hashed = protocol["all"]
        return EvaluationResult(self.name, self.kind, metrics, hashed, details, samples, phases.seconds())
