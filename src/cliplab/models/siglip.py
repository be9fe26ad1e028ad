"""The towers of SigLIP (Zhai et al. 2023): a ViT pooled by attention and a bidirectional text transformer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cliplab.models.encoders import ImageEncoder, ImageStates, TextEncoder, TextStates, check_image_size
from cliplab.models.layers import Activation, activation_class, attend, flat_patches, residual_blocks
from cliplab.models.tokens import Tokens, real_columns
from cliplab.rules import Count, Positive

EPS = 1e-6  # of every LayerNorm, unless the weights say otherwise


class AttentionProbe(nn.Module):
    """One learned query over all positions, then a residual MLP."""

    def __init__(self, width: Count, heads: Count, mlp_ratio: Positive, activation: str, norm_eps: float = EPS) -> None:
        super().__init__()
        self.heads = heads
        self.probe = nn.Parameter(torch.randn(width) * width**-0.5)
        self.query, self.key_value, self.out = (
            nn.Linear(width, width),
            nn.Linear(width, 2 * width),
            nn.Linear(width, width),
        )
        self.ln = nn.LayerNorm(width, norm_eps)
        self.mlp_in = nn.Linear(width, int(width * mlp_ratio))
        self.activation = activation_class(activation)()
        self.mlp_out = nn.Linear(int(width * mlp_ratio), width)

    def forward(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch width"]:
        q = self.query(self.probe).expand(x.shape[0], 1, -1).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(x).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each [B, H, N, width / H]
        pooled = self.out(attend(q, k, v, causal=False).transpose(1, 2).flatten(1))  # [B, width]
        return pooled + self.mlp_out(self.activation(self.mlp_in(self.ln(pooled))))


class SiglipVisionTransformer(ImageEncoder):
    """ViT without a class token or projection, pooled by an attention probe; ``output_dim`` is the width.

    ``forward`` maps normalised images ``[batch, 3, image_size, image_size]`` to ``[batch, output_dim]``. Raises ValueError
    when sizes do not fit.
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
        activation: Activation = "gelu_tanh",
        norm_eps: float = EPS,
    ) -> None:
        super().__init__()
        if output_dim != width:
            raise ValueError(f"output_dim {output_dim} must be the width {width}: this tower has no projection")
        self.image_size, self.patch_size, self.output_dim = image_size, patch_size, output_dim
        self.state_width = width
        self.grid = image_size // patch_size  # left-over pixels are cut, as by a strided convolution
        self.patch_embedding = nn.Linear(3 * patch_size**2, width)
        self.positional_embedding = nn.Parameter(torch.randn(self.grid**2, width) * width**-0.5)
        self.blocks = residual_blocks(layers, width, heads, mlp_ratio, activation, causal=False, norm_eps=norm_eps)
        self.ln_post = nn.LayerNorm(width, norm_eps)
        self.pool = AttentionProbe(width, heads, mlp_ratio, activation, norm_eps)

    def layers(self) -> list[nn.Module]:
        """The transformer blocks."""
        return list(self.blocks)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Parameters from the input to the output: embeddings, each block, the norm and the probe."""
        first = [*self.patch_embedding.parameters(), self.positional_embedding]
        blocks = [list(block.parameters()) for block in self.blocks]
        return [first, *blocks, [*self.ln_post.parameters(), *self.pool.parameters()]]

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output_dim"]:
        return self.pool(self._states(images))

    def forward_states(self, images: Float[Tensor, "batch 3 height width"]) -> ImageStates:
        x = self._states(images)
        return ImageStates(x.unflatten(1, (self.grid, self.grid)), self.pool(x))

    def _states(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch patches channels"]:
        check_image_size(images, self.image_size)
        whole = self.grid * self.patch_size
        patches = flat_patches(images[..., :whole, :whole], self.patch_size)
        x = self.patch_embedding(patches) + self.positional_embedding
        for block in self.blocks:
            x = block(x)
        return self.ln_post(x)


class SiglipTextTransformer(TextEncoder):
    """Text transformer that looks both ways and is pooled at the last of ``context_length`` positions.

    The published models were trained on texts padded with ``pad_token``, without a mask. So every text is padded here too,
    whatever the length of the batch, unless its tokenizer has padded it already. Raises ValueError for texts beyond
    ``context_length``.
    """

    def __init__(
        self,
        *,
        vocab_size: Count,
        context_length: Count,
        width: Count,
        layers: Count,
        heads: Count,
        output_dim: Count,
        mlp_ratio: Positive = 4.0,
        activation: Activation = "gelu_tanh",
        pad_token: int = 1,
        norm_eps: float = EPS,
    ) -> None:
        super().__init__()
        self.vocab_size, self.context_length, self.output_dim = vocab_size, context_length, output_dim
        self.pad_token, self.state_width = pad_token, width
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.randn(context_length, width) * 0.01)
        self.blocks = residual_blocks(layers, width, heads, mlp_ratio, activation, causal=False, norm_eps=norm_eps)
        self.ln_final = nn.LayerNorm(width, norm_eps)
        self.projection = nn.Linear(width, output_dim)

    def layers(self) -> list[nn.Module]:
        """The transformer blocks."""
        return list(self.blocks)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Parameters from the input to the output: embeddings, each block, the norm and the projection."""
        first = [*self.token_embedding.parameters(), self.positional_embedding]
        blocks = [list(block.parameters()) for block in self.blocks]
        return [first, *blocks, [*self.ln_final.parameters(), *self.projection.parameters()]]

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch output_dim"]:
        return self._pool(self._transformed(tokens))

    def forward_states(self, tokens: Tokens) -> TextStates:
        """States on padding are zero, although the pooled vector is made of the last padding position."""
        x, length = self._transformed(tokens), tokens.ids.shape[1]
        padding = torch.arange(length, device=x.device) >= tokens.lengths.unsqueeze(1)
        states = self.ln_final(x[:, :length]).masked_fill(padding.unsqueeze(-1), 0)
        return TextStates(states, tokens.lengths, self._pool(x))

    def _pool(self, x: Float[Tensor, "batch length width"]) -> Float[Tensor, "batch output_dim"]:
        return self.projection(self.ln_final(x[:, -1]))

    def _transformed(self, tokens: Tokens) -> Float[Tensor, "batch context_length width"]:
        ids, lengths = tokens.ids, tokens.lengths
        self.check_length(ids)
        filled = nn.functional.pad(ids, (0, self.context_length - ids.shape[1]))
        filled = filled.where(real_columns(lengths, self.context_length), self.pad_token)
        x = self.token_embedding(filled) + self.positional_embedding
        for block in self.blocks:
            x = block(x)
        return x
