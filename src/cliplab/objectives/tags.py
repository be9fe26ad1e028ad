"""Tags of the picture: which frequent words its caption has, each by itself."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cliplab.models.clip import CLIP, Encoded
from cliplab.models.tokens import Tokens
from cliplab.objectives.bag_of_words import BagOfWords
from cliplab.objectives.objective import Loss, Pairs


class Tags(BagOfWords):
    """Predicts for each frequent word, from the embedding of the picture, whether it stands in the caption: the tag
    prediction of ICMLM (Sariyildiz et al. 2020), a logistic loss for each of its 1,000 tags.

    Different from the source: tags are the ``words`` most frequent tokens, whatever their part of speech, and the loss is
    summed over tags, so that it does not fade with their number. The picture is read from the joint space.
    """

    def first_bias(self, frequencies: Float[Tensor, " words"]) -> Float[Tensor, " words"]:
        return frequencies.clamp(max=0.99).logit()

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        assert encoded.image_embeds is not None
        logits = self.logits(encoded.image_embeds)
        present = (self.targets(batch.tokens) > 0).float()
        loss = F.binary_cross_entropy_with_logits(logits, present, reduction="sum") / len(logits)
        best = present.gather(1, logits.argmax(1, keepdim=True))
        return Loss(loss, {"tag_accuracy": best.mean()})

    def logits(self, images: Float[Tensor, "batch embed_dim"]) -> Float[Tensor, "batch words"]:
        """Of every tag. A unit vector is scaled so that its values have a variance of 1."""
        return self.head(images * self.width**0.5).float()

    def score(self, model: CLIP, images: Tensor, texts: Tokens) -> Float[Tensor, "images texts"]:
        """The log-likelihood that a picture has the tags of each text and no others: the sum of their log-odds, and what it
        is for no tag at all. The latter is the same for all texts, but not for all pictures."""
        logits = self.logits(model.encode_image(images))
        with torch.autocast(logits.device.type, enabled=False):
            none = F.logsigmoid(-logits).sum(1, keepdim=True)
            return logits @ (self.targets(texts) > 0).float().T + none
