"""Schedules at known steps; which parameters decay."""

import pytest

from cliplab.models.text_transformer import TextTransformer
from cliplab.optim.param_groups import param_groups
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


def test_matrices_decay_gains_biases_and_vectors_do_not() -> None:
    model = TextTransformer(vocab_size=50, context_length=8, width=8, layers=1, heads=2, output_dim=4)
    names = {id(p): name for name, p in model.named_parameters()}
    decay, rest = ({names[id(p)] for p in group["params"]} for group in param_groups(model, 0.2))
    assert [group["weight_decay"] for group in param_groups(model, 0.2)] == [0.2, 0.0]
    assert decay | rest == set(names.values())
    assert not decay & rest
    assert all(name.endswith("bias") or "ln_" in name for name in rest)
    assert {"token_embedding.weight", "blocks.0.mlp_in.weight", "projection"} <= decay


def test_frozen_parameters_are_left_out() -> None:
    model = TextTransformer(vocab_size=50, context_length=8, width=8, layers=1, heads=2, output_dim=4)
    model.token_embedding.weight.requires_grad = False
    kept = [p for group in param_groups(model, 0.2) for p in group["params"]]
    assert len(kept) == len(list(model.parameters())) - 1
