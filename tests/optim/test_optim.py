"""Schedules at known steps; which parameters decay."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import AdamW

from cliplab.assembly.training_checks import fitting_schedule
from cliplab.models.clip import CLIP
from cliplab.models.encoders import LayeredModule
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.vision_transformer import VisionTransformer
from cliplab.optim.param_groups import build_optimizer, is_vector, parameter_groups
from cliplab.optim.schedule import constant, cosine, linear


@pytest.mark.parametrize(
    ("step", "expected"), [(0, 0.1), (4, 0.5), (9, 1.0), (10, 1.0), (60, 0.5), (110, 0.0), (500, 0.0)]
)
@pytest.mark.parametrize("schedule", [cosine, linear])
def test_warm_up_then_down_to_zero(schedule, step: int, expected: float) -> None:
    assert schedule(step, total_steps=110, warmup_steps=10) == pytest.approx(expected, abs=1e-12)


def test_cosine_lies_above_linear_first_and_ends_at_its_floor() -> None:
    assert cosine(35, total_steps=110, warmup_steps=10) == pytest.approx(0.5 * (1 + 0.5**0.5))
    assert linear(35, total_steps=110, warmup_steps=10) == pytest.approx(0.75)
    assert cosine(110, total_steps=110, warmup_steps=10, min_ratio=0.1) == pytest.approx(0.1)
    assert constant(99, total_steps=110, warmup_steps=10) == 1


@pytest.mark.parametrize("schedule", [cosine, linear, constant])
def test_warm_up_longer_than_training_is_refused(schedule) -> None:
    with pytest.raises(ValueError, match="warmup_steps 10 leaves nothing of 10 training steps"):
        schedule(0, total_steps=10, warmup_steps=10)


def small() -> CLIP:
    image = VisionTransformer(image_size=16, patch_size=8, width=8, layers=2, heads=2, output_dim=4)
    text = TextTransformer(vocab_size=50, context_length=8, width=8, layers=1, heads=2, output_dim=4)
    return CLIP(image, text, embed_dim=4)


@pytest.mark.parametrize(
    ("shape", "vector"),
    [((), True), ((8,), True), ((1, 1, 8), True), ((1, 5, 8), False), ((1, 8), False), ((8, 1, 3, 3), False)],
)
def test_a_class_token_of_another_library_does_not_decay(shape: tuple[int, ...], vector: bool) -> None:
    assert is_vector(nn.Parameter(torch.zeros(shape))) is vector


class Head(LayeredModule):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)


def test_matrices_decay_gains_biases_and_vectors_do_not() -> None:
    model = small()
    names = {id(p): name for name, p in model.named_parameters()}
    optimizer = build_optimizer(partial(AdamW, lr=0.1, weight_decay=0.2), parameter_groups(model, LayeredModule()))
    decays = {names[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert set(decays) == set(names.values())
    assert set(decays.values()) == {0.2, 0.0}
    still = {name for name, decay in decays.items() if decay == 0}
    assert all(name.endswith("bias") or ".ln_" in name or name.endswith(("class_embedding", "scale")) for name in still)
    assert not any("embedding.weight" in name or name.endswith(("projection", "mlp_in.weight")) for name in still)


def test_groups_are_named_by_part_and_role() -> None:
    model, head = small(), Head()
    groups = {group["name"]: group for group in parameter_groups(model, head)}
    assert list(groups) == [
        *("image_encoder.outer", "text_encoder.outer", "objective.outer"),
        *("image_encoder.hidden", "text_encoder.hidden"),
        *("model.vectors", "image_encoder.vectors", "text_encoder.vectors", "objective.vectors"),
    ]
    tower = model.text_encoder
    outer = [tower.positional_embedding, tower.projection, tower.token_embedding.weight]
    assert [id(p) for p in groups["text_encoder.outer"]["params"]] == [id(p) for p in outer]
    assert len(groups["image_encoder.hidden"]["params"]) == 2 * 4, "the four matrices of each block"
    assert groups["model.vectors"]["params"] == [model.logit_scale]
    assert groups["objective.outer"]["params"] == [head.linear.weight]


def test_frozen_parameters_are_left_out() -> None:
    model = small()
    token_embedding = model.text_encoder.token_embedding.weight
    token_embedding.requires_grad = False
    kept = {p for group in parameter_groups(model, LayeredModule()) for p in group["params"]}
    assert kept == set(model.parameters()) - {token_embedding}
    later = parameter_groups(model, LayeredModule(), frozen_for_now={token_embedding})
    assert sum(len(group["params"]) for group in later) == len(list(model.parameters()))


def test_a_warm_up_that_outlasts_the_run_takes_a_quarter_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    node = {"_target_": "cliplab.optim.schedule.cosine", "warmup_steps": 50}
    assert fitting_schedule(node, 51) == node
    assert capsys.readouterr().out == ""
    fitted = fitting_schedule(node, 24)
    assert capsys.readouterr().out == (
        "scheduler.warmup_steps: 50 would outlast the 24 steps of this run; 6 are used, a quarter of them\n"
    )
    rates = [cosine(step, total_steps=24, warmup_steps=fitted["warmup_steps"]) for step in range(24)]
    assert rates[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert rates[6:] == sorted(rates[6:], reverse=True)
    assert rates[15] == pytest.approx(0.5)
    assert fitting_schedule(node, 3)["warmup_steps"] == 0
