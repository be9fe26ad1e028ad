"""The same random weights in our towers and in other people's: name maps, used by the parity tests."""

import torch
from torch import Tensor, nn

from cliplab.models.clip import CLIP
from cliplab.models.modified_resnet import ModifiedResNet
from cliplab.models.text_transformer import TextTransformer
from cliplab.models.vision_transformer import VisionTransformer

BLOCK = {
    "ln_1": "ln_1",
    "attention.out": "attn.out_proj",
    "ln_2": "ln_2",
    "mlp_in": "mlp.c_fc",
    "mlp_out": "mlp.c_proj",
}


def randomise(model: nn.Module) -> None:
    """Every parameter away from its initial value, so that a forgotten bias or gain shows."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, p in model.named_parameters():
            spread = 0.02 if p.ndim >= 2 else 0.1
            p.add_(torch.randn(p.shape, generator=generator) * spread * (name != "logit_scale"))


def _blocks(ours: dict[str, Tensor], prefix: str, theirs: dict[str, Tensor], other: str, layers: int) -> None:
    for i in range(layers):
        for kind in ("weight", "bias"):
            theirs[f"{other}.{i}.attn.in_proj_{kind}"] = ours[f"{prefix}.{i}.attention.qkv.{kind}"]
            for a, b in BLOCK.items():
                theirs[f"{other}.{i}.{b}.{kind}"] = ours[f"{prefix}.{i}.{a}.{kind}"]


def openai_names(model: CLIP, trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """``trained`` (our parameters, their gradients, or buffers by our names) under the names of OpenAI's state dict."""
    theirs = {"logit_scale": trained["logit_scale"]}
    text = "text_encoder."
    theirs["token_embedding.weight"] = trained[text + "token_embedding.weight"]
    theirs["positional_embedding"] = trained[text + "positional_embedding"]
    theirs["text_projection"] = trained[text + "projection"]
    _blocks(trained, text + "blocks", theirs, "transformer.resblocks", len(model.text_encoder.blocks))
    for kind in ("weight", "bias"):
        theirs[f"ln_final.{kind}"] = trained[f"{text}ln_final.{kind}"]
    image = model.image_encoder
    (_vit_names if isinstance(image, VisionTransformer) else _resnet_names)(image, trained, theirs)
    return theirs


def _vit_names(tower: VisionTransformer, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    own, p = "image_encoder.", tower.patch_size
    theirs["visual.conv1.weight"] = ours[own + "patch_embedding.weight"].unflatten(1, (3, p, p))
    for a, b in {"class_embedding": "class_embedding", "positional_embedding": "positional_embedding"}.items():
        theirs[f"visual.{b}"] = ours[own + a]
    theirs["visual.proj"] = ours[own + "projection"]
    for kind in ("weight", "bias"):
        for norm in ("ln_pre", "ln_post"):
            theirs[f"visual.{norm}.{kind}"] = ours[f"{own}{norm}.{kind}"]
    _blocks(ours, own + "blocks", theirs, "visual.transformer.resblocks", len(tower.blocks))


def _resnet_names(tower: ModifiedResNet, ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    stem = {"0": "conv1", "1": "bn1", "3": "conv2", "4": "bn2", "6": "conv3", "7": "bn3"}
    shortcut = {"1": "0", "2": "1"}
    pool = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "c_proj"}
    for name, value in ours.items():
        if not name.startswith("image_encoder."):
            continue
        part, _, rest = name.removeprefix("image_encoder.").partition(".")
        words = rest.split(".")
        if part == "stem":
            theirs[f"visual.{stem[words[0]]}.{words[1]}"] = value
        elif part == "stages":
            if words[2] == "shortcut":
                words[2:4] = ["downsample", shortcut[words[3]]]
            theirs[f"visual.layer{int(words[0]) + 1}.{'.'.join(words[1:])}"] = value
        elif part == "pool":
            words[0] = pool.get(words[0], words[0])
            theirs[f"visual.attnpool.{'.'.join(words)}"] = value


def tiny(image: str) -> CLIP:
    """A CLIP of a few thousand weights with a ViT or a ResNet."""
    torch.manual_seed(0)
    tower: nn.Module
    if image == "vit":
        tower = VisionTransformer(image_size=32, patch_size=8, width=64, layers=2, heads=1, output_dim=32)
    else:
        tower = ModifiedResNet(image_size=64, layers=[1, 2, 1, 1], width=16, heads=8, output_dim=32)
    text = TextTransformer(vocab_size=49408, context_length=77, width=64, layers=2, heads=1, output_dim=32)
    model = CLIP(tower, text, embed_dim=32)
    randomise(model)
    return model
