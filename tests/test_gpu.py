"""What only an NVIDIA GPU can show: the CPU's numbers, and no waiting for the device in a training step."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cliplab.data.loader import Batch
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import BatchAffine
from cliplab.evaluation.batches import EvaluationImages, embed_images
from cliplab.evaluation.clock import Phases
from cliplab.models import layers
from cliplab.models.clip import CLIP
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.tokens import Tokens
from cliplab.objectives.contrastive import ClipLoss, GroupedClipLoss, MaskedClipLoss, SigmoidLoss
from tests.evaluation.toys import Labelled, prepared
from tests.models.weights import built, tiny, tiny_config

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

GPU = torch.device("cuda", 0)
TEXTS = [
    "a photo of a cat",
    "",
    "two dogs run on a long beach at dawn, barking " * 3,
    "x" * 400,
    "猫 and 🦊!",
    "a photo",
]


def far(a: Tensor, b: Tensor) -> float:
    """The norm of the difference over the norm of ``b``."""
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    assert a.isfinite().all()
    return float((a - b).norm() / b.norm())


def batch_of(model: CLIP, size: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(256, (size, 3, model.image_size, model.image_size), dtype=torch.uint8, generator=generator)
    tokens = CLIPTokenizer(77)((TEXTS * size)[:size]).with_places()
    index = torch.arange(size)
    return Batch(images, tokens, index, index, index % 5, [], 0, [])


def on_gpu(batch: Batch) -> Batch:
    return batch._replace(images=batch.images.to(GPU), tokens=batch.tokens.to(GPU), groups=batch.groups.to(GPU))


@pytest.fixture(autouse=True)
def _whole_float32() -> Iterator[None]:
    """Convolutions of float32 in float32; torch's default on a GPU is TF32."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


@pytest.fixture
def strict() -> Iterator[None]:
    """Whatever waits for the device raises."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("heads", [2, 16])  # heads of width 32, and of 4, for which there is no packed attention
@pytest.mark.parametrize(("precision", "most"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_packed_text_and_its_gradients(heads: int, precision: str, most: float) -> None:
    tower = TextTransformer(vocab_size=49_408, context_length=77, width=64, layers=3, heads=heads, output_dim=16)
    tokens, weights = CLIPTokenizer(77)(TEXTS), torch.randn(len(TEXTS), 16)
    exact = copy.deepcopy(tower).double()
    (exact(tokens) * weights).sum().backward()
    tower.to(GPU)
    with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
        out = tower(tokens.with_places().to(GPU))
    (out.float() * weights.to(GPU)).sum().backward()
    with torch.no_grad():
        assert far(out, exact(tokens)) < most
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            assert far(tower(tokens.to(GPU)), exact(tokens)) < most  # shared beginnings
    for (name, p), q in zip(tower.named_parameters(), exact.parameters(), strict=True):
        assert far(p.grad, q.grad) < 10 * most, name


def test_packed_attention_is_that_of_the_padded_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = TextTransformer(vocab_size=49_408, context_length=77, width=64, layers=3, heads=2, output_dim=16).to(GPU)
    tokens, found = CLIPTokenizer(77)(TEXTS).to(GPU), []
    for packed in (True, False):
        monkeypatch.setattr(layers, "has_packed_attention", lambda device, packed=packed: packed)
        tower.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            out = tower(tokens)
        out.float().sum().backward()
        found.append((out, [p.grad.clone() for p in tower.parameters()]))
    (packed_out, packed_grads), (padded_out, padded_grads) = found
    print("packed against padded attention:", far(packed_out, padded_out))
    assert far(packed_out, padded_out) < 5e-3
    assert all(far(a, b) < 2e-2 for a, b in zip(packed_grads, padded_grads, strict=True))


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_embeddings_are_the_cpus(kind: str) -> None:
    model = tiny(kind).eval()
    batch = batch_of(model)
    with torch.no_grad():
        expected = model(batch.images, batch.tokens)
        model.to(GPU)
        out = model(*on_gpu(batch)[:2])
        with torch.autocast("cuda", torch.bfloat16):
            half = model(*on_gpu(batch)[:2])
    for mine, rough, theirs in zip(out[:2], half[:2], expected[:2], strict=True):
        print(kind, far(mine, theirs), far(rough, theirs))
        assert far(mine, theirs) < 1e-4
        assert far(rough, theirs) < 3e-2
        assert rough.dtype == torch.float32


@pytest.mark.parametrize("objective", [ClipLoss, GroupedClipLoss, MaskedClipLoss, SigmoidLoss])
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_three_steps_are_the_cpus(objective: Callable[[], Any], kind: str) -> None:
    losses: list[float] = []
    for device in (torch.device("cpu"), GPU):
        model = built({**tiny_config(kind), "init_logit_bias": -10.0}).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        batch = batch_of(model)
        batch = on_gpu(batch) if device == GPU else batch
        for _ in range(3):
            loss = objective()(model(batch.images, batch.tokens), batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            losses.append(float(objective()(model(batch.images, batch.tokens), batch).loss))
    print(kind, objective, losses)
    assert losses[1] == pytest.approx(losses[0], rel=1e-2 if kind == "vit" else 5e-2)  # batch norm over six pictures


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("objective", [ClipLoss, GroupedClipLoss])
def test_a_step_never_waits_for_the_device(
    kind: str, precision: str, objective: Callable[[], Any], request: pytest.FixtureRequest
) -> None:
    model = tiny(kind).to(GPU)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    pinned = batch_of(model)
    pinned = pinned._replace(images=pinned.images.pin_memory(), groups=pinned.groups.pin_memory())
    pinned = pinned._replace(tokens=Tokens(*(x.pin_memory() for x in pinned.tokens if x is not None)))

    def step() -> None:
        batch = pinned._replace(
            images=pinned.images.to(GPU, non_blocking=True),
            groups=pinned.groups.to(GPU, non_blocking=True),
            tokens=pinned.tokens.to(GPU),
        )
        numbers = np.arange(len(batch.images))
        augmented = BatchAffine(0.1, 0.1)(batch.images, seed=1, epochs=numbers, indices=numbers)
        with torch.autocast("cuda", torch.bfloat16, enabled=precision == "bf16"):
            loss = objective()(model(augmented, batch.tokens), batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.keep_in_range()

    step()
    request.getfixturevalue("strict")
    step()


def test_augmentation_is_the_cpus() -> None:
    images = torch.randint(256, (9, 3, 32, 32), dtype=torch.uint8)
    arguments: dict[str, Any] = {"seed": 1, "epochs": np.arange(9), "indices": np.arange(9)}
    affine = BatchAffine(0.1, 0.2, 30)
    assert (affine(images.to(GPU), **arguments).cpu() - affine(images, **arguments)).abs().max() < 1e-4


def test_evaluation_copies_ahead_and_gives_the_cpus_numbers() -> None:
    images: EvaluationImages = prepared(Labelled([i % 3 for i in range(50)], ["a", "b", "c"]), batch_size=4)

    class Pixels:
        text_fixed = False

        def encode_image(self, images: Tensor) -> Tensor:
            for _ in range(20):  # keep the device busy while the next batch is copied
                torch.randn(500, 500, device=images.device).mm(torch.randn(500, 500, device=images.device))
            return images.flatten(1).float()

    phases = Phases(GPU)
    found, targets = embed_images(Pixels(), images, GPU, phases)  # type: ignore[arg-type]
    assert found[:, 0].tolist() == [float(i) for i in range(50)]
    assert targets == [i % 3 for i in range(50)]
    assert phases.seconds()["images"] > 0
