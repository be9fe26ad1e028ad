"""The vision transformer of CLIP (Radford et al. 2021, section 2.4)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cliplab.models.encoders import ImageEncoder, ImageStates, check_image_size
from cliplab.models.layers import Activation, flat_patches, residual_blocks
from cliplab.rules import Count, Decay, Positive


class VisionTransformer(ImageEncoder):
    """ViT with a class token, learned positions, a LayerNorm before the blocks and no bias in the patch embedding.

    ``forward`` maps normalised images ``[batch, 3, image_size, image_size]`` to ``[batch, output_dim]``.
    ``patch_dropout`` is the share of patches left out at random in training (Li et al. 2023, FLIP); ``forward_states``
    leaves none out, since a grid of states has no holes. ``norm_eps`` is the epsilon of every LayerNorm.
    Raises ValueError when ``image_size`` is not a multiple of ``patch_size``, or for images of another size.
    Initialisation as in OpenAI's published model code: class token, positions and projection N(0, 1/width), the rest
    PyTorch's defaults.
    """

    def __init__(
        self,
        *,
        image_size: Count,
        patch_size: Count,
        width: Count,
        layers: Count,
        heads: Count,
        output_dim: Count,
        mlp_ratio: Positive = 4.0,
        activation: Activation = "quick_gelu",
        patch_dropout: Decay = 0.0,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            fitting = max(patch_size, image_size // patch_size * patch_size)
            raise ValueError(
                f"image_size {image_size} is not a multiple of patch_size {patch_size}; "
                f"set model.image_encoder.image_size to {fitting}"
            )
        if not 0 <= patch_dropout < 1:
            raise ValueError(f"patch_dropout {patch_dropout} is outside [0, 1); set it to 0 to keep every patch")
        self.image_size, self.patch_size, self.output_dim = image_size, patch_size, output_dim
        self.patch_dropout, self.state_width = patch_dropout, width
        scale = width**-0.5
        self.patch_embedding = nn.Linear(3 * patch_size**2, width, bias=False)
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        self.positional_embedding = nn.Parameter(scale * torch.randn((image_size // patch_size) ** 2 + 1, width))
        self.ln_pre = nn.LayerNorm(width, norm_eps)
        self.blocks = residual_blocks(layers, width, heads, mlp_ratio, activation, causal=False, norm_eps=norm_eps)
        self.ln_post = nn.LayerNorm(width, norm_eps)
        self.projection = nn.Parameter(scale * torch.randn(width, output_dim))

    def layers(self) -> list[nn.Module]:
        """The transformer blocks."""
        return list(self.blocks)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output: embeddings, each block (the last norm with the last one), the projection."""
        first = [self.class_embedding, self.positional_embedding]
        first += [*self.patch_embedding.parameters(), *self.ln_pre.parameters()]
        blocks = [list(block.parameters()) for block in self.blocks]
        blocks[-1] += self.ln_post.parameters()
        return [first, *blocks, [self.projection]]

    def _embedded_patches(
        self, images: Float[Tensor, "batch 3 height width"]
    ) -> Float[Tensor, "batch patches channels"]:
        check_image_size(images, self.image_size)
        return self.patch_embedding(flat_patches(images, self.patch_size)) + self.positional_embedding[1:]

    def _transformed(self, x: Float[Tensor, "batch patches channels"]) -> Float[Tensor, "batch 1+patches channels"]:
        first = (self.class_embedding + self.positional_embedding[0]).expand(x.shape[0], 1, -1)
        x = self.ln_pre(torch.cat([first.to(x.dtype), x], dim=1))  # [B, 1 + patches, width]
        for block in self.blocks:
            x = block(x)
        return x

    def _pool(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch output_dim"]:
        return self.ln_post(x[:, 0]) @ self.projection

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output_dim"]:
        x = self._embedded_patches(images)
        if self.training and self.patch_dropout > 0:
            kept = max(1, round(x.shape[1] * (1 - self.patch_dropout)))
            order = torch.rand(x.shape[:2], device=x.device).argsort(1)[:, :kept]  # [B, kept]
            x = x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
        return self._pool(self._transformed(x))

    def forward_states(self, images: Float[Tensor, "batch 3 height width"]) -> ImageStates:
        x = self._transformed(self._embedded_patches(images))
        side = self.image_size // self.patch_size
        return ImageStates(self.ln_post(x[:, 1:]).unflatten(1, (side, side)), self._pool(x))
