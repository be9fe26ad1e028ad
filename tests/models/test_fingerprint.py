"""A fingerprint changes with whatever changes an embedding, and with nothing else."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from cliplab.data.tokenizers import CLIPTokenizer, SiglipTokenizer
from cliplab.data.transforms import CropTransform, EvalTransform, FitTransform, SquashTransform
from cliplab.models.fingerprint import model_fingerprint
from cliplab.models.hf_text import HFTextEncoder
from cliplab.models.pooling import FirstPooling, LastPooling, MeanPooling
from tests.models.hf_toys import ARCHITECTURES, save_tokenizer
from tests.models.weights import built, tiny_config

TOKENIZER, TRANSFORM = CLIPTokenizer(77), EvalTransform(32)


def of(config: dict[str, Any], tokenizer: Any = TOKENIZER, transform: Any = TRANSFORM) -> str:
    return model_fingerprint(built(config), tokenizer, transform)


def changed(place: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(tiny_config("vit"))
    node = config
    *parents, key = place.split(".")
    for parent in parents:
        node = node[parent]
    node[key] = value
    return config


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("image_encoder.activation", "gelu"),
        ("text_encoder.activation", "gelu_tanh"),
        ("image_encoder.heads", 2),
        ("text_encoder.heads", 4),
        ("image_encoder.norm_eps", 1e-6),
        ("text_encoder.norm_eps", 1e-6),
        ("image_mean", [0.5, 0.5, 0.5]),
        ("image_std", [0.5, 0.5, 0.5]),
        ("init_logit_bias", -1.0),
    ],
)
def test_settings_that_no_weight_shows(place: str, value: Any) -> None:
    assert of(changed(place, value)) != of(tiny_config("vit"))


def test_preparation_tokens_and_types(tmp_path: Any) -> None:
    config = tiny_config("vit")
    siglip = {"source": str(save_tokenizer(tmp_path)), "context_length": 77}
    definition = SiglipTokenizer(**siglip).definition
    transforms = [TRANSFORM, EvalTransform(32, 40), EvalTransform(32, interpolation="bilinear"), SquashTransform(32)]
    transforms += [
        EvalTransform(32, crop_rounding="down"),
        FitTransform(32),
        FitTransform(32, fill=9),
        CropTransform(32),
    ]
    transforms += [SquashTransform(32, (40, 36)), SquashTransform(32, interpolation="box")]
    tokenizers = [TOKENIZER, CLIPTokenizer(20), CLIPTokenizer(77, clean="canonicalize"), SiglipTokenizer(**siglip)]
    tokenizers += [SiglipTokenizer(**siglip, clean="none"), SiglipTokenizer(**{**siglip, "context_length": 9})]
    tokenizers += [SiglipTokenizer(**siglip, definition={**definition, key: value}) for key, value in OTHERWISE.items()]
    found = [of(config, transform=transform) for transform in transforms]
    found += [of(config, tokenizer=tokenizer) for tokenizer in tokenizers[1:]]
    found.append(model_fingerprint(built(config).bfloat16(), TOKENIZER, TRANSFORM))
    assert len(set(found)) == len(found) == 10 + 8 + 1


OTHERWISE = {"pad_id": 3, "padding_side": "left", "truncation_side": "left"}


def of_tower(
    family: str = "roberta",
    pooling: type[nn.Module] = MeanPooling,
    states: list[int] | None = None,
    **architecture: Any,
) -> str:
    torch.manual_seed(0)
    tower = HFTextEncoder(
        architecture={**ARCHITECTURES[family], **architecture},
        source=None,
        pretrained=False,
        context_length=16,
        pooling=pooling(),
        projection=nn.Linear,
        output_dim=8,
        hidden_states=states,
    )
    return model_fingerprint(tower, TOKENIZER, TRANSFORM)


def test_settings_of_a_foreign_tower() -> None:
    """Each of them leaves the weights as they are. A value that is no setting hides no other."""
    found = [of_tower(pooling=pooling) for pooling in (MeanPooling, FirstPooling, LastPooling)]
    found += [
        of_tower(states=[-1]),
        of_tower(states=[-2]),
        of_tower(hidden_act="relu"),
        of_tower(num_attention_heads=4),
    ]
    found += [of_tower(layer_norm_eps=1e-4), of_tower(note={1: object(), 2: "a"}), of_tower(note={1: object(), 2: "b"})]
    found += [of_tower("modernbert", **changes) for changes in MODERNBERT]
    found += [of_tower("t5", **changes) for changes in ({}, {"relative_attention_max_distance": 16})]
    assert len(set(found)) == len(found) == 16
    assert of_tower(hidden_dropout_prob=0.5) == found[0]


MODERNBERT: list[dict[str, Any]] = [{}, {"local_attention": 8}, {"norm_eps": 1e-3}, {"global_attn_every_n_layers": 2}]


def test_what_changes_no_embedding() -> None:
    first = of(tiny_config("vit"))
    assert of(tiny_config("vit")) == first
    for place, value in (("image_encoder.patch_dropout", 0.5), ("max_logit_scale", 50.0)):
        assert of(changed(place, value)) == first
    model = built(tiny_config("vit"))
    for state in (model.train(), model.eval(), model.requires_grad_(False)):
        assert model_fingerprint(state, CLIPTokenizer(77), EvalTransform(32)) == first
    with torch.no_grad():
        model.text_encoder.ln_final.bias[0] += 1e-6
    assert model_fingerprint(model, TOKENIZER, TRANSFORM) != first
