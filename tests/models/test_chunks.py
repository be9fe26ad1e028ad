"""A batch in chunks has the loss and the gradients of the whole batch, and keeps the activations of one chunk."""

import copy
from collections.abc import Set
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from cliplab.models.chunks import OF_IMAGES, OF_TEXTS, encode_in_chunks, split_tokens
from cliplab.models.clip import CLIP, EMBEDS, Encoded
from cliplab.models.modified_resnet import ModifiedResNet
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.tokens import Tokens
from cliplab.models.vision_transformer import VisionTransformer
from cliplab.objectives.contrastive import ClipLoss, SigmoidLoss

from .test_states import IMAGE_TOWERS, SIZES, TEXT, TEXT_TOWERS

ALL = OF_IMAGES | OF_TEXTS
LENGTHS = torch.tensor([5, 3, 4, 2, 6, 3, 4])


def pairs(size: int) -> tuple[Tensor, Tokens]:
    torch.manual_seed(1)
    ids = torch.randint(3, 20, (7, 6)) * (torch.arange(6) < LENGTHS.unsqueeze(1))
    return torch.rand(7, 3, size, size, dtype=torch.float64), Tokens(ids, LENGTHS).with_places()


def model_of(image: Any, text: Any = None) -> CLIP:
    torch.manual_seed(0)
    towers = image(), (text or (lambda: TextTransformer(**TEXT)))()
    return CLIP(*towers, embed_dim=8, init_logit_bias=-10.0).double()


def gradients(model: CLIP, chunks: int, objective: Any, reads: Set[str] = EMBEDS) -> dict[str, Tensor]:
    images, tokens = pairs(model.image_size)
    torch.manual_seed(2)
    encoded = (
        encode_in_chunks(model, images, split_tokens(tokens, chunks), reads) if chunks else model(images, tokens, reads)
    )
    loss = objective(encoded)
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found
    return {"loss": loss.detach(), **found}


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-9, atol=1e-12, msg=name)


def of_states(encoded: Encoded) -> Tensor:
    """Reads everything that a tower may give."""
    assert encoded.image_states is not None
    assert encoded.text_states is not None
    weights = torch.linspace(-1, 1, 7, dtype=torch.float64)
    sums = [t.flatten(1).square().sum(1) for t in (encoded.image_states.patches, encoded.text_states.tokens)]
    sums += [encoded.image_embeds[:, 0], encoded.text_states.pooled[:, 1], encoded.text_states.lengths.double()]  # type: ignore[index]
    return encoded.logit_scale * sum(weights @ one.double() for one in sums)


@pytest.mark.parametrize("chunks", [1, 3, 7])
@pytest.mark.parametrize("loss", [ClipLoss(), SigmoidLoss()])
def test_gradients_are_those_of_the_whole_batch(loss: Any, chunks: int) -> None:
    model = model_of(lambda: VisionTransformer(image_size=16, patch_size=8, **SIZES))
    whole = gradients(copy.deepcopy(model), 0, lambda encoded: loss(encoded, None).loss)
    ours = gradients(model, chunks, lambda encoded: loss(encoded, None).loss)
    assert "logit_scale" in ours
    assert ("logit_bias" in ours) == isinstance(loss, SigmoidLoss)
    assert_equal(ours, whole)


@pytest.mark.parametrize(
    ("image", "text"), [("vit", "clip"), ("siglip", "siglip"), ("hf vit", "hf bert"), ("timm test_vit", "clip")]
)
def test_states_of_all_places_too(image: str, text: str) -> None:
    model = model_of(IMAGE_TOWERS[image][0], TEXT_TOWERS[text]).eval()
    assert_equal(gradients(copy.deepcopy(model), 3, of_states, ALL), gradients(model, 0, of_states, ALL))


def one_after_the_other(model: CLIP, images: Tensor, tokens: Tokens) -> Encoded:
    parts = [model(part, tokens, frozenset({"image_embeds"})) for part in images.tensor_split(3)]
    parts += [model(images, part, frozenset({"text_embeds"})) for part in split_tokens(tokens, 3)]
    embeds = [torch.cat([part[i] for part in half]) for i, half in enumerate((parts[:3], parts[3:]))]  # type: ignore[misc]
    return Encoded(embeds[0], embeds[1], model.logit_scale.float().exp())


def test_draws_and_running_statistics_are_those_of_the_chunks_each_once() -> None:
    model = model_of(lambda: VisionTransformer(image_size=32, patch_size=8, **SIZES, patch_dropout=0.5))
    resnet = model_of(lambda: ModifiedResNet(image_size=64, layers=[1, 1, 1, 1], width=8, heads=4, output_dim=8))
    for image in (model, resnet):
        plain = copy.deepcopy(image).train()
        images, tokens = pairs(image.image_size)
        torch.manual_seed(2)
        loss = ClipLoss()(one_after_the_other(plain, images, tokens), None).loss  # type: ignore[arg-type]
        loss.backward()
        ours = gradients(image.train(), 3, lambda encoded: ClipLoss()(encoded, None).loss)  # type: ignore[arg-type]
        assert_equal(
            ours, {"loss": loss.detach(), **{n: p.grad for n, p in plain.named_parameters() if p.grad is not None}}
        )
        assert all(torch.equal(a, b) for a, b in zip(image.buffers(), plain.buffers(), strict=True))


def kept_bytes(model: CLIP, chunks: int) -> int:
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        images, tokens = pairs(model.image_size)
        alive = encode_in_chunks(model, images, split_tokens(tokens, chunks)) if chunks else model(images, tokens)
    assert alive.image_embeds is not None
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    return sum(size for place, size in kept.items() if place not in weights)


def test_a_chunk_keeps_little_and_a_frozen_tower_is_not_computed_again() -> None:
    model = model_of(lambda: VisionTransformer(image_size=16, patch_size=8, **SIZES))
    assert kept_bytes(model, 7) < kept_bytes(model, 0) / 2
    model.image_encoder.requires_grad_(False)
    calls = dict.fromkeys((model.image_encoder, model.text_encoder), 0)

    def count(tower: nn.Module, *_: Any) -> None:
        calls[tower] += 1  # type: ignore[index]

    for tower in calls:
        tower.register_forward_hook(count)
    gradients(model, 3, lambda encoded: ClipLoss()(encoded, None).loss)  # type: ignore[arg-type]
    assert list(calls.values()) == [3, 6]


def test_texts_are_split_with_the_places_of_their_tokens() -> None:
    _, tokens = pairs(8)
    parts = split_tokens(tokens, 3)
    assert [len(part.ids) for part in parts] == [3, 2, 2]
    for part in parts:
        assert part.places is not None
        assert part.places.tolist() == Tokens(part.ids, part.lengths).real_places().tolist()
    assert len(split_tokens(tokens._replace(places=None), 9)) == 7
