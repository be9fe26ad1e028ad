"""Zero-shot classification of pictures with several labels each."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cliplab.evaluation.batches import EvaluationImages, embed_images
from cliplab.evaluation.clock import Phases
from cliplab.evaluation.prompts import Prompts, chosen_prompts
from cliplab.evaluation.protocol import protocol_of
from cliplab.evaluation.result import Encoders, EvaluationResult
from cliplab.models.tokens import Tokens

TOP = 5


def average_precision(scores: Tensor, targets: Tensor) -> Tensor:
    """Mean of the precision at each right image, the images in order of their score; float64 ``[classes]``.

    Scores and targets ``[images, classes]``; NaN for a class that no image has. Of equal scores the earlier image comes
    first.
    """
    order = scores.sort(dim=0, descending=True, stable=True).indices
    truth = targets.bool().gather(0, order).double()
    places = torch.arange(1, len(scores) + 1, dtype=torch.float64, device=scores.device).unsqueeze(1)
    return (truth * truth.cumsum(0) / places).sum(0) / truth.sum(0)


class MultiLabelClassification:
    """Scores every image against every class of a set in which an image has any number of labels: mean average precision
    over the classes that have images. Options as of ZeroShotClassification."""

    task = "zeroshot_classification"

    def __init__(
        self,
        *,
        name: str,
        dataset: Any,
        templates: str | Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        batch_size: int = 256,
        num_workers: int = 0,
        cache_gb: float = 0.5,
        cache_dir: str | None = None,
    ) -> None:
        self.name, self.dataset = name, dataset
        self.class_names, self.templates = chosen_prompts(name, dataset, class_names, templates)
        self.images = EvaluationImages(
            dataset, batch_size=batch_size, num_workers=num_workers, cache_gb=cache_gb, cache_dir=cache_dir
        )
        self._prompts: Prompts | None = None

    @functools.cached_property
    def protocol(self) -> dict[str, str | None]:
        """See ``protocol_of``."""
        return protocol_of(dataset=self.dataset, images=self.images, names=self.class_names, templates=self.templates)

    @torch.no_grad()
    def evaluate(
        self,
        model: Encoders,
        tokenizer: Callable[[Sequence[str]], Tokens],
        device: Any,
        *,
        thorough: bool = True,
    ) -> EvaluationResult:
        """``thorough`` adds a row per image: its labels, and the best five classes with their cosine."""
        device = torch.device(device)
        phases = Phases(device)
        if self._prompts is None:
            self._prompts = Prompts(self.class_names, self.templates, tokenizer)
        with phases("text"):
            weights = self._prompts.weights(model, device)
        embeds, labels = embed_images(model, self.images, device, phases)
        with phases("logits"):
            targets = torch.from_numpy(np.stack(labels)).to(device)
            logits = self._prompts.logits(embeds, weights)
            precision = average_precision(logits, targets)
        shown = precision[~precision.isnan()]
        metrics = {
            "mean_average_precision": float(shown.mean()),
            "images": float(len(targets)),
            "classes": float(len(self.class_names)),
            "labels_per_image": float(targets.double().sum(1).mean()),
        }
        details = {
            "class_names": self.class_names,
            "templates": self.templates,
            "average_precision": [None if np.isnan(x) else x for x in precision.tolist()],
            "protocol": self.protocol,
            "subset": None,
            "warnings": [],
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
        hashed = str(self.protocol["all"])
        return EvaluationResult(self.name, self.task, metrics, hashed, details, samples, phases.seconds())
