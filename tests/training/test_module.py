"""The training module with a made-up objective that has parameters: they train, decay, are locked, saved, resumed, and left
out where the model alone is used."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from cliplab.assembly.objective import trained_objective
from cliplab.checkpoints.read import read_pretrained
from cliplab.checkpoints.weights import clip_config, load_exactly
from cliplab.data.loader import Batch
from cliplab.models.clip import CLIP, Encoded
from cliplab.models.tokens import Tokens
from cliplab.objectives.objective import Loss, Objective, Pairs, Scorer
from cliplab.optim.locking import TowerLock
from cliplab.optim.schedule import constant
from cliplab.settings.build import build
from cliplab.training.module import TrainingModule

VOCABULARY, STEPS, DECAY = 12, 4, 0.5


class Words(Objective):
    """Which words stand in the caption, from the patches of the picture; dropout, so that draws count too."""

    reads = frozenset({"image_states"})

    def build_heads(self, model: CLIP) -> None:
        width = model.image_encoder.state_width
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(width, model.text_encoder.vocab_size)

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        assert encoded.image_states is not None
        logits = self.head(self.dropout(encoded.image_states.patches.mean((1, 2))))  # [B, vocabulary]
        present = torch.zeros_like(logits).scatter(1, batch.tokens.ids, 1)
        loss = F.binary_cross_entropy_with_logits(logits, present)
        return Loss(loss, {"words_found": ((logits > 0) == (present > 0)).float().mean()})

    def score(self, model: CLIP, images: Tensor, texts: Tokens) -> Tensor:
        states = model(images, texts, self.reads).image_states
        return self.head(states.patches.mean((1, 2))).log_softmax(-1)[:, texts.ids].mean(-1)


WORDS = {"_target_": f"{__name__}.Words"}
CLIP_LOSS = {"_target_": "cliplab.objectives.contrastive.ClipLoss"}
SUM = {
    "_target_": "cliplab.objectives.weighted_sum.WeightedSum",
    "parts": {"clip": CLIP_LOSS, "words": WORDS},
    "weights": {"words": 2.0},
}
TEXT = {"vocab_size": VOCABULARY, "context_length": 6, "width": 8, "layers": 1, "heads": 2, "output_dim": 8}
IMAGE = {"image_size": 16, "patch_size": 8, "width": 8, "layers": 1, "heads": 2, "output_dim": 8}
MODEL = clip_config(
    image_encoder={"_target_": "cliplab.models.vision_transformer.VisionTransformer", **IMAGE},
    text_encoder={"_target_": "cliplab.models.text_transformer.TextTransformer", **TEXT},
    embed_dim=8,
)


def batch() -> Batch:
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(256, (6, 3, 16, 16), dtype=torch.uint8, generator=generator)
    ids = torch.randint(1, VOCABULARY, (6, 5), generator=generator)
    index = torch.arange(6)
    return Batch(images, Tokens(ids, torch.full((6,), 5)), index, index, index, [], 0, [])


def module_of(
    objective: dict[str, Any],
    locking: dict[str, TowerLock] | None = None,
    *,
    prepare: Callable[[Objective], None] = lambda objective: None,
    model: dict[str, Any] = MODEL,
) -> TrainingModule:
    torch.manual_seed(1)
    towers, built = build(model, "model"), build(objective, "objective")
    prepare(built)
    return TrainingModule(
        model=towers,
        objective=built,
        optimizer=partial(torch.optim.AdamW, lr=0.01, weight_decay=DECAY),
        schedule=partial(constant, warmup_steps=0),
        total_steps=STEPS,
        config={"seed": 3, "model": model, "tokenizer": {}, "objective": objective},
        locking=locking,
    )


def fit(
    module: TrainingModule, steps: int = STEPS, ckpt: Path | None = None, batches: Any = None, **options: Any
) -> lightning.Trainer:
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    data: Any = DataLoader(batches or [batch()] * STEPS, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(module, data, ckpt_path=ckpt, weights_only=None if ckpt is None else True)
    return trainer


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_contrastive_run_logs_the_loss_the_accuracies_and_the_scale() -> None:
    trainer = fit(module_of(CLIP_LOSS), steps=1)
    assert set(trainer.callback_metrics) == {
        f"train/{name}" for name in ("loss", "image_accuracy", "text_accuracy", "logit_scale")
    }


@pytest.mark.parametrize(("precision", "kind"), [("bf16-true", torch.bfloat16), ("64-true", torch.float64)])
def test_weights_of_another_type_train_on_bytes_and_on_floats(precision: str, kind: torch.dtype) -> None:
    """As from a decoder, and as an augmentation on the device gives them. The scale keeps enough bits to move."""
    floats = batch()._replace(images=batch().images.float() / 255)
    module = module_of(CLIP_LOSS)
    trainer = fit(module, batches=[batch(), floats] * 2, precision=precision)
    assert trainer.global_step == STEPS
    weights = {name: value.dtype for name, value in module.model.named_parameters()}
    assert weights.pop("logit_scale") == (torch.float32 if kind == torch.bfloat16 else kind)
    assert set(weights.values()) == {kind}
    assert float(module.model.logit_scale.detach()) not in (2.65625, float(build(MODEL, "model").logit_scale))


def test_parameters_of_an_objective_train_and_decay_like_those_of_the_towers() -> None:
    module = module_of(SUM)
    fresh = {name: value.clone() for name, value in module.objective.state_dict().items()}
    trainer = fit(module)
    assert set(fresh) == {"parts.words.head.weight", "parts.words.head.bias"}
    assert not any(torch.equal(fresh[name], value) for name, value in module.objective.state_dict().items())
    groups = {group["name"]: group for group in trainer.optimizers[0].param_groups}
    assert groups["objective.outer"]["weight_decay"] == DECAY
    assert groups["objective.vectors"]["weight_decay"] == 0
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert {"train/clip/loss", "train/words/loss", "train/words/words_found", "train/clip/logit_scale"} < set(logged)
    assert logged["train/loss"] == pytest.approx(logged["train/clip/loss"] + 2 * logged["train/words/loss"])


def test_resuming_in_the_middle_gives_the_same_bits_also_in_the_head(tmp_path: Path) -> None:
    whole = module_of(SUM)
    fit(whole)
    first = module_of(SUM)
    fit(first, steps=2).save_checkpoint(tmp_path / "last.ckpt")
    resumed = module_of(SUM)
    fit(resumed, ckpt=tmp_path / "last.ckpt")
    assert same(whole, resumed)
    assert not same(whole, first)


def test_a_lock_holds_or_rates_the_objective() -> None:
    locked = module_of(SUM, {"objective": TowerLock(unlocked_groups=0, unfreeze_at_step=2)})
    before = {name: value.clone() for name, value in locked.objective.state_dict().items()}
    fit(locked, steps=2)
    assert all(torch.equal(before[name], value) for name, value in locked.objective.state_dict().items())
    assert not any(p.requires_grad for p in locked.objective.parameters())
    thawed = module_of(SUM, {"objective": TowerLock(unlocked_groups=0, unfreeze_at_step=2)})
    fit(thawed)
    assert not torch.equal(before["parts.words.head.bias"], thawed.objective.state_dict()["parts.words.head.bias"])
    trainer = fit(module_of(SUM, {"objective": TowerLock(lr_multiplier=0.1)}), steps=1)
    rates = {group["name"]: group["lr"] for group in trainer.optimizers[0].param_groups}
    assert rates["objective.outer@0.1"] == pytest.approx(0.001)
    assert rates["image_encoder.outer"] == 0.01


def test_a_checkpoint_serves_with_and_without_the_objective(tmp_path: Path) -> None:
    module = module_of(WORDS)
    trainer = fit(module, steps=2)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    weights = read_pretrained(str(path))
    assert set(weights.state) == set(module.model.state_dict())
    model = build(weights.model, "model")
    load_exactly(model, weights.state, weights.source)
    assert same(model, module.model)
    objective = trained_objective(weights, model)
    assert objective is not None
    assert same(objective, module.objective)
    assert not objective.training
    assert isinstance(objective, Scorer)
    assert objective.score(model.eval(), batch().images, batch().tokens).shape == (6, 6)

    saved = torch.load(path, weights_only=True)
    saved["state_dict"] = {k: v for k, v in saved["state_dict"].items() if k.startswith("model.")}
    torch.save(saved, path)
    alone = read_pretrained(str(path))
    assert set(alone.state) == set(weights.state)
    assert trained_objective(alone, model) is None


def test_an_objective_that_is_no_longer_there_is_left_out_aloud(tmp_path: Path) -> None:
    module = module_of(WORDS)
    module.config["objective"] = {"_target_": "cliplab.objectives.gone.Words"}
    trainer = fit(module, steps=1)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    with pytest.warns(UserWarning, match="used without its objective, which cannot be built"):
        assert trained_objective(read_pretrained(str(tmp_path / "last.ckpt")), module.model) is None


def test_a_run_of_another_grouping_of_parameters_is_refused_with_the_way_on() -> None:
    module = module_of({"_target_": "cliplab.objectives.contrastive.ClipLoss"})
    earlier = {"optimizer_states": [{"param_groups": [{"lr": 1e-3}, {"lr": 1e-3}]}]}
    with pytest.raises(ValueError, match=r"earlier version.*run=<its folder>"):
        module.on_load_checkpoint(earlier)


class Cosines(Objective):
    """Reads the embeddings and not the scale."""

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        assert encoded.image_embeds is not None
        assert encoded.text_embeds is not None
        return Loss(1 - (encoded.image_embeds * encoded.text_embeds).sum(-1).mean(), {})


def test_among_ranks_every_parameter_gets_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else DDP waits for that of the scale; it is zero, and the others are what they are without ranks."""
    gradients = {}
    for ranks in (1, 2):
        monkeypatch.setattr("cliplab.training.module.world_size", lambda ranks=ranks: ranks)
        module = module_of({"_target_": f"{__name__}.Cosines"})
        monkeypatch.setattr(module, "log_dict", lambda *_, **__: None)
        module.training_step(batch(), 0).backward()
        gradients[ranks] = {name: p.grad for name, p in module.model.named_parameters()}
    assert gradients[1].pop("logit_scale") is None
    assert gradients[2].pop("logit_scale") == 0
    assert all(torch.equal(gradient, gradients[2][name]) for name, gradient in gradients[1].items())
