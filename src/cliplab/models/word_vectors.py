"""A text tower that adds up word vectors: the bag of words of Radford et al. 2021, figure 2."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cliplab.models.encoders import TextEncoder, TextStates
from cliplab.models.tokens import Tokens
from cliplab.rules import Count


class WordVectors(TextEncoder):
    """The sum of the vectors of all tokens of a text. Their order does not matter, and padding adds nothing.

    ``forward`` maps Tokens to ``[batch, output_dim]``. The vectors have the width of the joint space, since a projection of
    a sum is the sum of projections. Raises ValueError for texts beyond ``context_length``.
    """

    def __init__(self, *, vocab_size: Count, context_length: Count, output_dim: Count) -> None:
        super().__init__()
        self.vocab_size, self.context_length, self.output_dim = vocab_size, context_length, output_dim
        self.state_width = output_dim
        self.token_embedding = nn.Embedding(vocab_size, output_dim)
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch output_dim"]:
        return self.forward_states(tokens).pooled

    def forward_states(self, tokens: Tokens) -> TextStates:
        self.check_length(tokens.ids)
        position = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
        padding = position >= tokens.lengths.unsqueeze(1)  # [B, N]
        states = self.token_embedding(tokens.ids).masked_fill(padding.unsqueeze(-1), 0)
        return TextStates(states, tokens.lengths, states.sum(1))
