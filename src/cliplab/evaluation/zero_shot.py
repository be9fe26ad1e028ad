"""Zero-shot classification."""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from cliplab.evaluation.answers import answers_of
from cliplab.evaluation.batches import EvaluationImages, LabelledSet
from cliplab.evaluation.clock import Phases
from cliplab.evaluation.imagenet import imagenet_class_names, imagenet_places
from cliplab.evaluation.imagenet import label_space as places_of
from cliplab.evaluation.intervals import wilson_interval
from cliplab.evaluation.kind import Kind, ProtocolHashes
from cliplab.evaluation.kinds.zero_shot import KIND, Template, ZeroShotDetails
from cliplab.evaluation.metrics import calibration_error, top_confusions
from cliplab.evaluation.model import Tokenizer, ZeroShotModel, sigmoid_of
from cliplab.evaluation.prompts import (
    Candidates,
    Prompts,
    candidates_for,
    candidates_in_words,
    chosen_prompts,
    few_names,
    same_tokens_note,
)
from cliplab.evaluation.protocol import protocol_of
from cliplab.evaluation.result import EvaluationResult
from cliplab.evaluation.tally import Tally, fewer, likely_mistakes, stratified_rows
from cliplab.rules import Count


class ZeroShotClassification:
    """Scores a labelled set against prompts made from its class names, or from ``class_names`` in the same order.

    If ``templates`` is None, those of the data set are used, or openai_80. ``subset`` is the number of images that an
    evaluation uses when it is not thorough, such as during training; each class has its share. None uses all images. Raises
    ValueError when names and labels do not fit.
    """

    kind: Kind = KIND
    final_only = False

    def __init__(
        self,
        *,
        name: str,
        images: EvaluationImages[LabelledSet],
        templates: str | Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
        subset: Count | None = None,
    ) -> None:
        self.name, self.images = name, images
        self.dataset = images.dataset
        self.class_names, self.templates = chosen_prompts(name, self.dataset, class_names, templates)
        if subset is not None and subset < 1:
            raise ValueError(f"zeroshot.{name}.subset {subset} must be at least 1; null uses every image")
        self.subset = subset
        self.notes = [*self.dataset.notes, *few_names(self.class_names)]
        self._prompts: tuple[Prompts, Candidates] | None = None

    def protocol(self, part: str | None = None) -> ProtocolHashes:
        """See ``protocol_of``. ``part`` says which part of the set and of the prompts was used."""
        return protocol_of(images=self.images, names=self.class_names, templates=self.templates, part=part)

    @torch.no_grad()
    def evaluate(self, model: ZeroShotModel, *, thorough: bool = True, most: int | None = None) -> EvaluationResult:
        """See ``Evaluator``. A thorough evaluation also scores every template alone from the same image embeddings; one of
        ``most`` images also has fewer prompts, see ``candidates_for``."""
        phases = Phases(model.device)
        limit = None if thorough else fewer(self.subset, most, of=len(self.images))
        all_labels = np.asarray(self.dataset.labels)
        rows = None if limit is None else stratified_rows(all_labels, limit)
        shown = all_labels if rows is None else all_labels[rows]
        prompts, chosen = self._prompts_for(model.tokenizer, set(shown.tolist()), None if thorough else most)
        with phases("text"):
            answers = answers_of(model, prompts, alone=thorough and len(self.templates) > 1)
        places = {number: place for place, number in enumerate(chosen.classes)}
        tally = Tally(len(chosen.classes), len(chosen.templates), model.device, sigmoid_of(model.encoders))
        for batch in self.images.batches(model.device, phases, rows):
            with phases("images"):
                answer = answers(batch.images)
            with phases("logits"):
                size = len(batch.rows)  # the rest is filling
                labels = torch.tensor([places[int(label)] for label in batch.targets], dtype=torch.int64)
                labels = labels.to(model.device)
                indices = torch.tensor(batch.rows, dtype=torch.int64)
                tally.update(answer.logits[:size], labels, indices)
                for i, logits in enumerate(answer.by_template):
                    tally.update_template(i, logits[:size], labels)
        expected = len(self.images) if rows is None else len(rows)
        return self._result(tally, chosen, same_tokens_note(prompts.equal_names), expected, phases.seconds())

    def _prompts_for(
        self, tokenizer: Tokenizer, shown: Collection[int], images: int | None
    ) -> tuple[Prompts, Candidates]:
        """The prompts of all candidates, or of those for a part of so many images; tokenised again only when they change."""
        chosen = candidates_for(self.class_names, self.templates, shown, images)
        if self._prompts is None or self._prompts[1] != chosen:
            names = [self.class_names[number] for number in chosen.classes]
            self._prompts = Prompts(names, chosen.templates, tokenizer), chosen
        return self._prompts

    def _part(self, images: int, chosen: Candidates) -> str | None:
        """What of the set was evaluated; None for all of it."""
        whole = len(self.images)
        pictures = [f"{images:,} of the {whole:,} images, each class with its share"] if images < whole else []
        return ", ".join([*pictures, *candidates_in_words(chosen, self.class_names, self.templates)]) or None

    def _result(
        self, tally: Tally, chosen: Candidates, notes: Sequence[str], expected: int, seconds: dict[str, float]
    ) -> EvaluationResult:
        counts, bins, pairs = (counted.total().cpu() for counted in (tally.counts, tally.bins, tally.confusion))
        images = int(counts[:, 0].sum())
        assert images == expected, f"{images} images counted, {expected} in the set"
        table = tally.table()
        groups = self._groups(table)
        metrics = self._metrics(counts, bins) | {f"acc1_{name}": hits / n for name, (n, hits) in groups.items()}
        part = self._part(images, chosen)
        protocol = self.protocol(part)
        details: ZeroShotDetails = {
            "class_names": [self.class_names[number] for number in chosen.classes],
            "templates": chosen.templates,
            "counts": counts.tolist(),
            "calibration": bins.tolist(),
            "confusions": top_confusions(pairs),
            "per_template": self._per_template(tally),
            "groups": groups,
            "protocol": protocol,
            "subset": part,
            "warnings": [*self.notes, *notes, *likely_mistakes(pairs, metrics)],
        }
        if tally.sigmoid is not None:
            details["sigmoid"] = tally.sigmoid._asdict()
        samples = {key: values.tolist() for key, values in table.items()}
        return EvaluationResult(self.name, self.kind, metrics, protocol["all"], details, samples, seconds)

    def _per_template(self, tally: Tally) -> list[Template]:
        totals = tally.templates.total().tolist()
        if not any(images for images, *_ in totals):
            return []
        return [
            {"template": template, "acc1": total[1] / total[0], "acc5": total[2] / total[0]}
            for template, total in zip(self.templates, totals, strict=True)
        ]

    def _metrics(self, counts: Tensor, bins: Tensor) -> dict[str, float]:
        images, hits, top5, rank_sum, sure, possible = (int(x) for x in counts.sum(0))
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
            "chance": 1 / len(counts),
            "images": float(images),
            "classes": float(len(counts)),
        }

    def _groups(self, table: dict[str, np.ndarray]) -> dict[str, tuple[int, int]]:
        """Images and hits of each named part of the set that has images."""
        hit = table["rank"] < 1
        members = {name: np.asarray(mask)[table["index"]] for name, mask in self.dataset.groups.items()}
        return {name: (int(mask.sum()), int(hit[mask].sum())) for name, mask in members.items() if mask.any()}


def imagenet_classification(
    *,
    name: str,
    images: EvaluationImages[LabelledSet],
    label_space: str = "imagenet",
    templates: str | Sequence[str] | None = None,
    subset: Count | None = None,
) -> ZeroShotClassification:
    """Zero-shot classification with the curated ImageNet names instead of those of the set; see ZeroShotClassification.

    Class folders that are named by WordNet id are matched by id. Any of the classes may be missing; only those present are
    candidates. Otherwise the labels are taken to be in the order of ``label_space``: ``imagenet``, ``imagenet_a`` or
    ``imagenet_r``. Raises ValueError when the classes do not fit.
    """
    dataset = images.dataset
    try:
        places = imagenet_places(dataset.class_names, int(max(dataset.labels)), label_space)
    except ValueError as error:
        raise ValueError(
            f"zeroshot set {name}: {error}; check zeroshot.{name}.dataset.path, its split and label_space"
        ) from error
    order = sorted(places)
    if places != order:
        dataset.relabel([order.index(place) for place in places])
    names, whole = imagenet_class_names(), len(places_of(label_space))
    evaluator = ZeroShotClassification(
        name=name, images=images, templates=templates, class_names=[names[i] for i in order], subset=subset
    )
    if len(order) < whole:
        evaluator.notes.append(
            f"{len(order)} of {whole:,} classes are present, and only these are candidates. This is easier than the whole "
            "set, so its published figures do not compare."
        )
    return evaluator
