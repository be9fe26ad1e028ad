"""Every objective of the configs: what it read of the captions is taken over, training resumes to the bit, and a checkpoint
serves."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from cliplab.assembly.objective import trained_objective
from cliplab.checkpoints.read import read_pretrained
from cliplab.checkpoints.run_checkpoint import objective_state
from cliplab.checkpoints.weights import load_exactly
from cliplab.data.loader import Batch
from cliplab.objectives.distill import Taught
from cliplab.objectives.objective import Corpus, Objective
from cliplab.settings.build import build
from tests.configs.test_configs import GROUPS, composed
from tests.training.test_module import MODEL, STEPS, fit, module_of, same

from .pairs import small_clip
from .test_bag_of_words import TOKENS, corpus_of

CAPTIONS = ["a b", "a b c", "a b", "a b c d", "e a", "c"]
FURTHER = {
    "both directions": ["objective=caption", "objective.directions=both", "objective.dropout=0.2"],
    "every token has a row": ["objective=caption", "objective.captions=0"],
}
WORDS = {"_target_": "cliplab.models.word_vectors.WordVectors", "vocab_size": 12, "context_length": 6, "output_dim": 8}
TEACHER = {"_target_": f"{__name__}.teacher_of", "_partial_": True}


def teacher_of(source: str) -> Callable[..., Taught]:
    model = small_clip(embed_dim=10).requires_grad_(False)
    return lambda images, texts: Taught(
        model.encode_image(images[..., :8, :8]), model.encode_text(TOKENS(texts)), model.logit_scale.exp()
    )


def config_of(overrides: list[str]) -> dict[str, Any]:
    config: Any = OmegaConf.to_container(composed(*overrides), resolve=True)
    objective = config["objective"]
    if "teacher" in objective:
        objective |= {"teacher": "small", "read": TEACHER}
    return objective


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(5)
    index, found = torch.arange(len(CAPTIONS)), []
    for step in range(STEPS):
        images = torch.randint(256, (len(CAPTIONS), 3, 16, 16), dtype=torch.uint8, generator=generator)
        texts = CAPTIONS[step:] + CAPTIONS[:step]
        found.append(Batch(images, TOKENS(texts), index * 0 + step, index, index // 2, [], 0, [], captions=texts))
    return found


def unread(most: int) -> Iterator[str]:
    raise AssertionError("the captions were read again")


@pytest.mark.parametrize("choice", [*GROUPS["objective"], *FURTHER])
def test_resuming_gives_the_same_bits_and_a_checkpoint_serves(choice: str, tmp_path: Path) -> None:
    config = config_of(FURTHER.get(choice, [f"objective={choice}"]))
    path = tmp_path / "last.ckpt"

    def read(objective: Objective) -> None:
        objective.prepare(corpus_of(CAPTIONS))

    def take_over(objective: Objective) -> None:
        objective.adopt(objective_state(torch.load(path, weights_only=True)["state_dict"]))
        objective.prepare(Corpus(unread, TOKENS))

    model = {**MODEL, "init_logit_bias": -10.0}
    if choice == "bag_of_words_contrastive":
        model["text_encoder"] = WORDS
    whole, first = (module_of(config, prepare=read, model=model) for _ in range(2))
    fit(whole, batches=batches())
    fit(first, steps=2, batches=batches()).save_checkpoint(path)
    resumed = module_of(config, prepare=take_over, model=model)
    fit(resumed, ckpt=path, batches=[*batches()[2:], *batches()[:2]])  # a plain loader begins anew
    assert same(whole, resumed)
    assert not same(whole.model, first.model)
    weights = read_pretrained(str(path))
    rebuilt = build(weights.model, "model")
    load_exactly(rebuilt, weights.state, weights.source)
    objective = trained_objective(weights, rebuilt)
    if weights.objective is not None and first.objective.state_dict():
        assert objective is not None
        assert same(objective, first.objective)
        assert not same(objective, whole.objective)
