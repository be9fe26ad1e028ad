"""Any encoder of ``transformers`` as the text tower."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, AutoModel, AutoModelForTextEncoding

from cliplab.models.encoders import TextEncoder, TextStates
from cliplab.models.feature_cache import FeatureCache
from cliplab.models.hf_sources import blocks_of, build_backbone, config_class, parameter_groups, read_architecture
from cliplab.models.tokens import Tokens, real_columns
from cliplab.rules import Count, Natural

PLACE = "model.text_encoder"


def _kind(architecture: dict[str, Any]) -> Any:
    """The encoder half where the library has a class for it (T5 and similar models), else the base model."""
    config = config_class(architecture, PLACE)
    return (
        AutoModelForTextEncoding
        if config in MODEL_FOR_TEXT_ENCODING_MAPPING and config().is_encoder_decoder
        else AutoModel
    )


def _positions(backbone: nn.Module) -> int | None:
    """How many tokens the position table holds, without those that RoBERTa and similar models skip for padding."""
    for name, module in backbone.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def _forget_features(encoder: "HFTextEncoder", keys: Any) -> None:
    """Clear the cache: its features belong to the weights from before the load."""
    if encoder.cache is not None:
        encoder.cache.clear()


def _number_of_states(hidden_states: list[int] | None, layers: int) -> int:
    """How many states are concatenated. Raises ValueError for an empty list and for a state that does not exist."""
    if hidden_states is None:
        return 1
    wrong = [i for i in hidden_states if not -layers - 1 <= i <= layers]
    if wrong or not hidden_states:
        raise ValueError(
            f"{PLACE}.hidden_states {hidden_states}: there are states 0 (the embeddings) to {layers}; null takes the last"
        )
    return len(hidden_states)


class HFTextEncoder(TextEncoder):
    """An encoder of ``transformers``, a pooling over its last states, and a projection into the joint space.

    ``architecture`` are the values of its config.json (``model_type`` among them), or None to take those of ``source``: a
    hub id, a folder, or ``package:<module>/<folder>``. With ``pretrained`` the weights are the source's. ``projection`` is
    called with (width, output_dim). ``hidden_states`` are numbers of states, where 0 is the embeddings and -1 the last.
    Their features are concatenated: early layers keep details that late ones lose (Su et al. 2021, whitening, take the first
    and the last). ``cached_texts`` features are kept while the
    encoder is frozen (0: none). ``forward`` maps Tokens to ``[batch, output_dim]``; the mask is made of their lengths.
    Raises UnreachableWeights when the source cannot be read, ValueError when something does not fit.
    """

    def __init__(
        self,
        *,
        architecture: dict[str, Any] | None,
        source: str | None,
        pretrained: bool,
        context_length: Count,
        pooling: nn.Module,
        projection: Callable[[int, int], nn.Module],
        output_dim: Count,
        hidden_states: list[int] | None = None,
        cached_texts: Natural = 0,
    ) -> None:
        super().__init__()
        if architecture is None and source is not None:
            architecture = read_architecture(source, PLACE)
        kind = AutoModel if architecture is None else _kind(architecture)
        backbone: Any
        backbone, self.architecture = build_backbone(
            architecture=architecture, source=source, pretrained=pretrained, place=PLACE, kind=kind
        )
        config = backbone.config
        if kind is AutoModelForTextEncoding or config.is_encoder_decoder:
            backbone = backbone.get_encoder()  # type: ignore[operator]
        if isinstance(getattr(backbone, "pooler", None), nn.Module):
            backbone.pooler = None  # type: ignore[assignment]  # it would never get a gradient
        room = _positions(backbone)
        if room is not None and context_length > room:
            raise ValueError(
                f"{PLACE}.context_length {context_length} exceeds the {room} positions of this tower; lower it"
            )
        self.backbone, self.pooling = backbone, pooling
        self.hidden_states = hidden_states
        self.projection = projection(
            config.hidden_size * _number_of_states(hidden_states, config.num_hidden_layers), output_dim
        )
        self.vocab_size, self.context_length, self.output_dim = config.vocab_size, context_length, output_dim
        self.pad_id, self.state_width = config.pad_token_id, config.hidden_size
        self.cache = FeatureCache(cached_texts) if cached_texts else None
        self.register_load_state_dict_post_hook(_forget_features)

    @staticmethod
    def known_values(node: dict[str, Any]) -> dict[str, Any]:
        """Values that the source knows, for arguments left at null."""
        needed = node["architecture"] is None and node["source"] is not None
        return {"architecture": read_architecture(node["source"], PLACE)} if needed else {}

    def layers(self) -> list[nn.Module]:
        """The library's layers or stages."""
        return list(blocks_of(self.backbone))

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output: embeddings, each layer, the projection."""
        return [*parameter_groups(self.backbone), [*self.pooling.parameters(), *self.projection.parameters()]]

    def _read(self, tokens: Tokens) -> tuple[Any, Int[Tensor, "batch length"]]:
        """The library's output, and the mask of real tokens."""
        ids, lengths = tokens.ids, tokens.lengths
        real = real_columns(lengths, ids.shape[1])  # [B, N]
        if self.pad_id is not None:
            ids = ids.masked_fill(~real, self.pad_id)  # RoBERTa counts positions by it
        mask = real.long()
        every = self.hidden_states is not None
        return self.backbone(input_ids=ids, attention_mask=mask, output_hidden_states=every), mask

    def _features(self, tokens: Tokens) -> Float[Tensor, "batch width"]:
        return self._pool(*self._read(tokens))

    def _pool(self, output: Any, mask: Int[Tensor, "batch length"]) -> Float[Tensor, "batch width"]:
        if self.hidden_states is None:
            return self.pooling(output.last_hidden_state, mask)  # of [B, N, width]
        states = [*output.hidden_states[:-1], output.last_hidden_state]  # the last after its norm, in every family
        return torch.cat([self.pooling(states[i], mask) for i in self.hidden_states], dim=-1)

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch output_dim"]:
        self.check_length(tokens.ids)
        fixed = not self.backbone.training and not any(p.requires_grad for p in self.backbone.parameters())
        if self.cache is None or not fixed:
            return self.projection(self._features(tokens))
        return self.projection(self.cache(tokens, self._features))

    def forward_states(self, tokens: Tokens) -> TextStates:
        """The last states of the encoder. ``hidden_states`` only changes the pooled vector. The cache is not used."""
        self.check_length(tokens.ids)
        output, mask = self._read(tokens)
        states = output.last_hidden_state.masked_fill(mask.unsqueeze(-1) == 0, 0)
        return TextStates(states, tokens.lengths, self.projection(self._pool(output, mask)))
