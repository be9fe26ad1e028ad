"""On the same random weights: the embeddings, logits and gradients of open_clip and of transformers."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cliplab.checkpoints.openai import to_openai
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.models.clip import CLIP
from cliplab.models.tokens import Tokens

from .weights import open_clip_twin, tiny, tiny_config, transformers_twin

TEXTS = ["a photo of a cat", "", "two dogs run on a long beach at dawn, barking " * 3, "x" * 400, "猫 and 🦊!"]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def images_for(model: CLIP) -> Tensor:
    size = model.image_size
    return torch.rand(5, 3, size, size, generator=torch.Generator().manual_seed(2))


def padded(tokens: Tokens) -> Tensor:
    return F.pad(tokens.ids, (0, 77 - tokens.ids.shape[1]))


def normalised(model: CLIP, images: Tensor) -> Tensor:
    return (images - model.image_mean) / model.image_std


@pytest.mark.parametrize("kind", ["vit", "resnet"])
@pytest.mark.parametrize("training", [False, True])
def test_open_clip_embeddings_logits_and_gradients(kind: str, training: bool) -> None:
    model = tiny(kind).train(training)
    twin = open_clip_twin(model, tiny_config(kind)).train(training)
    images, tokens = images_for(model), CLIPTokenizer(77)(TEXTS)
    out = model(images, tokens)
    image_embeds, text_embeds, scale = twin(normalised(model, images), padded(tokens))
    torch.testing.assert_close(out.image_embeds, image_embeds, **CLOSE)
    torch.testing.assert_close(out.text_embeds, text_embeds, **CLOSE)
    logits = out.logit_scale * out.image_embeds @ out.text_embeds.T
    their_logits = scale * image_embeds @ text_embeds.T
    torch.testing.assert_close(logits, their_logits, rtol=1e-5, atol=1e-4)

    labels = torch.arange(5)
    F.cross_entropy(logits, labels).backward()
    F.cross_entropy(their_logits, labels).backward()
    gradients = to_openai(tiny_config(kind), {name: p.grad for name, p in model.named_parameters()})
    theirs = {name: p.grad for name, p in twin.named_parameters()}
    assert gradients.keys() == theirs.keys()
    for name, gradient in gradients.items():
        limit = max(1e-5, 1e-4 * float(theirs[name].abs().max()))
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=limit, msg=lambda m, n=name: f"{n}: {m}")


def test_transformers_embeddings_and_logits(tmp_path: Path) -> None:
    model = tiny("vit").eval()
    twin = transformers_twin(model, tiny_config("vit"), tmp_path)
    images, tokens = images_for(model), CLIPTokenizer(77)(TEXTS)
    with torch.no_grad():
        out = model(images, tokens)
        theirs = twin(input_ids=padded(tokens), pixel_values=normalised(model, images))
    torch.testing.assert_close(out.image_embeds, theirs.image_embeds, **CLOSE)
    torch.testing.assert_close(out.text_embeds, theirs.text_embeds, **CLOSE)
    logits = out.logit_scale * out.image_embeds @ out.text_embeds.T
    torch.testing.assert_close(logits, theirs.logits_per_image, rtol=1e-5, atol=1e-4)
