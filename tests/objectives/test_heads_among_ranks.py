"""Objectives with heads: two ranks give the loss and the gradients of one, and shared features the gradients of separate
ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cliplab.models.clip import CLIP
from cliplab.objectives.bag_of_words import BagOfWords
from cliplab.objectives.contrastive import ClipLoss
from cliplab.objectives.distill import Distillation, Taught
from cliplab.objectives.masked_image import MaskedImage
from cliplab.objectives.matching import Matching
from cliplab.objectives.ngrams import NGrams
from cliplab.objectives.objective import Objective
from cliplab.objectives.tags import Tags
from cliplab.objectives.weighted_sum import WeightedSum
from tests.processes import run_ranks

from .pairs import small_clip, some_pairs
from .ranks import assert_average, group, save_average
from .test_bag_of_words import TOKENS, corpus_of

HEAD = {"width": 8, "layers": 1, "heads": 2, "seed": 3}


def teacher(source: str) -> Callable[[Tensor, list[str]], Taught]:
    model = small_clip(seed=9, embed_dim=10).requires_grad_(False)
    return lambda images, texts: Taught(
        model.encode_image(images), model.encode_text(TOKENS(texts)), model.logit_scale.exp()
    )


OBJECTIVES: dict[str, Callable[[], Objective]] = {
    "bag_of_words": lambda: BagOfWords(words=4, captions=100),
    "tags": lambda: Tags(words=4, captions=100),
    "ngrams": lambda: NGrams(longest=3, least=1, ngrams=50, captions=100, smoothing=0.2),
    "matching": lambda: Matching(**HEAD),
    "masked_image": lambda: MaskedImage(hidden=0.5, **HEAD),
    "distill": lambda: Distillation(teacher="t", weight=0.5, contrastive=ClipLoss(), read=teacher),
}


def built(make: Callable[[], Objective], model: CLIP) -> Objective:
    objective = make()
    objective.prepare(corpus_of(some_pairs().captions))
    torch.manual_seed(6)
    objective.build_heads(model)
    return objective


def gradients(make: Callable[[], Objective], part: slice) -> list[Tensor]:
    model, batch = small_clip(), some_pairs().rows(part)
    objective = built(make, model)
    loss = objective(model(batch.images, batch.tokens, objective.reads), batch).loss
    loss.backward()
    parameters = [*model.parameters(), *objective.parameters()]
    return [loss.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad for p in parameters)]


def one_rank(number: int, ranks: int, folder: str) -> None:
    share = 8 // ranks
    with group(number, ranks, folder):
        for name, make in OBJECTIVES.items():
            save_average(gradients(make, slice(number * share, (number + 1) * share)), folder, name)


@pytest.mark.slow
def test_two_processes_give_one_process_gradient(tmp_path: Path) -> None:
    run_ranks(one_rank, 2, str(tmp_path))
    for name, make in OBJECTIVES.items():
        assert_average(tmp_path, name, gradients(make, slice(None)), rtol=1e-4)


def test_shared_features_have_the_gradients_of_separate_ones() -> None:
    """In a sum the towers run once for all parts; each part alone runs them for itself."""
    model, batch = small_clip(), some_pairs()
    parts = {name: built(make, model) for name, make in OBJECTIVES.items()}
    together = WeightedSum(parts=parts, weights={"ngrams": 0.5})
    together(model(batch.images, batch.tokens, together.reads), batch).loss.backward()
    shared = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    for name, part in parts.items():
        part.zero_grad()
        loss = part(model(batch.images, batch.tokens, part.reads), batch).loss
        (loss * (0.5 if name == "ngrams" else 1)).backward()
    separate = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(shared) == len(separate)
    for a, b in zip(shared, separate, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_parameter_of_a_head_is_in_one_group(name: str) -> None:
    objective = built(OBJECTIVES[name], small_clip())
    grouped = [p for group in objective.layer_groups() for p in group]
    assert len(grouped) == len(set(grouped)) == len(list(objective.parameters()))
    assert not any("teacher" in key or "model" in key for key in objective.state_dict())
