"""Folders of tiny models as their libraries write them, and the features that the library itself reads out of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional as F
from transformers import AutoTokenizer, CLIPConfig, CLIPModel, PreTrainedTokenizerFast, SiglipConfig, SiglipModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from tests.models.weights import randomise

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = ["<pad>", "</s>", "<bos>", "<unk>", "a", "photo", "of", "red", "cat", "dog", "A", "Photo", ".", "!", "_"]
TEXTS = ["a photo of a cat", "a red dog", "A Photo of_a  cat!", "a", "red cat dog photo of a red cat of a dog a photo"]


def pictures() -> list[Image.Image]:
    """Smooth pictures of several shapes: tall, wide, smaller than a crop, with odd rests."""
    shapes = [(50, 37), (33, 75), (32, 32), (21, 90), (45, 44)]
    made = []
    for i, (height, width) in enumerate(shapes):
        noise = np.random.default_rng(i).integers(0, 255, (6, 7, 3), np.uint8)
        made.append(Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR))
    return made


def edit(file: Path, changes: dict[str, Any]) -> None:
    """Set dotted keys of a JSON file; the value ``...`` takes a key out."""
    values = json.loads(file.read_text()) if file.is_file() else {}
    for key, value in changes.items():
        *parents, last = key.split(".")
        node = values
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is ...:
            node.pop(last, None)
        else:
            node[last] = value
    file.write_text(json.dumps(values))


def word_tokenizer(folder: Path, **changes: Any) -> None:
    """A tokenizer of whole words that ends texts with ``</s>``; ``changes`` go to transformers' constructor."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    library = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    library.pre_tokenizer = pre_tokenizers.Whitespace()
    library.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>", "model_max_length": 16}
    PreTrainedTokenizerFast(tokenizer_object=library, **{**names, **changes}).save_pretrained(folder)


def clip_folder(folder: Path) -> Path:
    """A CLIPModel with a word tokenizer, and its image processor."""
    config = CLIPConfig(
        text_config={**SIZES, "vocab_size": len(WORDS), "max_position_embeddings": 16, "eos_token_id": 1}
        | {"bos_token_id": 2, "pad_token_id": 0},
        vision_config={**SIZES, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    _save(CLIPModel(config), folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    word_tokenizer(folder)
    return folder


def siglip_folder(folder: Path) -> Path:
    """A SiglipModel with a word tokenizer that pads with 0, as SigLIP 2 does."""
    ids = {"eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0}
    config = SiglipConfig(
        text_config={**SIZES, "vocab_size": len(WORDS), "max_position_embeddings": 16, "projection_size": 32, **ids},
        vision_config={**SIZES, "image_size": 32, "patch_size": 8},
    )
    _save(SiglipModel(config), folder)
    SiglipImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)
    word_tokenizer(folder)
    return folder


def _save(model: Any, folder: Path) -> None:
    randomise(model)
    with torch.no_grad():  # far from zero, so that activations and epsilons show
        for name, weight in model.named_parameters():
            if "embed" in name or "fc1" in name:
                weight.mul_(8)
    model.save_pretrained(folder)


@torch.no_grad()
def transformers_features(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of ``pictures`` and ``TEXTS`` by the library's own classes, processor and tokenizer."""
    siglip = json.loads((folder / "config.json").read_text())["model_type"] == "siglip"
    kind, processor = (SiglipModel, SiglipImageProcessorPil) if siglip else (CLIPModel, CLIPImageProcessorPil)
    stated = folder / "preprocessor_config.json"
    if "Siglip" in stated.read_text():
        processor = SiglipImageProcessorPil
    model = kind.from_pretrained(folder, dtype=torch.float32).eval()
    values = processor.from_pretrained(folder)(pictures(), return_tensors="pt")
    images = model.get_image_features(values["pixel_values"]).pooler_output
    tokenizer = AutoTokenizer.from_pretrained(folder)
    room = json.loads((folder / "config.json").read_text())["text_config"]["max_position_embeddings"]
    most = min(room, tokenizer.model_max_length)
    tokens = tokenizer(
        TEXTS, padding="max_length" if siglip else True, truncation=True, max_length=most, return_tensors="pt"
    )
    mask = None if siglip else tokens["attention_mask"]
    texts = model.get_text_features(tokens["input_ids"], attention_mask=mask).pooler_output
    return F.normalize(images, dim=-1).numpy(), F.normalize(texts, dim=-1).numpy()


def open_clip_folder(folder: Path, model_cfg: dict[str, Any], preprocess: dict[str, Any]) -> Path:
    """A model that open_clip builds of its config, saved as open_clip pushes it to the hub."""
    folder.mkdir(exist_ok=True)
    config = {"model_cfg": model_cfg, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    model = open_clip.create_model(f"local-dir:{folder}")
    randomise(model)
    state = {key: value.clone() for key, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    return folder


@torch.no_grad()
def open_clip_features(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same features by open_clip's own model, transform and tokenizer."""
    model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    model.eval()
    images = model.encode_image(torch.stack([transform(picture) for picture in pictures()]), normalize=True)
    return images.numpy(), model.encode_text(tokenizer(TEXTS), normalize=True).numpy()
