"""Any vision model of ``transformers`` as the image tower."""

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.image_processing_base import ImageProcessingMixin

from cliplab.models.encoders import ImageEncoder, ImageStates, grid_of_states
from cliplab.models.hf_sources import (
    blocks_of,
    build_backbone,
    locate,
    parameter_groups,
    read_architecture,
    unreachable,
)
from cliplab.models.hub import hub_or_cache
from cliplab.rules import Count

PLACE = "model.image_encoder"


def read_preprocessing(source: str) -> dict[str, Any]:
    """``image_size``, ``image_mean`` and ``image_std`` of the source's preprocessor_config.json.

    Raises UnreachableWeights.
    """
    try:
        with hub_or_cache(locate(source)):
            values, _ = ImageProcessingMixin.get_image_processor_dict(locate(source))
    except OSError as error:
        raise unreachable(source, PLACE, error) from error
    size = values.get("crop_size") or values["size"]
    if isinstance(size, dict):
        size = size.get("height") or size["shortest_edge"]
    return {"image_size": size, "image_mean": values["image_mean"], "image_std": values["image_std"]}


class HFVisionEncoder(ImageEncoder):
    """A vision model of ``transformers``, a pooling over its last states, and a projection into the joint space.

    ``architecture``, ``source``, ``pretrained`` and ``projection`` as for the text tower. ``pooling=None`` takes the
    library's own pooled output, as for convolutional models. Images of another size than the weights were made for
    interpolate the positions. ``forward`` maps normalised images ``[batch, 3, image_size, image_size]`` to
    ``[batch, output_dim]``. Raises UnreachableWeights or ValueError.
    """

    def __init__(
        self,
        *,
        architecture: dict[str, Any] | None,
        source: str | None,
        pretrained: bool,
        image_size: Count | None,
        image_mean: Sequence[float] | None,
        image_std: Sequence[float] | None,
        pooling: nn.Module | None,
        projection: Callable[[int, int], nn.Module],
        output_dim: Count,
    ) -> None:
        super().__init__()
        if (image_size is None or image_mean is None or image_std is None) and source is None:
            raise ValueError(f"{PLACE}: without a source state image_size, image_mean and image_std")
        if image_size is None or image_mean is None or image_std is None:
            stated = read_preprocessing(str(source))
            image_size = image_size or stated["image_size"]
            image_mean, image_std = image_mean or stated["image_mean"], image_std or stated["image_std"]
        backbone: Any
        backbone, self.architecture = build_backbone(
            architecture=architecture, source=source, pretrained=pretrained, place=PLACE
        )
        if pooling is not None and isinstance(getattr(backbone, "pooler", None), nn.Module):
            backbone.pooler = None  # it would never get a gradient
        for name, parameter in backbone.named_parameters():
            if name.endswith("mask_token"):
                parameter.requires_grad = False  # used in the library's own pre-training only
        self.image_size, self.image_mean, self.image_std = image_size, tuple(image_mean), tuple(image_std)
        self.backbone, self.pooling, self.output_dim = backbone, pooling, output_dim
        patch_size = getattr(backbone.config, "patch_size", None)
        self.patch_size = patch_size if isinstance(patch_size, int) else None
        resized = image_size != getattr(backbone.config, "image_size", image_size)
        takes = "interpolate_pos_encoding" in inspect.signature(backbone.forward).parameters
        self.options = {"interpolate_pos_encoding": True} if resized and takes else {}
        sizes = getattr(backbone.config, "hidden_sizes", None)
        self.state_width = sizes[-1] if sizes else backbone.config.hidden_size
        self.projection = projection(self.state_width, output_dim)

    @staticmethod
    def known_values(node: dict[str, Any]) -> dict[str, Any]:
        """Values that the source knows, for arguments left at null."""
        if node["source"] is None:
            return {}
        architecture = (
            {"architecture": read_architecture(node["source"], PLACE)} if node["architecture"] is None else {}
        )
        names = [name for name in ("image_size", "image_mean", "image_std") if node[name] is None]
        known = read_preprocessing(node["source"]) if names else {}
        return architecture | {name: known[name] for name in names}

    def layers(self) -> list[nn.Module]:
        """The library's layers or stages."""
        return list(blocks_of(self.backbone))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output: embeddings, each layer or stage, the projection."""
        return [*parameter_groups(self.backbone), list(self.projection.parameters())]

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output_dim"]:
        return self._pool(self.backbone(pixel_values=images, **self.options))

    def forward_states(self, images: Float[Tensor, "batch 3 height width"]) -> ImageStates:
        """The library's ``last_hidden_state`` without class and register tokens, which come before the patches."""
        output = self.backbone(pixel_values=images, **self.options)
        states = output.last_hidden_state
        if states.ndim == 4:
            return ImageStates(states.permute(0, 2, 3, 1), self._pool(output))
        patches = (self.image_size // self.patch_size) ** 2 if self.patch_size else 0
        if not 0 < patches <= states.shape[1]:  # a tower that merges patches on its way
            patches = math.isqrt(states.shape[1]) ** 2
        return ImageStates(grid_of_states(states[:, states.shape[1] - patches :]), self._pool(output))

    def _pool(self, output: Any) -> Float[Tensor, "batch output_dim"]:
        if self.pooling is None:
            return self.projection(output.pooler_output.flatten(1))
        states = output.last_hidden_state
        if states.ndim == 4:
            states = states.flatten(2).mT  # [B, height * width, channels]
        return self.projection(self.pooling(states, torch.ones(states.shape[:2], device=states.device)))
