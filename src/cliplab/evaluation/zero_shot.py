"""Zero-shot classification."""

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from cliplab.distributed import rank, world_size
from cliplab.evaluation.metrics import CalibrationBins, RankCounts, label_ranks, wilson_interval
from cliplab.evaluation.prompts import Prompts, imagenet_class_names, load_templates
from cliplab.evaluation.result import Encoders, EvaluationResult
from cliplab.models.tokens import Tokens

TOP = 5


def fixed_batches(dataset: Any, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """This rank's (images, labels, indices), images always ``[batch_size, …]``: the last batch is filled up with zeros,
    so that an embedding depends neither on its neighbours nor on the number of ranks."""
    own = range(rank(), len(dataset), world_size())
    for start in range(0, len(own), batch_size):
        indices = own[start : start + batch_size]
        images, labels = zip(*(dataset[i] for i in indices), strict=True)
        batch = torch.stack(images)
        if len(indices) < batch_size:
            batch = torch.cat([batch, batch.new_zeros(batch_size - len(indices), *batch.shape[1:])])
        yield batch, torch.tensor(labels), torch.tensor(list(indices))


class CachedImages:
    """A data set whose decoded pictures are kept in memory (uint8) when all of them fit ``limit_bytes``."""

    def __init__(self, dataset: Any, limit_bytes: int = 512 * 2**20) -> None:
        self.dataset, self.limit = dataset, limit_bytes
        self.cache: dict[int, tuple[Tensor, int]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index in self.cache:
            return self.cache[index]
        item = self.dataset[index]
        if item[0].numel() * len(self.dataset) <= self.limit:
            self.cache[index] = item
        return item


class ZeroShotClassification:
    """Scores a labelled set against the prompts made of its class names.

    ``class_names`` overrides the set's own; ``imagenet`` means the 1,000 curated names. Logits are float32, outside
    autocast. Raises ValueError when names and labels do not fit.
    """

    task = "zeroshot_classification"

    def __init__(
        self,
        *,
        name: str,
        dataset: Any,
        templates: str | Sequence[str] = "simple",
        batch_size: int = 256,
    ) -> None:
        self.name, self.dataset, self.batch_size = name, dataset, batch_size
        self.templates = load_templates(templates)
        self.class_names = list(dataset.class_names)
        self.images = CachedImages(dataset)
        self._prompts: Prompts | None = None

    @property
    def chance(self) -> float:
        return 1 / len(self.class_names)

    @property
    def protocol_hash(self) -> str:
        """Changes with the names, the templates, the data or its transform."""
        facts = [self.class_names, self.templates, self.dataset.fingerprint, list(self.images[0][0].shape)]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    def evaluate(self, model: Encoders, tokenizer: Callable[[Sequence[str]], Tokens], device: Any) -> EvaluationResult:
        device = torch.device(device)
        clock = [time.perf_counter()]
        if self._prompts is None:
            self._prompts = Prompts(self.class_names, self.templates, tokenizer)
        weights = self._prompts.weights(model, device)
        clock.append(time.perf_counter())
        counts, bins = RankCounts(len(self.class_names)).to(device), CalibrationBins().to(device)
        table = []
        for images, labels, indices in fixed_batches(self.images, self.batch_size):
            embeds = model.encode_image(images.to(device, non_blocking=True))[: len(labels)].float()
            with torch.autocast(device.type, enabled=False):
                logits = 100 * embeds @ weights.T
            labels = labels.to(device)
            ranks, probabilities = label_ranks(logits, labels), logits.softmax(-1)
            top = probabilities.topk(min(TOP, logits.shape[1]))
            counts.update(ranks, labels)
            bins.update(top.values[:, 0], ranks < 1)
            table.append([x.cpu() for x in (indices, labels, ranks, top.indices, top.values)])
        clock.append(time.perf_counter())
        seconds = {"text": clock[1] - clock[0], "images": clock[2] - clock[1]}
        return self._result(counts.compute().cpu(), float(bins.compute()), bins.bins.cpu(), _gathered(table), seconds)

    def _result(
        self, counts: Tensor, ece: float, bins: Tensor, table: dict[str, np.ndarray], seconds: dict[str, float]
    ) -> EvaluationResult:
        images, hits, top5, rank_sum = (int(x) for x in counts.sum(0))
        assert images == len(self.dataset), f"{images} images counted, {len(self.dataset)} in the set"
        shown = counts[counts[:, 0] > 0]
        low, high = wilson_interval(hits, images)
        metrics = {
            "acc1": hits / images,
            "acc5": top5 / images,
            "mean_per_class_recall": float((shown[:, 1] / shown[:, 0]).double().mean()),
            "acc1_ci_low": low,
            "acc1_ci_high": high,
            "mean_rank": rank_sum / images + 1,
            "ece": ece,
            "chance": self.chance,
            "images": float(images),
            "classes": float(len(self.class_names)),
        }
        hit = table["rank"] < 1
        for group, mask in getattr(self.dataset, "groups", {}).items():
            member = np.asarray(mask)[table["index"]]
            if member.any():
                metrics[f"acc1_{group}"] = float(hit[member].mean())
        details = {
            "class_names": self.class_names,
            "templates": self.templates,
            "counts": counts.tolist(),
            "calibration": bins.tolist(),
        }
        return EvaluationResult(
            self.name,
            self.task,
            metrics,
            self.protocol_hash,
            details,
            {key: values.tolist() for key, values in table.items()},
            seconds,
        )


def _gathered(table: list[list[Tensor]]) -> dict[str, np.ndarray]:
    """The per-image table of all ranks in the order of the set."""
    columns = [torch.cat(parts).numpy() for parts in zip(*table, strict=True)] if table else []
    if world_size() > 1:
        everyone: list[Any] = [None] * world_size()
        dist.all_gather_object(everyone, columns)
        columns = [np.concatenate(parts) for parts in zip(*(c for c in everyone if c), strict=True)]
    order = columns[0].argsort()
    names = ("index", "label", "rank", "top5", "top5_probability")
    return {name: column[order] for name, column in zip(names, columns, strict=True)}


def imagenet_classification(*, name: str, dataset: Any, **options: Any) -> ZeroShotClassification:
    """Zero-shot classification with the 1,000 curated ImageNet names in place of the set's own.

    Raises ValueError when the set does not have 1,000 classes: scored against the wrong names it would look broken.
    """
    names = imagenet_class_names()
    if len(dataset.class_names) != len(names):
        raise ValueError(
            f"zeroshot set {name}: {len(dataset.class_names)} classes were found, ImageNet has {len(names)}; "
            "check zeroshot.<set>.dataset.path and its split"
        )
    dataset.class_names = names
    return ZeroShotClassification(name=name, dataset=dataset, **options)
