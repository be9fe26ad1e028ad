"""What the benchmarks make, count and compare, on models of a few thousand weights."""

import gc
from typing import Any

import pytest
import torch
from torch import nn

from cliplab.benchmarks import accumulation, checkpointing, image_tower, loss, measuring, text_tower, train_step
from cliplab.benchmarks.batch import Captions, MadeBatch, lengths_of_captions, made_tokens, make_batch
from cliplab.benchmarks.comparing import table
from cliplab.benchmarks.contenders import Contender, ours, peer_of
from cliplab.benchmarks.measuring import LiveBytes, Ratio, in_turn, matrix_speed
from cliplab.benchmarks.operations import attention_operations, image_operations, text_operations
from cliplab.benchmarks.setting import Setting
from cliplab.evaluation.clock import Phases
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError
from tests.models.weights import tiny_config

CPU = Setting(torch.device("cpu"), torch.float32)
PEERS = ("open_clip", "transformers")
CONFIG: dict[str, Any] = {
    "seed": 1,
    "compile": False,
    "model": tiny_config("vit"),
    "objective": {"_target_": "cliplab.objectives.contrastive.ClipLoss"},
    "optimizer": {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-3, "weight_decay": 0.2},
    "trainer": {"accelerator": "cpu", "precision": "32-true"},
}
CAPTIONS = Captions(from_data=False, mean=14, spread=0.5)


@pytest.fixture(scope="module")
def batch() -> MadeBatch:
    return make_batch(CONFIG, None, CAPTIONS, 6)


@pytest.fixture(scope="module")
def contenders(batch: MadeBatch) -> dict[str, Contender]:
    torch.manual_seed(0)
    model = build(CONFIG["model"], "model")
    peers = {name: peer_of(name, CONFIG, batch, CPU, model) for name in PEERS}
    return {"cliplab": ours(CONFIG, batch, CPU, model), **{name: peer for name, peer in peers.items() if peer}}


def test_lengths_have_the_mean_asked_for_and_fit_the_context() -> None:
    lengths = lengths_of_captions(20_000, 14, 0.5, 77, torch.Generator().manual_seed(0))
    assert lengths.double().mean() == pytest.approx(14, abs=0.2)
    assert (int(lengths.min()), int(lengths.max())) == (3, 77)
    assert lengths_of_captions(9, 14, 0.0, 77, torch.Generator()).tolist() == [14] * 9
    assert lengths_of_captions(9, 14, 0.0, 8, torch.Generator()).tolist() == [8] * 9


def test_made_tokens_begin_and_end_as_texts_do() -> None:
    tokens = made_tokens(torch.tensor([3, 6]), 100, torch.Generator().manual_seed(0))
    assert tokens.ids.shape == (2, 6)
    assert tokens.ids[:, 0].tolist() == [98, 98]
    assert [int(tokens.ids[0, 2]), int(tokens.ids[1, 5])] == [99, 99]
    assert tokens.ids[0, 3:].tolist() == [0, 0, 0]
    assert ((tokens.ids[1, 1:5] > 0) & (tokens.ids[1, 1:5] < 98)).all()


def test_captions_of_a_mixture_and_of_an_unknown_vocabulary_are_refused() -> None:
    config = {**CONFIG, "data": {"train": {"_target_": "builtins.list"}}}
    with pytest.raises(ConfigError, match=r"benchmark.from_data: a mixture"):
        make_batch(config, None, Captions(True, 14, 0.5), 6)
    foreign = {**CONFIG, "model": {**CONFIG["model"], "text_encoder": {"context_length": 77}}}
    with pytest.raises(ConfigError, match=r"set benchmark.from_data=true"):
        make_batch(foreign, None, CAPTIONS, 6)


def test_peers_have_our_weights_and_our_batch(contenders: dict[str, Contender]) -> None:
    losses = {}
    for name, contender in contenders.items():
        images, texts, there = contender.load()
        with torch.no_grad():
            losses[name] = float(contender.loss(contender.image(images), contender.text(texts), there))
    assert set(losses) == {"cliplab", *PEERS}
    assert losses["open_clip"] == pytest.approx(losses["cliplab"], abs=1e-4)
    assert losses["transformers"] == pytest.approx(losses["cliplab"], abs=1e-4)


def test_a_step_in_parts_has_the_gradients_of_the_step(contenders: dict[str, Contender]) -> None:
    contender = contenders["cliplab"]
    gradients = []

    class Kept:
        """Stands for the optimizer: keeps the gradients instead of following them."""

        state: dict[Any, Any] = {}

        def step(self) -> None:
            gradients.append([p.grad.clone() for p in contender.model.parameters() if p.grad is not None])

        def zero_grad(self, set_to_none: bool) -> None:
            contender.model.zero_grad(set_to_none=set_to_none)

    kept: Any = contender._replace(optimizer=Kept())  # type: ignore[arg-type]
    phases = Phases(CPU.device)
    train_step.step(kept, CPU)
    train_step.step_in_parts(kept, CPU, phases)
    assert set(phases.seconds()) == set(train_step.PARTS)
    assert len(gradients[0]) == len(list(contender.model.parameters()))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_operations_are_those_of_the_sizes(contenders: dict[str, Contender], batch: MadeBatch) -> None:
    contender, width, layers = contenders["cliplab"], 64, 2
    tokens, rows = int(batch.tokens.lengths.sum()), 6 * 17  # sixteen patches and the class token
    block = 2 * 12 * width**2  # of one row: qkv, out, and two layers of the MLP
    attention = attention_operations(layers, width, batch.tokens.lengths)
    assert attention == 3 * layers * 4 * width * int(batch.tokens.lengths.square().sum())
    text = 3 * (layers * block * tokens + 2 * 6 * width * 32)
    assert text_operations(contender, CPU, batch.tokens.lengths) == text + attention
    patches = 2 * 6 * 16 * 3 * 64 * width  # images get no gradient
    image = 3 * (layers * (block * rows + 4 * width * 6 * 17**2) + 2 * 6 * width * 32) + 2 * patches
    assert image_operations(contender, CPU) == image


def test_live_bytes_are_those_alive_at_once() -> None:
    with LiveBytes() as live:
        a = torch.ones(1000)
        b = a + 1
        del a
        c = b.view(10, 100) * 2
        del b, c
        gc.collect()
        torch.ones(10)
    assert live.peak == 2 * 4000
    layer = nn.Linear(50, 50, bias=False)
    x = torch.ones(10, 50)
    with LiveBytes() as live:
        layer(x).sum().backward()
    assert live.peak >= 4 * (10 * 50 + 50 * 50)


def test_ratio_and_turns() -> None:
    ratio = Ratio.of([2.0, 3.0, 8.0], [1.0, 2.0, 2.0])
    assert str(ratio) == "2.00 (1.50 to 4.00)"
    calls: list[str] = []
    taken = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, 2, CPU)
    assert "".join(calls) == "aabbaabb"
    assert [len(taken["a"]), len(taken["b"])] == [2, 2]
    assert matrix_speed(CPU, side=64) > 1e6


def test_table_has_a_column_for_each() -> None:
    assert table({"ms": {"x": 1.0}, "ratio": {"y": "2"}}, ["x", "y"]) == [
        {"figure": "ms", "x": 1.0, "y": "-"},
        {"figure": "ratio", "x": "-", "y": "2"},
    ]


def test_precisions_that_are_not_measured_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer.precision: '16-mixed' is not measured"):
        Setting.of({"trainer": {"accelerator": "cpu", "precision": "16-mixed"}}, None)


FIGURES = {"ms", "peak memory, MiB", "share of the device's matrix products, %", "cliplab is times as fast"}
COMMON: dict[str, Any] = {"config": CONFIG, "batch_size": 4, "rounds": 1, "steps": 1, "threads": None}
TEXTS: dict[str, Any] = {"tokenizer": None, "from_data": False, "mean_tokens": 6.0, "spread": 0.3}


def test_each_benchmark_measures_ours_and_its_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SIDE_ELSEWHERE", 64)
    found = {
        "train": train_step.measure(**COMMON, **TEXTS, peers=["open_clip"]),
        "text": text_tower.measure(**COMMON, **TEXTS, peers=["transformers"]),
        "image": image_tower.measure(**COMMON, peers=["open_clip"]),
    }
    for name, measured in found.items():
        figures = {row["figure"] for row in measured.rows}
        assert figures >= FIGURES, name
        assert len(measured.rows[0]) == 3, "the figure, ours, and one peer"
        assert "times as fast as" in measured.summary
        assert all(isinstance(row[key], float) for row in measured.rows[:1] for key in list(row)[1:])
    parts = {f"{part}, ms" for part in train_step.PARTS}
    assert {row["figure"] for row in found["train"].rows} >= parts | {"images/s", "tokens/s"}
    assert found["train"].facts["operations"] > 0


def test_losses_are_measured_by_pairs_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SIDE_ELSEWHERE", 64)
    config = {**CONFIG, "objective": {**CONFIG["objective"], "block_size": None}}
    told = {**COMMON, "config": config, "block_sizes": [None, 32], "whole_up_to": 256}
    rows = loss.measure(**told | {"batch_size": [64, 256, 512]}).rows
    names = ["cliplab", "cliplab, 32", "open_clip"]
    assert [(row["pairs"], row["loss"]) for row in rows] == [
        *((64, name) for name in names),
        *((256, name) for name in names),
        (512, "cliplab, 32"),
    ]
    peaks = {(row["pairs"], row["loss"]): row["peak memory, MiB"] for row in rows}
    assert peaks[256, "cliplab"] > 256**2 * 4 / 2**20
    assert peaks[512, "cliplab, 32"] < peaks[256, "cliplab"]
    assert len(loss.measure(**told | {"batch_size": 64}).rows) == 3
    assert [row["loss"] for row in loss.measure(**told | {"config": CONFIG}).rows] == ["cliplab", "open_clip"]
    with pytest.raises(ConfigError, match=r"benchmark.batch_size: 300 pairs are more than benchmark.whole_up_to=256"):
        loss.measure(**told | {"batch_size": 300, "block_sizes": [None]})


def test_what_saves_memory_is_measured_by_its_memory() -> None:
    text = {**CONFIG["model"]["text_encoder"], "vocab_size": 100}
    config = {**CONFIG, "model": {**CONFIG["model"], "text_encoder": text}}
    for benchmark, name, choices in (
        (checkpointing, "activation_checkpointing", ["none", "2", "all"]),
        (accumulation, "contrastive_accumulation", ["1", "2", "4", "8"]),
    ):
        told = COMMON | {"config": config, "batch_size": 64}
        rows = benchmark.measure(**told, **TEXTS, peers=[]).rows
        assert [row[name] for row in rows] == choices
        assert rows[-1]["peak memory, MiB"] < rows[0]["peak memory, MiB"]
        traced = benchmark.measure(**told, **TEXTS, peers=[], traced=True).rows
        assert [row.keys() for row in traced] == [row.keys() - {"ms", "times as long"} for row in rows]
        batch_mib = 64 * 3 * 32**2 / 2**20  # a traced step copies its batch
        for row, counted in zip(traced, rows, strict=True):
            assert row["peak memory, MiB"] == pytest.approx(counted["peak memory, MiB"] + batch_mib, rel=0.03)
