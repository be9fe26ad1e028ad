"""``cliplab.load``: load a trained model to use it from Python."""

from typing import Literal

import torch

from cliplab.assembly.model import embedding_model
from cliplab.checkpoints.read import read_pretrained
from cliplab.embedding.model import Classification, EmbeddingModel, Hit, Skipped
from cliplab.settings.model_source import LOAD, named_model

__all__ = ["Classification", "EmbeddingModel", "Hit", "Skipped", "load"]


def load(
    path: str,
    *,
    weights: Literal["raw", "ema"] = "raw",
    device: str | None = None,
    batch_size: int = 64,
    workers: int = 4,
    progress: bool = True,
) -> EmbeddingModel:
    """Load a model with its tokenizer and preprocessing.

    ``path`` is a run folder, a folder above one run or a checkpoint of cliplab, or foreign weights as for
    ``pretrained=``: OpenAI's ``.pt``, a folder or hub id of transformers or open_clip, ``open_clip:<model>:<file or tag>``.
    The default ``device`` is a GPU if there is one. ``weights="ema"`` takes the moving average of a run with callbacks=ema.

    Raises ValueError when nothing can be read from ``path``, or when tensors do not fit; the message lists them.

    >>> model = cliplab.load("logs/train/emoji/<run>")
    >>> model.embed_images(["a.jpg", "b.jpg"]).shape, model.embed_texts(["a dog"]).dtype
    ((2, 128), dtype('float32'))
    """
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    read = read_pretrained(named_model(LOAD, str(path)).spec, weights)
    return embedding_model(read, device=device, batch_size=batch_size, workers=workers, progress=progress)
