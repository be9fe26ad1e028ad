"""A small head that reads one sequence in the light of another: the states of a text and those of a picture."""

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from cliplab.rules import Count


class CrossBlock(nn.Module):
    """Pre-norm cross-attention, then a two-layer MLP four times as wide."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"objective.width {width} is not a multiple of objective.heads {heads}; set one of the two"
            )
        self.heads = heads
        self.ln_query, self.ln_context, self.ln_mlp = (nn.LayerNorm(width) for _ in range(3))
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, context: Tensor, readable: Tensor | None) -> Tensor:
        q = self.query(self.ln_query(x)).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, width / heads]
        pair = self.key_value(self.ln_context(context)).unflatten(-1, (2, self.heads, -1))
        k, v = (part.transpose(1, 2) for part in pair.unbind(2))
        mask = None if readable is None else readable[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)
        x = x + self.out(mixed)
        return x + self.mlp(self.ln_mlp(x))


class Fusion(nn.Module):
    """``layers`` blocks in which the states of one tower read those of the other. Both are first projected to ``width``."""

    def __init__(self, *, own_width: int, context_width: int, width: Count, layers: Count, heads: Count) -> None:
        super().__init__()
        self.own, self.context = nn.Linear(own_width, width), nn.Linear(context_width, width)
        self.blocks = nn.ModuleList(CrossBlock(width, heads) for _ in range(layers))
        self.ln_final = nn.LayerNorm(width)

    def layers(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output: the projections, each block (the last norm with the last one)."""
        blocks = [list(block.parameters()) for block in self.blocks]
        blocks[-1] += self.ln_final.parameters()
        return [[*self.own.parameters(), *self.context.parameters()], *blocks]

    def forward(
        self,
        states: Float[Tensor, "batch length own_width"],
        context: Float[Tensor, "batch others context_width"],
        readable: Bool[Tensor, "batch others"] | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """``readable`` says which states of the context are there, and not padding."""
        x, context = self.own(states), self.context(context)
        for block in self.blocks:
            x = block(x, context, readable)
        return self.ln_final(x)
