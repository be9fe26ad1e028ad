"""The parts both transformers share: activation, attention, residual block, packed sequences."""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cliplab.models.kernels import has_packed_attention, is_gpu
from cliplab.models.tokens import Tokens


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the activation of the paper's models.

    On a GPU it is written with SiLU: a third fewer passes over memory, and one tensor kept for backward instead of two.
    """

    def forward(self, x: Tensor) -> Tensor:
        if is_gpu(x.device):
            return F.silu(1.702 * x) * (1 / 1.702)
        return x * torch.sigmoid(1.702 * x)


class TanhGELU(nn.GELU):
    """GELU by its tanh approximation, the activation of SigLIP's towers."""

    def __init__(self) -> None:
        super().__init__(approximate="tanh")


Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]
ACTIVATIONS: dict[str, type[nn.Module]] = {"quick_gelu": QuickGELU, "gelu": nn.GELU, "gelu_tanh": TanhGELU}


def activation_class(name: str) -> type[nn.Module]:
    """Look an activation up by name. Raises ValueError naming the choices."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


class Packing(NamedTuple):
    """Maps the tokens of a packed batch ``[total, width]`` to the padded one ``[batch, length, width]``.

    ``index`` says which padded position each packed row is taken from. ``rows`` says which packed row each padded position
    reads where several positions share a row. It is None where each position of ``index`` has a row for itself. ``starts``
    says where each text begins in the packed rows, with their number at the end; only GPUs for which ``attend_packed`` is
    there get it.
    """

    index: Int[Tensor, " total"]  # type: ignore[assignment]
    batch: int
    length: int
    rows: Int[Tensor, " positions"] | None = None  # type: ignore[assignment]
    starts: Int[Tensor, " batch+1"] | None = None  # type: ignore[assignment]

    def pad(self, packed: Float[Tensor, "total width"]) -> Float[Tensor, "batch length width"]:
        if self.rows is not None:
            return packed.index_select(0, self.rows).view(self.batch, self.length, -1)
        padded = packed.new_zeros(self.batch * self.length, packed.shape[-1])
        return padded.index_copy(0, self.index, packed).view(self.batch, self.length, -1)

    def pack(self, padded: Float[Tensor, "batch length width"]) -> Float[Tensor, "total width"]:
        return padded.reshape(self.batch * self.length, -1).index_select(0, self.index)


def pack_tokens(tokens: Tokens) -> Packing:
    """One row for each real token."""
    starts = None
    if has_packed_attention(tokens.ids.device):
        starts = F.pad(tokens.lengths.cumsum(0, dtype=torch.int32), (1, 0))
    batch, length = tokens.ids.shape
    return Packing(tokens.real_places(), batch, length, starts=starts)


def pack_shared(ids: Int[Tensor, "batch length"], lengths: Int[Tensor, " batch"]) -> Packing:
    """One row for all texts that begin with the same tokens: in a causal tower a token's state depends on nothing else."""
    rows, index, total = torch.zeros_like(ids), [], 0
    vocabulary = int(ids.max()) + 1
    previous_row = torch.zeros_like(lengths)  # of each text: the row of the token before
    for column in range(ids.shape[1]):
        texts = (lengths > column).nonzero().squeeze(1)
        beginnings = previous_row[texts] * vocabulary + ids[texts, column]  # equal for texts that are the same so far
        distinct, number = torch.unique(beginnings, return_inverse=True)
        position = texts * ids.shape[1] + column
        first = position.new_full((len(distinct),), ids.numel()).scatter_reduce(0, number, position, "amin")
        index.append(first)  # a shared row is computed from the first text that has it
        rows[texts, column] = previous_row[texts] = number + total
        total += len(distinct)
    return Packing(torch.cat(index), ids.shape[0], ids.shape[1], rows.flatten())


def attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Softmax attention over ``[batch, heads, length, head width]``.

    It uses the fused kernel on accelerators. On a CPU it uses plain products, since the fused kernel's bfloat16 backward
    takes a quarter of a training step there.
    """
    if q.device.type != "cpu" or is_gpu(q.device):
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    scores = (q * q.shape[-1] ** -0.5) @ k.mT  # [batch, heads, length, length]
    if causal:
        above = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(above, float("-inf"))
    return scores.softmax(-1).to(v.dtype) @ v


def attend_packed(q: Tensor, k: Tensor, v: Tensor, starts: Tensor, longest: int, causal: bool) -> Tensor:
    """Softmax attention over packed rows ``[total, heads, head width]`` in half precision, each text by itself.

    ``starts`` is int32 ``[batch + 1]``, ``longest`` the length of the longest text or more. No padding is made or computed.
    """
    from torch.nn.attention.varlen import varlen_attn

    window = (-1, 0) if causal else (-1, -1)
    out = varlen_attn(q, k, v, starts, starts, longest, longest, window_size=window)
    assert isinstance(out, Tensor)
    return out


class SelfAttention(nn.Module):
    """Multi-head self-attention with one fused projection, over a padded or a packed batch."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}; set heads to a divisor of {width}")
        self.heads, self.causal = heads, causal
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, packing: Packing | None = None) -> Tensor:
        qkv = self.qkv(x)
        if packing is not None and packing.starts is not None and self._fits_packed_attention(qkv):
            q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).unbind(1)  # each [total, H, width / H]
            return self.out(attend_packed(q, k, v, packing.starts, packing.length, self.causal).flatten(1))
        if packing is not None:
            qkv = packing.pad(qkv)
        # Split where they lie, so that their gradients are joined into those of qkv without another copy
        q, k, v = (x.transpose(1, 2) for x in qkv.unflatten(-1, (3, self.heads, -1)).unbind(2))  # [B, H, N, width / H]
        mixed = attend(q, k, v, self.causal).transpose(1, 2).flatten(2)  # [B, N, width]
        if packing is not None:
            mixed = packing.pack(mixed)
        return self.out(mixed)

    def _fits_packed_attention(self, qkv: Tensor) -> bool:
        head_width = qkv.shape[-1] // (3 * self.heads)
        return qkv.dtype in (torch.bfloat16, torch.float16) and head_width % 8 == 0 and head_width <= 256


def flat_patches(
    images: Float[Tensor, "batch 3 height width"], patch_size: int
) -> Float[Tensor, "batch patches pixels"]:
    """Cut images into flattened patches in reading order. Channels vary slowest within a patch."""
    x = images.unflatten(3, (-1, patch_size)).unflatten(2, (-1, patch_size))  # [B, 3, rows, p, columns, p]
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)  # [B, rows * columns, 3 * p * p]


class ResidualBlock(nn.Module):
    """Pre-norm transformer block: attention, then a two-layer MLP. ``norm_eps`` is added to a LayerNorm's variance."""

    def __init__(
        self, width: int, heads: int, mlp_ratio: float, activation: str, causal: bool, norm_eps: float = 1e-5
    ) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width, norm_eps)
        self.attention = SelfAttention(width, heads, causal)
        self.ln_2 = nn.LayerNorm(width, norm_eps)
        self.mlp_in = nn.Linear(width, int(width * mlp_ratio))
        self.activation = activation_class(activation)()
        self.mlp_out = nn.Linear(int(width * mlp_ratio), width)

    def forward(self, x: Tensor, packing: Packing | None = None) -> Tensor:
        x = x + self.attention(self.ln_1(x), packing)
        return x + self.mlp_out(self.activation(self.mlp_in(self.ln_2(x))))


def residual_blocks(
    layers: int, width: int, heads: int, mlp_ratio: float, activation: str, *, causal: bool, norm_eps: float
) -> nn.ModuleList:
    """The blocks of a transformer."""
    return nn.ModuleList(
        ResidualBlock(width, heads, mlp_ratio, activation, causal=causal, norm_eps=norm_eps) for _ in range(layers)
    )
