"""Any ``timm`` model as the image tower."""

from collections.abc import Callable
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.models import group_parameters
from torch import Tensor, nn

from cliplab.models.encoders import ImageEncoder, ImageStates, grid_of_states
from cliplab.models.hub import hub_or_cache, hub_silence
from cliplab.rules import Count


def _facts(name: str) -> Any:
    """timm's record of a model. Raises ValueError with similar names when there is none."""
    architecture = name.partition(".")[0]
    if not name.startswith(("hf-hub:", "hf_hub:", "local-dir:")) and not timm.is_model(architecture):
        close = timm.list_models(f"*{architecture}*")[:5] or timm.list_models(f"{architecture[:5]}*")[:5]
        hint = f"; there are {', '.join(close)}, …" if close else "; timm.list_models() names them"
        raise ValueError(f"model.image_encoder.name: timm has no model {name!r}{hint}")
    return timm.get_pretrained_cfg(name) or timm.get_pretrained_cfg(architecture)


def _has_several_layers(module: nn.Module) -> bool:
    return sum(any(True for _ in part.parameters()) for part in module.children()) > 1


class TimmVisionEncoder(ImageEncoder):
    """A model of ``timm`` without its classifier, and a projection into the joint space.

    ``name`` is timm's, ``<architecture>`` or ``<architecture>.<tag>``. ``image_size=None`` takes the model's own; a
    transformer built for another size interpolates its pretrained positions. ``image_mean`` and ``image_std`` are the
    model's own. ``forward`` maps normalised images ``[batch, 3, image_size, image_size]`` to ``[batch, output_dim]``.
    Raises ValueError on a name that timm does not know, or when pretrained weights cannot be read.
    """

    def __init__(
        self,
        *,
        name: str,
        pretrained: bool,
        image_size: Count | None,
        projection: Callable[[int, int], nn.Module],
        output_dim: Count,
    ) -> None:
        super().__init__()
        facts = _facts(name)
        default_size = facts.input_size[-1]
        self.image_size, self.output_dim = image_size or default_size, output_dim
        self.image_mean, self.image_std = tuple(facts.mean), tuple(facts.std)
        size: dict[str, Any] = (
            {"img_size": self.image_size} if self.image_size != default_size and facts.fixed_input_size else {}
        )
        load = pretrained and torch.get_default_device().type != "meta"
        backbone: Any
        try:
            with hub_or_cache(name if load else "."):
                backbone = timm.create_model(name, pretrained=load, num_classes=0, **size)
        except (OSError, RuntimeError) as error:
            silence = hub_silence() if isinstance(error, OSError) else None
            cause = silence or str(error).splitlines()[0]
            raise ValueError(
                f"model.image_encoder.name: timm cannot give {name} ({cause}); go online, take a tag that has weights, or "
                "start from random ones, model.image_encoder.pretrained=false"
            ) from error
        width = getattr(backbone, "head_hidden_size", None) or backbone.num_features
        self.backbone, self.projection = backbone, projection(width, output_dim)
        self.state_width = int(backbone.num_features)

    @staticmethod
    def known_values(node: dict[str, Any]) -> dict[str, Any]:
        """Values that timm knows, for arguments left at null."""
        return {"image_size": _facts(node["name"]).input_size[-1]} if node["image_size"] is None else {}

    def layers(self) -> list[nn.Module]:
        """The model's blocks: items of its sequences that have several layers with weights, the innermost of them."""
        found: list[nn.Module] = []
        for module in self.backbone.modules():  # a module comes before those within it
            inside = [part for part in module.children() if isinstance(module, nn.Sequential | nn.ModuleList)]
            found += [part for part in inside if not isinstance(part, nn.Sequential) and _has_several_layers(part)]
        return [block for block in found if not any(other in found for other in list(block.modules())[1:])]

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output by timm's own grouping, then the projection."""
        backbone: Any = self.backbone
        parameters = dict(backbone.named_parameters())
        names = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=False)
        groups = [[parameters[name] for name in names[key]] for key in sorted(names)]
        return [*groups, list(self.projection.parameters())]

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output_dim"]:
        return self.projection(self.backbone(images))

    def forward_states(self, images: Float[Tensor, "batch 3 height width"]) -> ImageStates:
        """timm's last features: a transformer's tokens without class and register tokens, or a feature map."""
        backbone: Any = self.backbone
        features = backbone.forward_features(images)
        if features.ndim == 3:
            patches = grid_of_states(features[:, getattr(backbone, "num_prefix_tokens", 0) :])
        elif getattr(backbone, "output_fmt", "NCHW") == "NHWC" or features.shape[1] != self.state_width:
            patches = features  # [B, rows, columns, width] already
        else:
            patches = features.permute(0, 2, 3, 1)
        return ImageStates(patches, self.projection(backbone.forward_head(features)))
