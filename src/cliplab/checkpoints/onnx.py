"""Export to two ONNX graphs, one for each tower: from pixels or token ids to unit vectors."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cliplab.checkpoints.weights import TEXT
from cliplab.models.clip import CLIP

IMAGE, LANGUAGE = "image_encoder.onnx", "text_encoder.onnx"
OPSET = 18
LARGEST = 2**30  # bytes of weights in one file; the format's limit is twice that


class ImageGraph(nn.Module):
    """uint8 pixels ``[batch, 3, size, size]`` to unit vectors; mean and standard deviation are inside."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.model.encode_image(pixels)


class TextGraph(nn.Module):
    """Token ids and attention mask ``[batch, length]`` to unit vectors.

    It computes the packed tower's numbers on a padded batch, since padding after the end of a text cannot influence it.
    """

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.tower: Any = model.text_encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        tower = self.tower
        x = tower.token_embedding(input_ids) + tower.positional_embedding[: input_ids.shape[1]]
        for block in tower.blocks:
            x = block(x)  # [batch, length, width]
        last = attention_mask.sum(1) - 1
        x = x.gather(1, last.view(-1, 1, 1).expand(-1, 1, x.shape[-1])).squeeze(1)
        return F.normalize(tower.ln_final(x) @ tower.projection, dim=-1)


def write_onnx(folder: Path, config: Mapping[str, Any], model: CLIP) -> None:
    """Write ``image_encoder.onnx`` and ``text_encoder.onnx``, with dynamic batch and text length and weights in float32.

    Raises ValueError for a text tower other than CLIP's, and ImportError without the packages of the extra ``onnx``.
    """
    if config["text_encoder"]["_target_"] != TEXT:
        name = config["text_encoder"]["_target_"].rpartition(".")[2]
        raise ValueError(f"format=onnx exports CLIP's own text tower, not {name}; use format=safetensors")
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError('format=onnx needs onnx and onnxscript; run: pip install -e ".[onnx]"') from error
    folder.mkdir(parents=True, exist_ok=True)
    size, longest = model.image_size, config["text_encoder"]["context_length"]
    ids = torch.zeros(2, min(5, longest), dtype=torch.int64)
    batch = torch.export.Dim("batch", min=1, max=65_536)
    length = torch.export.Dim("length", min=2, max=longest)
    axes = {0: batch, 1: length}
    pixels = torch.zeros(2, 3, size, size, dtype=torch.uint8)
    _export(folder / IMAGE, ImageGraph(model), {"pixels": (pixels, {0: batch})}, "image_embeds")
    inputs = {"input_ids": (ids, axes), "attention_mask": (torch.ones_like(ids), axes)}
    _export(folder / LANGUAGE, TextGraph(model), inputs, "text_embeds")


def _export(path: Path, graph: nn.Module, inputs: dict[str, tuple[Tensor, dict[int, Any]]], output: str) -> None:
    size = sum(p.numel() * p.element_size() for p in graph.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("onnxscript").setLevel(logging.ERROR)
        logging.getLogger("onnx_ir").setLevel(logging.ERROR)
        torch.onnx.export(
            graph.eval(),
            tuple(example for example, _ in inputs.values()),
            str(path),
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple(axes for _, axes in inputs.values()),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            external_data=size > LARGEST,  # a second file beside the graph
        )
