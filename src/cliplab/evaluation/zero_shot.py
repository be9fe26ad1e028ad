"""Zero-shot classification."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from cliplab.distributed import world_size
from cliplab.evaluation.batches import CachedImages, fixed_batches, picture_hash
from cliplab.evaluation.metrics import CalibrationBins, RankCounts, calibration_error, label_ranks, wilson_interval
from cliplab.evaluation.prompts import Prompts, imagenet_class_names, load_templates
from cliplab.evaluation.result import Encoders, EvaluationResult
from cliplab.models.tokens import Tokens

TOP = 5


class ZeroShotClassification:
    """Scores a labelled set against the prompts made of its class names, or of ``class_names`` in the same order.

    Raises ValueError when names and labels do not fit.
    """

    task = "zeroshot_classification"

    def __init__(
        self,
        *,
        name: str,
        dataset: Any,
        templates: str | Sequence[str] = "simple",
        class_names: Sequence[str] | None = None,
        batch_size: int = 256,
    ) -> None:
        self.name, self.dataset, self.batch_size = name, dataset, batch_size
        self.templates = load_templates(templates)
        self.class_names = list(dataset.class_names if class_names is None else class_names)
        if len(self.class_names) != len(dataset.class_names):
            raise ValueError(
                f"zeroshot set {name}: {len(self.class_names)} class names for a data set of "
                f"{len(dataset.class_names)} classes; check zeroshot.{name}.dataset.path, its split and class_names"
            )
        self.images = CachedImages(dataset)
        self._prompts: Prompts | None = None

    @property
    def chance(self) -> float:
        return 1 / len(self.class_names)

    @property
    def protocol_hash(self) -> str:
        """Changes with the names, the templates, the data or its transform (seen in the first picture)."""
        facts = [self.class_names, self.templates, self.dataset.fingerprint, picture_hash(self.images)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @torch.no_grad()
    def evaluate(self, model: Encoders, tokenizer: Callable[[Sequence[str]], Tokens], device: Any) -> EvaluationResult:
        device = torch.device(device)
        clock = [time.perf_counter()]
        if self._prompts is None:
            self._prompts = Prompts(self.class_names, self.templates, tokenizer)
        weights = self._prompts.weights(model, device)
        clock.append(time.perf_counter())
        counts, bins = RankCounts(len(self.class_names)).to(device), CalibrationBins().to(device)
        table = []
        for images, targets, indices in fixed_batches(self.images, self.batch_size):
            embeds = model.encode_image(images.to(device, non_blocking=True))[: len(indices)]
            logits = self._prompts.logits(embeds, weights)
            labels = torch.tensor(targets, dtype=torch.int64, device=device)
            ranks = label_ranks(logits, labels)
            top = logits.sort(dim=1, descending=True, stable=True).indices[:, :TOP]  # ties as in the ranks
            shares = logits.softmax(-1).gather(1, top)
            counts.update(ranks, labels)
            bins.update(shares[:, 0], ranks.rank < 1)
            table.append([x.cpu() for x in (torch.tensor(indices, dtype=torch.int64), labels, ranks.rank, top, shares)])
        clock.append(time.perf_counter())
        seconds = {"text": clock[1] - clock[0], "images": clock[2] - clock[1]}
        return self._result(counts.compute().cpu(), bins.compute().cpu(), _gathered(table), seconds)

    def _result(
        self, counts: Tensor, bins: Tensor, table: dict[str, np.ndarray], seconds: dict[str, float]
    ) -> EvaluationResult:
        metrics = self._metrics(counts, bins) | self._groups(table)
        details = {
            "class_names": self.class_names,
            "templates": self.templates,
            "counts": counts.tolist(),
            "calibration": bins.tolist(),
            "warnings": mislabelled(table, metrics),
        }
        samples = {key: values.tolist() for key, values in table.items()}
        return EvaluationResult(self.name, self.task, metrics, self.protocol_hash, details, samples, seconds)

    def _metrics(self, counts: Tensor, bins: Tensor) -> dict[str, float]:
        images, hits, top5, rank_sum, sure, possible = (int(x) for x in counts.sum(0))
        assert images == len(self.dataset), f"{images} images counted, {len(self.dataset)} in the set"
        shown = counts[counts[:, 0] > 0].double()
        low, high = wilson_interval(hits, images)
        return {
            "acc1": hits / images,
            "acc5": top5 / images,
            "mean_per_class_recall": float((shown[:, 1] / shown[:, 0]).mean()),
            "acc1_ci_low": low,
            "acc1_ci_high": high,
            "acc1_ties_lost": sure / images,
            "acc1_ties_won": possible / images,
            "mean_rank": rank_sum / images + 1,
            "ece": calibration_error(bins),
            "chance": self.chance,
            "images": float(images),
            "classes": float(len(self.class_names)),
        }

    def _groups(self, table: dict[str, np.ndarray]) -> dict[str, float]:
        """Top-1 of the set's named parts that have images, ``acc1_<group>``."""
        hit = table["rank"] < 1
        members = {name: np.asarray(mask)[table["index"]] for name, mask in getattr(self.dataset, "groups", {}).items()}
        return {f"acc1_{name}": float(hit[mask].mean()) for name, mask in members.items() if mask.any()}


def mislabelled(table: dict[str, np.ndarray], metrics: dict[str, float]) -> list[str]:
    """A sentence when the accuracy sits at chance although images of one label get one answer, and another label's
    another: the model sees the classes, so labels and names are probably in different orders."""
    labels, answers = table["label"], table["top5"][:, 0]

    def agreement(groups: np.ndarray) -> float:
        """Chance that two images of one group get the same answer."""
        pairs = np.unique(np.stack([groups, answers]), axis=1, return_counts=True)[1]
        sizes = np.unique(groups, return_counts=True)[1]
        return float((pairs * (pairs - 1)).sum() / max(1, (sizes * (sizes - 1)).sum()))

    within, overall = agreement(labels), agreement(np.zeros_like(labels))
    if metrics["acc1_ci_low"] > 2 * metrics["chance"] or within < max(0.25, 4 * overall):
        return []
    return [
        f"top-1 is {metrics['acc1']:.1%}, near chance, yet two images of one label get the same answer in "
        f"{within:.0%} of cases: labels and class names are probably in different orders; check dataset.class_names"
    ]


def _gathered(table: list[list[Tensor]]) -> dict[str, np.ndarray]:
    """The per-image table of all ranks in the order of the set."""
    columns = [torch.cat(parts).numpy() for parts in zip(*table, strict=True)]
    if world_size() > 1:
        everyone: list[Any] = [None] * world_size()
        dist.all_gather_object(everyone, columns)
        columns = [np.concatenate(parts) for parts in zip(*everyone, strict=True)]
    order = columns[0].argsort()
    names = ("index", "label", "rank", "top5", "top5_probability")
    return {name: column[order] for name, column in zip(names, columns, strict=True)}


def imagenet_classification(
    *, name: str, dataset: Any, templates: str | Sequence[str] = "openai_80", batch_size: int = 256
) -> ZeroShotClassification:
    """Zero-shot classification with the 1,000 curated ImageNet names in place of the set's own, in WordNet-id order.

    Raises ValueError when the set does not have 1,000 classes: scored against the wrong names it would look broken.
    """
    return ZeroShotClassification(
        name=name, dataset=dataset, templates=templates, class_names=imagenet_class_names(), batch_size=batch_size
    )
