"""A transformer over words that looks at the states of a picture."""

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cliplab.models.encoders import LayeredModule
from cliplab.models.layers import Activation, Packing, SelfAttention, activation_class, attend
from cliplab.models.tokens import real_columns


class Seen(NamedTuple):
    """What one layer sees of each picture: keys and values ``[pictures, heads, places, head width]``."""

    keys: Tensor
    values: Tensor

    def of(self, rows: Int[Tensor, " rows"]) -> "Seen":
        return Seen(self.keys[rows], self.values[rows])


def by_head(x: Float[Tensor, "batch length width"], heads: int) -> Float[Tensor, "batch heads length head_width"]:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend_where(q: Tensor, k: Tensor, v: Tensor, wanted: Bool[Tensor, "batch 1 1 keys"]) -> Tensor:
    """Softmax attention to the ``wanted`` keys alone, over ``[batch, heads, length, head width]``."""
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    return scores.masked_fill(~wanted, float("-inf")).softmax(-1).to(v.dtype) @ v


class CrossAttention(nn.Module):
    """Attention from words to the states of a picture."""

    def __init__(self, width: int, memory_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(memory_width, 2 * width), nn.Linear(width, width)
        for linear in (self.q, self.kv, self.out):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def see(self, memory: Float[Tensor, "pictures places memory_width"]) -> Seen:
        keys, values = self.kv(memory).chunk(2, dim=-1)
        return Seen(by_head(keys, self.heads), by_head(values, self.heads))

    def forward(self, x: Tensor, seen: Seen, packing: Packing | None = None) -> Tensor:
        """``x`` is packed ``[total, width]`` with a ``packing``, or else ``[pictures or 1, length, width]``."""
        q = self.q(x)
        q = by_head(q if packing is None else packing.pad(q), self.heads)
        q = q.expand(len(seen.keys), -1, -1, -1)
        mixed = attend(q, seen.keys, seen.values, causal=False).transpose(1, 2).flatten(2)
        return self.out(mixed if packing is None else packing.pack(mixed))


class Layout(Protocol):
    """How the words of texts lie in a tensor, and which of them a word attends to."""

    packing: Packing | None

    def attend(self, attention: SelfAttention, x: Tensor) -> Tensor: ...


class Causal:
    """The packed words of a batch of texts. A word attends to itself and to those before it."""

    def __init__(self, packing: Packing) -> None:
        self.packing: Packing | None = packing

    def attend(self, attention: SelfAttention, x: Float[Tensor, "total width"]) -> Float[Tensor, "total width"]:
        return attention(x, self.packing)


class Mutual:
    """The packed words of a batch of texts with ``lengths``. A word attends to all words of its text."""

    def __init__(self, packing: Packing, lengths: Int[Tensor, " batch"]) -> None:
        self.packing: Packing | None = packing
        self.wanted = real_columns(lengths, packing.length)[:, None, None]

    def attend(self, attention: SelfAttention, x: Float[Tensor, "total width"]) -> Float[Tensor, "total width"]:
        assert self.packing is not None
        q, k, v = (by_head(part, attention.heads) for part in self.packing.pad(attention.qkv(x)).chunk(3, dim=-1))
        mixed = attend_where(q, k, v, self.wanted).transpose(1, 2).flatten(2)
        return attention.out(self.packing.pack(mixed))


class OneByOne:
    """Texts that grow by one word at a time, ``[texts, 1, width]``. What earlier words gave is kept."""

    def __init__(self) -> None:
        self.packing: Packing | None = None
        self.kept: dict[SelfAttention, tuple[Tensor, Tensor]] = {}

    def attend(self, attention: SelfAttention, x: Float[Tensor, "texts 1 width"]) -> Float[Tensor, "texts 1 width"]:
        q, k, v = (by_head(part, attention.heads) for part in attention.qkv(x).chunk(3, dim=-1))
        if attention in self.kept:
            before = self.kept[attention]
            k, v = torch.cat([before[0], k], dim=2), torch.cat([before[1], v], dim=2)
        self.kept[attention] = k, v
        return attention.out(attend(q, k, v, causal=False).transpose(1, 2).flatten(2))

    def reorder(self, rows: Int[Tensor, " texts"]) -> None:
        """Go on with these of the texts."""
        self.kept = {attention: (k[rows], v[rows]) for attention, (k, v) in self.kept.items()}


class DecoderLayer(nn.Module):
    """Self-attention over words, cross-attention to the picture, and an MLP, each after a LayerNorm and added to its input.

    The states of the picture have a LayerNorm of their own. ``mlp_between`` adds another MLP after the self-attention,
    as CoCa has it.
    """

    def __init__(
        self,
        width: int,
        memory_width: int,
        heads: int,
        *,
        mlp_ratio: float,
        activation: str,
        dropout: float,
        mlp_between: bool,
    ) -> None:
        super().__init__()
        self.ln_1, self.attention = nn.LayerNorm(width), SelfAttention(width, heads, causal=True)
        self.between = _Mlp(width, mlp_ratio, activation) if mlp_between else None
        self.ln_cross, self.ln_memory = nn.LayerNorm(width), nn.LayerNorm(memory_width)
        self.cross = CrossAttention(width, memory_width, heads)
        self.mlp = _Mlp(width, mlp_ratio, activation)
        self.dropout = nn.Dropout(dropout)

    def see(self, memory: Float[Tensor, "pictures places memory_width"]) -> Seen:
        return self.cross.see(self.ln_memory(memory))

    def forward(self, x: Tensor, seen: Seen, layout: Layout) -> Tensor:
        x = x + self.dropout(layout.attend(self.attention, self.ln_1(x)))
        if self.between is not None:
            x = x + self.dropout(self.between(x))
        x = x + self.dropout(self.cross(self.ln_cross(x), seen, layout.packing))
        return x + self.dropout(self.mlp(x))


class _Mlp(nn.Sequential):
    def __init__(self, width: int, ratio: float, activation: str) -> None:
        hidden = int(width * ratio)
        super().__init__(
            nn.LayerNorm(width), nn.Linear(width, hidden), activation_class(activation)(), nn.Linear(hidden, width)
        )


class CaptionDecoder(LayeredModule):
    """Layers over words, with keys and values of the picture that are computed once, and a last LayerNorm.

    The states of the picture are ``[pictures, places, memory_width]``. Matrices start as those of the text tower of CLIP.
    """

    def __init__(
        self,
        *,
        width: int,
        memory_width: int,
        layers: int,
        heads: int,
        mlp_ratio: float,
        activation: Activation,
        dropout: float = 0.0,
        mlp_between: bool = False,
    ) -> None:
        super().__init__()
        settings = {"mlp_ratio": mlp_ratio, "activation": activation, "dropout": dropout, "mlp_between": mlp_between}
        self.blocks = nn.ModuleList(DecoderLayer(width, memory_width, heads, **settings) for _ in range(layers))  # type: ignore[arg-type]
        self.ln_final = nn.LayerNorm(width)
        self._initialise(width, layers)

    def _initialise(self, width: int, layers: int) -> None:
        residual_std = width**-0.5 * (2 * layers) ** -0.5
        for name, parameter in self.blocks.named_parameters():
            if parameter.ndim == 2:
                into_residual = name.endswith("out.weight") or name.endswith((".mlp.3.weight", ".between.3.weight"))
                nn.init.normal_(parameter, std=residual_std if into_residual else parameter.shape[1] ** -0.5)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer; the last LayerNorm is with the last one."""
        groups = [list(block.parameters()) for block in self.blocks]
        groups[-1] += self.ln_final.parameters()
        return groups

    def see(self, memory: Float[Tensor, "pictures places memory_width"]) -> list[Seen]:
        return [block.see(memory) for block in self.blocks]  # type: ignore[operator]

    def forward(self, x: Tensor, seen: list[Seen], layout: Layout) -> Tensor:
        """States of words after the last LayerNorm, as ``x`` lies."""
        for block, of_block in zip(self.blocks, seen, strict=True):
            x = block(x, of_block, layout)
        return self.ln_final(x)
