"""Does this text belong to this picture? With negatives that are hard to tell."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from cliplab.distributed import gather, rank, summed, world_size
from cliplab.models.clip import CLIP, Encoded
from cliplab.models.tokens import Tokens, real_columns
from cliplab.objectives.draws import text_keys, uniforms
from cliplab.objectives.fusion import Fusion
from cliplab.objectives.objective import Loss, Objective, Pairs
from cliplab.rules import Count, Seed

PAIRS_AT_ONCE = 4096


def drawn_negatives(
    logits: Float[Tensor, "rows columns"],
    hidden: Tensor,
    noise: Float[Tensor, "rows columns"],
) -> Int[Tensor, " rows"]:
    """For each row a column, with a probability in proportion to exp(logit), none that is ``hidden``. ``noise`` are numbers
    between 0 and 1: the largest sum of a logit and Gumbel noise is such a draw (Gumbel 1954). Where all are hidden, the
    answer is a hidden one."""
    gumbel = -(-noise.log()).log()
    return (logits.double() + gumbel).masked_fill(hidden, float("-inf")).argmax(1)


class Matching(Objective):
    """Image-text matching with hard negatives (Li et al. 2021, ALBEF, section 3.2).

    A head of ``layers`` blocks lets the text's states read the picture's, and tells from their mean whether both belong
    together. Each picture is judged with its own text, and with another text of the batch that is drawn by similarity; each
    text also with another picture. Pairs of one group are no negatives, nor are those with the same text; a pair for which
    nothing else is in the batch has no negatives. The embeddings, which only draw, get no gradient: the loss trains the
    towers through their states.

    The source has six layers, and draws from the share of one rank. Here negatives come from the batch of all ranks, and
    draws follow the samples, so that the loss does not depend on the number of ranks.
    """

    reads = frozenset({"image_states", "text_states"})

    def __init__(self, *, width: Count, layers: Count, heads: Count, seed: Seed) -> None:
        super().__init__()
        self.width, self.depth, self.heads, self.seed = width, layers, heads, seed

    def build_heads(self, model: CLIP) -> None:
        self.fusion = Fusion(
            own_width=model.text_encoder.state_width,
            context_width=model.image_encoder.state_width,
            width=self.width,
            layers=self.depth,
            heads=self.heads,
        )
        self.head = nn.Linear(self.width, 1)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        return [*self.fusion.layers(), list(self.head.parameters())]

    def logits(
        self,
        texts: Float[Tensor, "pairs length text_width"],
        lengths: Int[Tensor, " pairs"],
        pictures: Float[Tensor, "pairs places image_width"],
    ) -> Float[Tensor, " pairs"]:
        """Above 0 where text and picture rather belong together."""
        x = self.fusion(texts, pictures)
        real = real_columns(lengths, x.shape[1]).unsqueeze(-1)  # [pairs, N, 1]
        return self.head((x * real).sum(1) / lengths.unsqueeze(1)).squeeze(1).float()

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        images, texts = encoded.image_states, encoded.text_states
        assert images is not None
        assert texts is not None
        pictures, states, lengths = images.patches.flatten(1, 2), texts.tokens, texts.lengths
        of_image, of_text, has_negatives = self._negatives(encoded, batch)
        every_picture, every_length = gather(pictures), gather(lengths)
        every_state = gather(_padded(states))
        states = _padded(states)
        chosen = torch.cat([states, every_state[of_image], states])
        shown = torch.cat([pictures, pictures, every_picture[of_text]])
        logits = self.logits(chosen, torch.cat([lengths, every_length[of_image], lengths]), shown)
        truth = torch.zeros_like(logits)
        truth[: len(states)] = 1
        counts = torch.cat([torch.ones_like(has_negatives), has_negatives, has_negatives])
        number = summed(counts.sum().float()) / world_size()
        losses = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        right = (logits > 0) == (truth > 0)
        return Loss((losses * counts).sum() / number, {"match_accuracy": (right & counts).sum() / number})

    @torch.no_grad()
    def _negatives(self, encoded: Encoded, batch: Pairs) -> tuple[Tensor, Tensor, Tensor]:
        """Of each local picture the text, and of each local text the picture, by its number in the batch of all ranks; and
        which pairs have such negatives."""
        images, texts = encoded.image_embeds, encoded.text_embeds
        assert images is not None
        assert texts is not None
        names = torch.stack([batch.epochs, batch.indices]).to(images.device)  # [2, B]
        own = torch.arange(len(images), device=images.device) + rank() * len(images)
        groups = batch.indices.to(images.device) if batch.groups is None else batch.groups
        hidden = groups.unsqueeze(1) == gather(groups).unsqueeze(0)
        hidden |= own.unsqueeze(1) == torch.arange(hidden.shape[1], device=images.device)
        same = text_keys(batch.tokens)
        hidden |= same.unsqueeze(1) == gather(same).unsqueeze(0)
        others = gather(names[1].contiguous())
        found = []
        for side, (mine, all_of) in enumerate(((images, texts), (texts, images))):
            noise = uniforms(self.seed + side, names[0].unsqueeze(1), names[1].unsqueeze(1), others.unsqueeze(0))
            found.append(drawn_negatives(encoded.logit_scale * mine @ gather(all_of).T, hidden, noise))
        return found[0], found[1], ~hidden.all(1)

    def score(self, model: CLIP, images: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        """The logarithm of the probability that both belong together."""
        encoded = model(images, texts, self.reads)
        pictures, states = encoded.image_states.patches.flatten(1, 2), encoded.text_states.tokens
        rows = []
        for picture in pictures:
            parts = []
            for start in range(0, len(states), PAIRS_AT_ONCE):
                some, lengths = states[start : start + PAIRS_AT_ONCE], texts.lengths[start : start + PAIRS_AT_ONCE]
                parts.append(F.logsigmoid(self.logits(some, lengths, picture.expand(len(some), -1, -1))))
            rows.append(torch.cat(parts))
        return torch.stack(rows)


def _padded(states: Float[Tensor, "batch length width"]) -> Tensor:
    """As long as the longest text of all ranks."""
    length = torch.tensor([states.shape[1]], device=states.device)
    return F.pad(states, (0, 0, 0, int(gather(length).max()) - states.shape[1]))
