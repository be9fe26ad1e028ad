"""Transforms of torchvision v2, with random numbers that depend on (seed, epoch, index) alone."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from cliplab.data.order import uniforms


class Augmentations:
    """Applies ``transforms`` in order to an image ``[3, H, W]``, uint8 or float in 0..1. Each keeps type and shape.

    The transforms draw from torch's default CPU generator, as all of torchvision v2 do. It is seeded for each image and
    then restored. Raises ValueError when a transform changes the type or shape.
    """

    def __init__(self, transforms: Sequence[Callable[[Tensor], Tensor]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, image: Shaped[Tensor, "3 height width"], seed: int) -> Shaped[Tensor, "3 height width"]:
        generator = torch.default_generator
        before, out = generator.get_state(), image
        generator.manual_seed(seed)
        try:
            for transform in self.transforms:
                out = transform(out)
                if out.dtype != image.dtype or out.shape != image.shape:
                    raise ValueError(
                        f"augmentation {type(transform).__name__} makes {out.dtype} {list(out.shape)} out of {image.dtype} "
                        f"{list(image.shape)}; it must keep both, since sizes and normalisation are set elsewhere"
                    )
        finally:
            generator.set_state(before)
        return out


class BatchAugmentations:
    """Augmentations of a whole batch on its device, image by image: for cached images, or when workers are too slow."""

    def __init__(self, transforms: Sequence[Callable[[Tensor], Tensor]]) -> None:
        self.augmentations = Augmentations(transforms)

    def __call__(
        self, images: Shaped[Tensor, "batch 3 height width"], *, seed: int, epochs: np.ndarray, indices: np.ndarray
    ) -> Shaped[Tensor, "batch 3 height width"]:
        seeds = (uniforms(seed, epochs, indices, 1)[:, 0] * 2**53).astype(np.int64)
        return torch.stack([self.augmentations(x, int(s)) for x, s in zip(images, seeds, strict=True)])
