"""Write a trained model in the formats of other programs."""

import json
from collections.abc import Callable
from pathlib import Path

import torch

from cliplab.checkpoints.huggingface import write_clip_folder, write_tokenizer
from cliplab.checkpoints.io import write_safetensors
from cliplab.checkpoints.onnx import write_onnx
from cliplab.checkpoints.open_clip import write_open_clip
from cliplab.checkpoints.openai import write_openai
from cliplab.checkpoints.weights import TOKENIZER, Weights
from cliplab.models.clip import CLIP


def _huggingface(folder: Path, weights: Weights, model: CLIP) -> None:
    write_clip_folder(folder, weights.model, weights.state, weights.transform)


def _open_clip(folder: Path, weights: Weights, model: CLIP) -> None:
    write_open_clip(folder, weights.model, weights.state, weights.transform)


def _openai(folder: Path, weights: Weights, model: CLIP) -> None:
    _refuse_other_crop(weights)
    write_openai(folder, weights.model, weights.state)


def _onnx(folder: Path, weights: Weights, model: CLIP) -> None:
    write_onnx(folder, weights.model, model)
    if weights.tokenizer["_target_"] == TOKENIZER:
        write_tokenizer(folder, weights.tokenizer["context_length"])


def _safetensors(folder: Path, weights: Weights, model: CLIP) -> None:
    """Our own names, with our configs in the header. It holds any model, and ``pretrained=`` reads it."""
    size = weights.model["image_encoder"].get("image_size")
    transform = weights.sized_transform(size)
    config = {"model": weights.model, "tokenizer": weights.tokenizer, "data": {"eval_transform": transform}}
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", weights.state, {"format": "pt", "cliplab": json.dumps(config)})
    (folder / "config.json").write_text(
        json.dumps({"model_type": "cliplab", **config}, indent=2) + "\n", encoding="utf8"
    )


def _refuse_other_crop(weights: Weights) -> None:
    """OpenAI's file states no preprocessing: its readers take the paper's."""
    if not weights.plain:
        kind = weights.transform["_target_"].rpartition(".")[2]
        raise ValueError(f"format=openai: its preprocessing is not this model's {kind}; use format=open_clip")


FORMATS: dict[str, Callable[[Path, Weights, CLIP], None]] = {
    "huggingface": _huggingface,
    "open_clip": _open_clip,
    "openai": _openai,
    "onnx": _onnx,
    "safetensors": _safetensors,
}


@torch.no_grad()
def write(form: str, folder: Path, weights: Weights, model: CLIP) -> None:
    """Write ``weights`` (and ``model``, which is built from them) in one of ``FORMATS``. Raises ValueError naming what the
    format cannot hold."""
    if weights.model.get("projection") and form not in ("onnx", "safetensors"):
        raise ValueError(f"format={form}: it has no place for model/projection=mlp; use format=safetensors or onnx")
    FORMATS[form](folder, weights, model.eval())
