"""Zero-shot classification."""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from cliplab.distributed import world_size
from cliplab.evaluation.batches import CachedImages, fixed_batches
from cliplab.evaluation.metrics import (
    CalibrationBins,
    Confusion,
    RankCounts,
    calibration_error,
    label_ranks,
    same_answer_shares,
    top_confusions,
    wilson_interval,
)
from cliplab.evaluation.prompts import Prompts, ensemble, imagenet_class_names, load_templates
from cliplab.evaluation.protocol import protocol_of
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
        """``thorough`` also scores every template alone, from the same image embeddings."""
        device = torch.device(device)
        clock = [time.perf_counter()]
        if self._prompts is None:
            self._prompts = Prompts(self.class_names, self.templates, tokenizer)
        by_template = self._prompts.template_weights(model, device)
        weights = ensemble(by_template)
        alone = by_template.unbind(1) if thorough and len(self.templates) > 1 else ()
        clock.append(time.perf_counter())
        tally = Tally(len(self.class_names), len(self.templates)).to(device)
        for images, targets, indices in fixed_batches(self.images, self.batch_size):
            embeds = model.encode_image(images.to(device, non_blocking=True))[: len(indices)]
            labels = torch.tensor(targets, dtype=torch.int64, device=device)
            tally.update(self._prompts.logits(embeds, weights), labels, torch.tensor(indices, dtype=torch.int64))
            for i, own in enumerate(alone):
                tally.update_template(i, self._prompts.logits(embeds, own), labels)
        clock.append(time.perf_counter())
        seconds = {"text": clock[1] - clock[0], "images": clock[2] - clock[1]}
        return self._result(tally, seconds)

    def _result(self, tally: "Tally", seconds: dict[str, float]) -> EvaluationResult:
        counts, bins, pairs = (m.compute().cpu() for m in (tally.counts, tally.bins, tally.confusion))
        table = tally.table()
        metrics = self._metrics(counts, bins) | self._groups(table)
        details = {
            "class_names": self.class_names,
            "templates": self.templates,
            "counts": counts.tolist(),
            "calibration": bins.tolist(),
            "confusions": top_confusions(pairs),
            "per_template": self._per_template(tally),
            "protocol": self.protocol,
            "subset": None,
            "warnings": likely_mistakes(pairs, metrics),
        }
        samples = {key: values.tolist() for key, values in table.items()}
        return EvaluationResult(self.name, self.task, metrics, str(self.protocol["all"]), details, samples, seconds)

    def _per_template(self, tally: "Tally") -> list[dict[str, Any]]:
        return [
            {"template": template, "acc1": total[1] / total[0], "acc5": total[2] / total[0]}
            for template, total in zip(self.templates, tally.alone.compute().tolist(), strict=True)
            if total[0]  # none when they were not asked for
        ]

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


def likely_mistakes(pairs: Tensor, metrics: dict[str, float]) -> list[str]:
    """Sentences about what looks wrong in the setting rather than in the model.

    Labels and names in different orders: the accuracy sits at chance although images of one label get one answer, and
    another label's another, so the model sees the classes. Names of another set: most of them never occur as a label.
    """
    found = []
    within, overall = same_answer_shares(pairs)
    if metrics["acc1_ci_low"] <= 2 * metrics["chance"] and within >= max(0.25, 4 * overall):
        found.append(
            f"top-1 is {metrics['acc1']:.1%}, near chance, yet two images of one label get the same answer in "
            f"{within:.0%} of cases: labels and class names are probably in different orders; check dataset.class_names"
        )
    shown, classes = int((pairs.sum(1) > 0).sum()), len(pairs)
    if 2 * shown < classes <= metrics["images"]:
        found.append(
            f"only {shown} of the {classes} named classes have images: if the set has {shown} classes, it was scored "
            "against the names of another; check dataset.class_names"
        )
    return found


class Tally(torch.nn.Module):
    """All that is counted while images pass: integer ranks, calibration bins, confusions, ranks of each template alone,
    and a row per image."""

    def __init__(self, classes: int, templates: int) -> None:
        super().__init__()
        self.counts, self.bins, self.confusion = RankCounts(classes), CalibrationBins(), Confusion(classes)
        self.alone = RankCounts(templates)
        self.rows: list[list[Tensor]] = []

    def update(self, logits: Tensor, labels: Tensor, indices: Tensor) -> None:
        ranks = label_ranks(logits, labels)
        top = logits.sort(dim=1, descending=True, stable=True).indices[:, :TOP]  # ties as in the ranks
        shares = logits.softmax(-1).gather(1, top)
        self.counts.update(ranks, labels)
        self.bins.update(shares[:, 0], ranks.rank < 1)
        self.confusion.update(labels, top[:, 0])
        self.rows.append([x.cpu() for x in (indices, labels, ranks.rank, top, shares)])

    def update_template(self, template: int, logits: Tensor, labels: Tensor) -> None:
        self.alone.update(label_ranks(logits, labels), torch.full_like(labels, template))

    def table(self) -> dict[str, np.ndarray]:
        """The rows of all ranks in the order of the set."""
        columns = [torch.cat(parts).numpy() for parts in zip(*self.rows, strict=True)]
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
