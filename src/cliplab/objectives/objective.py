"""What an objective reads, what it returns, and what it may add."""

import functools
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence, Set
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from cliplab.models.clip import CLIP, EMBEDS, Encoded
from cliplab.models.encoders import LayeredModule
from cliplab.models.tokens import Tokenizer, Tokens


@runtime_checkable
class Pairs(Protocol):
    """What an objective may read from a batch: uint8 images ``[batch, 3, size, size]``, the tokens of their texts, and
    ``groups``, int64 ``[batch]``, equal for pairs that show the same thing. ``epochs`` and ``indices``, int64 ``[batch]`` on
    the CPU, name each sample: what is drawn at random for it follows them. ``captions`` are the texts themselves."""

    @property
    def images(self) -> Tensor: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def groups(self) -> Int[Tensor, " batch"] | None: ...
    @property
    def epochs(self) -> Int[Tensor, " batch"]: ...
    @property
    def indices(self) -> Int[Tensor, " batch"]: ...
    @property
    def captions(self) -> Sequence[str]: ...


class Loss(NamedTuple):
    """The loss to minimise, a scalar with gradient, and figures by name, scalars that are logged as ``train/<name>``."""

    loss: Float[Tensor, ""]
    figures: dict[str, Tensor]


class Corpus(NamedTuple):
    """What an objective may learn of the training data before it is built.

    ``captions`` gives at most so many training captions, always the same ones in the same order. ``tokenizer`` is that of
    the text tower.
    """

    captions: Callable[[int], Iterator[str]]
    tokenizer: Tokenizer


class Objective(LayeredModule):
    """What a model is trained for. It gets the encoded batch, and it may have parameters of its own.

    ``reads`` names the fields of Encoded that it needs: ``image_embeds``, ``text_embeds``, ``image_states``,
    ``text_states``. Its parameters are trained, decayed, locked (``locking.objective``), saved as ``objective.*`` and
    resumed like those of the towers. A model can be used without them. ``layer_groups`` lists them in order from input to
    output; locks and optimizers go by it.

    It is called in the precision of the run, under autocast where that is mixed. Embeddings are always float32. In
    data-parallel training each rank sees its share of the batch, and gradients are averaged over ranks. A loss that is a
    mean over samples needs nothing more; one that compares samples gathers them (``cliplab.distributed.gather``).
    """

    reads: Set[str] = EMBEDS

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        """Take over from a saved state, under this objective's own names, what the sizes of parameters depend on, such as a
        dictionary. It is called first where a run is resumed or a trained objective is rebuilt. The state is loaded later.
        """

    def prepare(self, corpus: Corpus) -> None:
        """Read what training needs, such as a dictionary that was not adopted. It is called before ``build_heads``, and only
        where the model is trained."""

    def build_heads(self, model: CLIP) -> None:
        """Make the parameters whose sizes depend on the towers, such as ``model.image_encoder.state_width``.

        It is called once, before anything is trained or loaded.
        """

    def trained_parts(self) -> list["Objective"]:
        """The objectives whose losses count: itself, or the parts of a sum."""
        return [self]

    def least_loss(self, pictures: Sequence[Hashable], captions: Sequence[Hashable], groups: Sequence[int]) -> float:
        """A loss below which no model gets on a batch, as far as it follows from what is equal in it; 0 where nothing does.
        The items are those of the samples: equal ones stand for equal pictures, captions and groups."""
        return 0.0

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        raise NotImplementedError


@runtime_checkable
class Scorer(Protocol):
    """An objective that can say how likely a text is for a picture: zero-shot use without a joint space."""

    def score(self, model: CLIP, images: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        """A score for each pair of image and text; a higher score means a likelier text. Called in eval mode."""
        ...


def trained_embeds(objective: Objective | None) -> Set[str]:
    """Which of ``image_embeds`` and ``text_embeds`` the objective trains; both for weights without an objective."""
    if objective is None:
        return EMBEDS
    return EMBEDS & frozenset().union(*(part.reads for part in objective.trained_parts()))


def features_of(objective: Objective | None, model: CLIP) -> Callable[[Tensor], Tensor] | None:
    """Unit vectors of pictures where an objective trains no image embeddings, such as a decoder over the image grid: the
    mean over the states of the image tower. None where it trains embeddings."""
    if "image_embeds" in trained_embeds(objective):
        return None

    def features(images: Tensor) -> Float[Tensor, "images width"]:
        states = model.image_encoder.forward_states(model.normalised(images)).patches
        return F.normalize(states.float().mean((1, 2)), dim=-1)

    return features


def score_of(objective: Objective | None, model: CLIP) -> Callable[[Tensor, Tokens], Tensor] | None:
    """What compares pictures with texts where an objective trains no text embeddings; None where it trains them, so that
    they are compared. A sum without text embeddings scores by its first part that can."""
    if objective is None or "text_embeds" in trained_embeds(objective):
        return None
    scorer = next((part for part in objective.trained_parts() if isinstance(part, Scorer)), None)
    return None if scorer is None else functools.partial(scorer.score, model)
