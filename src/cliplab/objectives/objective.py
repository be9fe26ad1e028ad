"""What every training objective is: what it reads, what it returns, and what it may add."""

from collections.abc import Set
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from cliplab.models.clip import CLIP, EMBEDS, Encoded
from cliplab.models.encoders import LayeredModule
from cliplab.models.tokens import Tokens


@runtime_checkable
class Pairs(Protocol):
    """What an objective may ask of a batch: uint8 images ``[batch, 3, size, size]``, the tokens of their texts, and which
    pairs show the same thing, int64 ``[batch]``."""

    @property
    def images(self) -> Tensor: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def groups(self) -> Int[Tensor, " batch"] | None: ...


class Loss(NamedTuple):
    """The loss to minimise, a scalar with gradient, and figures by name, scalars that are logged as ``train/<name>``."""

    loss: Float[Tensor, ""]
    figures: dict[str, Tensor]


class Objective(LayeredModule):
    """What a model is trained for. It is given what was encoded of the batch, once, and may have parameters of its own.

    ``reads`` names the fields of Encoded that it asks for: ``image_embeds``, ``text_embeds``, ``image_states``,
    ``text_states``. Its parameters are trained, decayed, locked (``locking.objective``), saved as ``objective.*`` and
    resumed like those of the towers; to use the model none of them is needed. ``layer_groups``, as towers have it, tells
    their order from input to output, for ``locking.objective``.

    It is called in the run's precision, under autocast where that is mixed; embeddings come in float32. Under
    data-parallel training each rank sees its share of the batch, and gradients are averaged over ranks: a loss
    that is a mean over samples is right as it is, one that compares samples gathers them (``cliplab.distributed.gather``).
    """

    reads: Set[str] = EMBEDS

    def build_heads(self, model: CLIP) -> None:
        """Make the parameters whose sizes depend on the towers (``model.image_encoder.state_width``, …). Called once,
        before anything is trained or loaded."""

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        raise NotImplementedError


@runtime_checkable
class Scorer(Protocol):
    """An objective that can tell how likely a text is for a picture, for zero-shot use without a joint space."""

    def score(self, model: CLIP, images: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        """For each image of a batch and each text a score, the higher the likelier; without gradient, in eval mode."""
        ...
