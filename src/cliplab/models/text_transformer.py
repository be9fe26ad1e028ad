"""The causal text transformer of CLIP, without work on padding."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cliplab.models.encoders import TextEncoder, TextStates
from cliplab.models.layers import Activation, Packing, pack_shared, pack_tokens, residual_blocks
from cliplab.models.tokens import Tokens, real_columns
from cliplab.rules import Count, Positive


class TextTransformer(TextEncoder):
    """Causal transformer, pooled at the last token (end of text); ``forward`` maps Tokens to ``[batch, output_dim]``.

    Nothing after the end of text can reach it, so linear layers and norms run on the packed tokens of the batch
    ``[total, width]`` and only attention sees a padded batch. Without gradient, tokens after the same beginning are computed
    once for all texts of the batch. Raises ValueError for texts beyond ``context_length``.
    Initialisation as in OpenAI's published model code.
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
        activation: Activation = "quick_gelu",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.vocab_size, self.context_length, self.output_dim = vocab_size, context_length, output_dim
        self.state_width = width
        self.token_embedding = nn.Embedding(vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, width))
        self.blocks = residual_blocks(layers, width, heads, mlp_ratio, activation, causal=True, norm_eps=norm_eps)
        self.ln_final = nn.LayerNorm(width, norm_eps)
        self.projection = nn.Parameter(torch.empty(width, output_dim))
        self._initialise(width, layers)

    def _initialise(self, width: int, layers: int) -> None:
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        residual_std = width**-0.5 * (2 * layers) ** -0.5
        for block in self.blocks:
            nn.init.normal_(block.attention.qkv.weight, std=width**-0.5)  # type: ignore[union-attr,arg-type]
            nn.init.normal_(block.attention.out.weight, std=residual_std)  # type: ignore[union-attr,arg-type]
            nn.init.normal_(block.mlp_in.weight, std=(2 * width) ** -0.5)  # type: ignore[union-attr,arg-type]
            nn.init.normal_(block.mlp_out.weight, std=residual_std)  # type: ignore[union-attr,arg-type]
        nn.init.normal_(self.projection, std=width**-0.5)

    def layers(self) -> list[nn.Module]:
        """The transformer blocks."""
        return list(self.blocks)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output: embeddings, each block (the last norm with the last one), the projection."""
        blocks = [list(block.parameters()) for block in self.blocks]
        blocks[-1] += self.ln_final.parameters()
        return [[*self.token_embedding.parameters(), self.positional_embedding], *blocks, [self.projection]]

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch output_dim"]:
        return self._encoded(tokens) if torch.is_grad_enabled() else self._encoded_together(tokens)

    def _encoded(self, tokens: Tokens) -> Float[Tensor, "batch output_dim"]:
        x, packing = self._packed_states(tokens)
        return self._pool(x, packing, tokens)

    _encoded_together = torch.compiler.disable(_encoded)  # which beginnings are shared follows the data

    def forward_states(self, tokens: Tokens) -> TextStates:
        x, packing = self._packed_states(tokens)
        padding = ~real_columns(tokens.lengths, packing.length)  # [B, N]
        states = packing.pad(self.ln_final(x)).masked_fill(padding.unsqueeze(-1), 0)
        return TextStates(states, tokens.lengths, self._pool(x, packing, tokens))

    def _packed_states(self, tokens: Tokens) -> tuple[Float[Tensor, "total width"], Packing]:
        ids, lengths = tokens.ids, tokens.lengths
        self.check_length(ids)
        packing = pack_tokens(tokens) if torch.is_grad_enabled() else pack_shared(ids, lengths)
        # F.embedding, not indexing: its gradient is summed in a fixed order for any number of threads.
        positions = F.embedding(packing.index % ids.shape[1], self.positional_embedding)
        x = self.token_embedding(ids.flatten().index_select(0, packing.index)) + positions
        for block in self.blocks:
            x = block(x, packing)  # [total, width]
        return x, packing

    def _pool(self, x: Float[Tensor, "total width"], packing: Packing, tokens: Tokens) -> Tensor:
        ids, lengths = tokens.ids, tokens.lengths
        ends = lengths.cumsum(0) - 1
        if packing.rows is not None:
            ends = packing.rows.view_as(ids).gather(1, lengths.unsqueeze(1) - 1).squeeze(1)
        return self.ln_final(x.index_select(0, ends)) @ self.projection
