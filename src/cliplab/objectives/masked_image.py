"""Hidden patches of the picture, predicted with the caption's help."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from cliplab.models.clip import CLIP, Encoded
from cliplab.models.layers import flat_patches
from cliplab.objectives.draws import uniforms
from cliplab.objectives.fusion import Fusion
from cliplab.objectives.objective import Loss, Objective, Pairs
from cliplab.rules import Count, Seed, Share


class MaskedImage(Objective):
    """Predicts the pixels of hidden patches from the rest of the picture and the caption.

    The image tower sees the picture with a share ``hidden`` of its places painted in the mean colour. Its states read those
    of the text in ``layers`` blocks, and a linear layer predicts the pixels of each place. The loss is the squared error
    over the hidden places, against pixels that are normalised in each place (He et al. 2022, MAE, section 3). Painting, and
    a head after the whole tower, fit any tower with a square grid, as in Xie et al. 2022 (SimMIM); the caption's help is
    that of Kwon et al. 2023 (MaskVLM). What is hidden follows the sample. The tower runs once more, for the painted picture,
    so that a batch norm also sees painted pictures.
    """

    reads = frozenset({"text_states"})

    def __init__(self, *, hidden: Share, width: Count, layers: Count, heads: Count, seed: Seed) -> None:
        super().__init__()
        if not 0 < hidden < 1:
            raise ValueError(f"objective.hidden {hidden} must lie between 0 and 1; 0.6 is a good share")
        self.hidden, self.width, self.depth, self.heads, self.seed = hidden, width, layers, heads, seed

    def build_heads(self, model: CLIP) -> None:
        encoder = model.image_encoder
        with torch.no_grad():
            was_training = encoder.training
            blank = torch.zeros(1, 3, model.image_size, model.image_size, device=model.image_mean.device)
            self.side = encoder.eval().forward_states(blank).patches.shape[1]
            encoder.train(was_training)
        if model.image_size % self.side:
            raise ValueError(
                f"objective=masked_image: {model.image_size} pixels do not divide into the {self.side} places of the image "
                f"tower; set model.image_encoder.image_size to {model.image_size // self.side * self.side}"
            )
        self.patch = model.image_size // self.side
        self.model = [model]  # in a list: its parameters are not this objective's
        self.fusion = Fusion(
            own_width=encoder.state_width,
            context_width=model.text_encoder.state_width,
            width=self.width,
            layers=self.depth,
            heads=self.heads,
        )
        self.head = nn.Linear(self.width, 3 * self.patch**2)

    def layer_groups(self) -> list[list[nn.Parameter]]:
        return [*self.fusion.layers(), list(self.head.parameters())]

    def places(self, batch: Pairs) -> Bool[Tensor, "batch places"]:
        """Which places are hidden: the same number of each picture."""
        device, count = batch.images.device, self.side**2
        epochs, indices = (x.to(device).unsqueeze(1) for x in (batch.epochs, batch.indices))
        order = uniforms(self.seed, epochs, indices, torch.arange(count, device=device).unsqueeze(0)).argsort(1)
        number = min(count, max(1, round(self.hidden * count)))
        return torch.zeros_like(order, dtype=torch.bool).scatter(1, order[:, :number], True)

    def targets(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch places pixels"]:
        """The pixels of each place, less their mean and over their deviation."""
        patches = flat_patches(pixels.float(), self.patch)
        deviation = (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        return (patches - patches.mean(-1, keepdim=True)) / deviation

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        texts, (model,) = encoded.text_states, self.model
        assert texts is not None
        pixels, hidden = model.normalised(batch.images), self.places(batch)
        grid = hidden.view(-1, 1, self.side, self.side)
        painted = grid.repeat_interleave(self.patch, 2).repeat_interleave(self.patch, 3)  # [B, 1, height, width]
        states = model.image_encoder.forward_states(pixels.masked_fill(painted, 0)).patches.flatten(1, 2)
        real = torch.arange(texts.tokens.shape[1], device=states.device) < texts.lengths.unsqueeze(1)
        predicted = self.head(self.fusion(states, texts.tokens, real)).float()
        errors = (predicted - self.targets(pixels)).square().mean(-1)  # [B, places]
        loss = (errors * hidden).sum() / hidden.sum()
        return Loss(loss, {})
