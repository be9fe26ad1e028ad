"""A step without values counts what a real one holds; other sizes and other ranks have known answers."""

from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.contenders import ours
from cliplab.benchmarks.setting import Setting
from cliplab.benchmarks.train_step import step
from cliplab.planning.scaling import Scaled, Size, largest, sizes_to_trace
from cliplab.planning.step import Traced, Workload, _made, trace
from cliplab.planning.tracer import FLOPS, SENT_EMBEDDINGS, SENT_GRADIENTS
from cliplab.settings.build import build
from tests.models.weights import tiny_config

WIDTH = 32  # of the joint space


def config(kind: str = "vit", **trainer: Any) -> dict[str, Any]:
    return {
        "seed": 1,
        "compile": False,
        "model": tiny_config(kind, vocab_size=1000),
        "objective": {"_target_": "cliplab.objectives.contrastive.ClipLoss", "block_size": None},
        "optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-3, "fused": True},
        "locking": {},
        "trainer": {"strategy": "auto", "precision": "32-true", "accelerator": "cpu", **trainer},
    }


def workload(config: dict[str, Any], ranks: int = 1, packed: bool | None = True) -> Workload:
    objective = build(config["objective"], "objective")
    return Workload(config, objective, ranks, 14, 0.5, packed, lambda flops, moved, dtype: 0.0)


def peak(traced: Traced) -> float:
    return max(sum(parts.values()) for parts in traced.peaks.values())


def measured_peak(config: dict[str, Any], pairs: int) -> int:
    """What the allocator of the CPU gave out at most during a real step, and what was held before."""
    batch, _, _ = _made(workload(config), pairs)
    contender = ours(
        config, MadeBatch(batch.images.clone(), batch.tokens, batch.groups), CPU, build(config["model"], "model")
    )
    step(contender, CPU)
    held = sum(x.numel() * x.element_size() for x in [*contender.held(), batch.images])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step(contender, CPU)
    alive = highest = 0
    for event in profiled.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            alive += event.nbytes()
            highest = max(highest, alive)
    return held + highest


CPU = Setting(torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_a_step_without_values_holds_what_a_real_one_does(kind: str) -> None:
    here = config(kind)
    traced, measured = peak(trace(workload(here, packed=None), 64)), measured_peak(here, 64)
    print(traced, measured)
    assert traced == pytest.approx(measured, rel=0.1)


@pytest.fixture(scope="module")
def alone() -> Traced:
    return trace(workload(config()), 64)


def test_parts_have_their_sizes(alone: Traced) -> None:
    weights = 4 * alone.parameters
    at_optimizer = alone.peaks["optimizer"]
    assert alone.gradients == weights
    assert at_optimizer["weights"] == pytest.approx(weights, abs=100)
    assert at_optimizer["gradients"] == weights
    assert at_optimizer["optimizer state"] == pytest.approx(2 * weights, rel=0.001)
    assert 1 < at_optimizer["batch"] / (64 * 3 * 32**2) < 1.2  # the pictures, and little more for the texts
    assert alone.peaks["loss"]["activations"] > 0.9 * alone.peaks["forward"]["activations"]
    assert SENT_GRADIENTS not in alone.work


def test_settings_that_save_memory_do(alone: Traced) -> None:
    checkpointed = trace(workload(config(activation_checkpointing="all")), 64)
    chunked = trace(workload(config(contrastive_accumulation=4)), 64)
    half = trace(workload(config(precision="bf16-mixed")), 64)
    for saving in (checkpointed, chunked, half):
        assert peak(saving) < 0.8 * peak(alone)
    assert trace(workload(config(precision="bf16-true")), 64).gradients == pytest.approx(alone.gradients / 2, abs=10)
    assert checkpointed.work[FLOPS] > 1.2 * alone.work[FLOPS]
    assert half.work[FLOPS] < alone.work[FLOPS]  # attention over packed texts, which float32 pads


def test_ranks_hold_their_logits_and_shards(alone: Traced) -> None:
    ranks, pairs = 4, 64
    whole = trace(workload(config(), ranks), pairs)
    assert whole.work[SENT_EMBEDDINGS] == 2 * (3 / 4 + 2 * 3 / 4) * ranks * pairs * WIDTH * 4  # gathered, and gradients
    assert sum(whole.peaks["loss"].values()) > sum(alone.peaks["loss"].values())
    shared = trace(workload(config(strategy="fsdp"), ranks), pairs)
    at_optimizer = shared.peaks["optimizer"]
    assert at_optimizer["weights"] == pytest.approx(alone.parameters, rel=0.01)  # four bytes, a quarter of them
    assert at_optimizer["optimizer state"] == pytest.approx(2 * alone.parameters, rel=0.01)
    assert at_optimizer["gradients"] == pytest.approx(alone.parameters, rel=0.01)
    model = build(config()["model"], "model")
    layers = [*model.image_encoder.layers(), *model.text_encoder.layers()]
    blocks = sum(p.numel() for layer in layers for p in layer.parameters())
    sent = 3 * blocks + 2 * (alone.parameters - blocks)  # a block is gathered again for its backward; then its gradient
    assert shared.work[SENT_GRADIENTS] == pytest.approx(3 / 4 * 4 * sent, rel=0.01)
    assert shared.peaks["forward"]["gathered"] > 0


@pytest.mark.parametrize("chunks", [1, 2])
def test_other_sizes_follow_from_those_traced(chunks: int) -> None:
    here = workload(config(contrastive_accumulation=chunks))
    scaled = Scaled(
        {
            size: trace(here._replace(config=config(contrastive_accumulation=size.chunks)), size.pairs)
            for size in sizes_to_trace(64, chunks)
        }
    )
    computed, traced = scaled.at(Size(640, chunks)), trace(here, 640)
    for phase, parts in traced.peaks.items():
        assert sum(computed.peaks[phase].values()) == pytest.approx(sum(parts.values()), rel=0.02), phase
    assert computed.work[FLOPS] == pytest.approx(traced.work[FLOPS], rel=0.01)


def test_the_largest_that_fits() -> None:
    assert [largest(lambda pairs, most=most: pairs <= most) for most in (0, 1, 2, 77, 4096)] == [0, 1, 2, 77, 4096]
