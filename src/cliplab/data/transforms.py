"""Transforms from images to uint8 tensors. The model normalises them itself."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from cliplab.data.augmentations import Augmentations
from cliplab.data.order import uniforms
from cliplab.rules import Count, Share


def to_tensor(image: Image.Image) -> UInt8[Tensor, "3 height width"]:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _resampling(interpolation: str) -> Image.Resampling:
    """Pillow's filter by its name in lower case. Raises ValueError naming the choices."""
    names = {filter_.name.lower(): filter_ for filter_ in Image.Resampling}
    if interpolation not in names:
        raise ValueError(f"interpolation {interpolation!r} is unknown; choose one of {', '.join(names)}")
    return names[interpolation]


def _offset(length: int, size: int, crop_rounding: str) -> int:
    """Where a centred window of ``size`` begins on a side of ``length``. It is negative where the side is shorter.

    An odd remainder is rounded ``down`` (transformers) or to the ``nearest`` even number (torchvision and open_clip).
    """
    if crop_rounding == "down":
        return (length - size) // 2
    return round((length - size) / 2) if length >= size else -((size - length) // 2)


def _centred(image: Image.Image, size: int, crop_rounding: str) -> UInt8[Tensor, "3 size size"]:
    """The centre of an image, with black borders where it is smaller than the window."""
    left, top = (_offset(length, size, crop_rounding) for length in image.size)
    return to_tensor(image.crop((left, top, left + size, top + size)))


def _check_rounding(crop_rounding: str) -> str:
    """The words for a fingerprint. Raises ValueError for an unknown rounding."""
    if crop_rounding not in ("nearest", "down"):
        raise ValueError(f"crop_rounding {crop_rounding!r} is neither nearest nor down")
    return ", odd rests rounded down" if crop_rounding == "down" else ""


class EvalTransform:
    """Short side to ``short_side``, then the centre crop of ``image_size``: the paper's evaluation transform.

    ``short_side=None`` takes the size of the crop. ``interpolation`` names Pillow's filter. ``crop_rounding`` is explained
    at ``_offset``. Raises ValueError for an unknown name.
    """

    def __init__(
        self,
        image_size: Count,
        short_side: int | None = None,
        interpolation: str = "bicubic",
        crop_rounding: str = "nearest",
    ) -> None:
        self.image_size, self.short_side = image_size, short_side or image_size
        self.filter, self.crop_rounding = _resampling(interpolation), crop_rounding
        crop = "centre crop" if self.short_side == image_size else f"centre crop to {image_size}"
        self.fingerprint = f"shortest side {self.short_side}, {interpolation}, {crop}" + _check_rounding(crop_rounding)

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> UInt8[Tensor, "3 size size"]:
        side, (width, height) = self.short_side, image.size
        if width <= height:
            target = (side, max(side, int(side * height / width)))
        else:
            target = (max(side, int(side * width / height)), side)
        if target != image.size:
            image = image.resize(target, self.filter)
        return _centred(image, self.image_size, self.crop_rounding)


class SquashTransform:
    """Both sides to given lengths, whatever the aspect ratio: SigLIP's evaluation transform.

    ``size`` is (height, width); None takes ``image_size`` for both. With another size, the centre crop of ``image_size``
    follows. ``interpolation`` names Pillow's filter. Raises ValueError for an unknown name.
    """

    def __init__(
        self,
        image_size: Count,
        size: Sequence[int] | None = None,
        interpolation: str = "bicubic",
        crop_rounding: str = "nearest",
    ) -> None:
        self.image_size, self.filter, self.crop_rounding = image_size, _resampling(interpolation), crop_rounding
        self.height, self.width = size or (image_size, image_size)
        cropped = (self.height, self.width) != (image_size, image_size)
        side = f"{self.height} x {self.width}" if cropped else f"{image_size}"
        rounding = _check_rounding(crop_rounding)
        self.fingerprint = f"squashed to {side}, {interpolation}"
        self.fingerprint += f", centre crop to {image_size}{rounding}" if cropped else ""

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> UInt8[Tensor, "3 size size"]:
        return _centred(image.resize((self.width, self.height), self.filter), self.image_size, self.crop_rounding)


class FitTransform:
    """Long side to ``image_size``, then borders of the grey level ``fill``: open_clip's resize mode "longest"."""

    def __init__(self, image_size: Count, interpolation: str = "bicubic", fill: int = 0) -> None:
        self.image_size, self.filter, self.fill = image_size, _resampling(interpolation), fill
        self.fingerprint = f"longest side {image_size}, {interpolation}, filled with {fill}"

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> UInt8[Tensor, "3 size size"]:
        size, ratio = self.image_size, max(image.size) / self.image_size
        width, height = (max(1, round(length / ratio)) for length in image.size)
        image = image.resize((width, height), self.filter)
        canvas = Image.new("RGB", (size, size), (self.fill,) * 3)
        canvas.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
        return to_tensor(canvas)


class CropTransform:
    """The centre of the image without resizing, with black borders if it is smaller: for weights that state no resizing."""

    def __init__(self, image_size: Count, crop_rounding: str = "nearest") -> None:
        self.image_size, self.crop_rounding = image_size, crop_rounding
        self.fingerprint = f"not resized, centre crop to {image_size}" + _check_rounding(crop_rounding)

    def __call__(self, image: Image.Image, rng: np.random.Generator | None = None) -> UInt8[Tensor, "3 size size"]:
        return _centred(image, self.image_size, self.crop_rounding)


class TrainTransform:
    """CLIP's training transform: a random resized crop, a flip with probability ``flip``, then ``augmentations``.

    The share of the area is in ``scale``, the aspect ratio in ``ratio``. The crop comes before an antialiased bicubic resize
    in uint8. The result is within one grey level of Pillow's for photographs, within four for noise at full contrast.
    """

    def __init__(
        self,
        image_size: Count,
        scale: Sequence[Share] = (0.9, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        flip: Share = 0.0,
        augmentations: Sequence[Callable[[Tensor], Tensor]] = (),
    ) -> None:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale {list(scale)} must be two shares in (0, 1], the smaller first, such as [0.9, 1.0]")
        self.image_size, self.scale, self.ratio, self.flip = image_size, scale, ratio, flip
        self.augmentations = Augmentations(augmentations) if augmentations else None

    def _crop(self, width: int, height: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Left, top, width and height. After ten failed draws, the largest central crop within ``ratio``."""
        for _ in range(10):
            area = width * height * rng.uniform(self.scale[0], self.scale[1])
            aspect = math.exp(rng.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
        aspect = min(max(width / height, self.ratio[0]), self.ratio[1])
        w, h = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
        return (width - w) // 2, (height - h) // 2, w, h

    def __call__(
        self, pixels: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator
    ) -> UInt8[Tensor, "3 size size"]:
        left, top, width, height = self._crop(pixels.shape[1], pixels.shape[0], rng)
        crop = pixels[top : top + height, left : left + width].copy()
        x = torch.from_numpy(crop).permute(2, 0, 1).unsqueeze(0)  # channels last in memory
        if (height, width) != (self.image_size, self.image_size):
            x = F.interpolate(x, size=(self.image_size, self.image_size), mode="bicubic", antialias=True)
        x = x.squeeze(0)
        x = (x.flip(2) if rng.random() < self.flip else x).contiguous()
        return self.augmentations(x, int(rng.integers(2**63))) if self.augmentations else x


class BatchAffine:
    """Random shift, zoom and rotation of a whole batch on its device, with white borders.

    ``shift`` is a share of the side, ``zoom`` a relative change, ``rotation`` in degrees. Each is drawn from (-value, value)
    by (seed, epoch, sample index). It suits small cached images, for which a crop in workers costs more than the training
    step.
    """

    def __init__(self, shift: float = 0.0, zoom: float = 0.0, rotation: float = 0.0) -> None:
        self.shift, self.zoom, self.rotation = shift, zoom, rotation

    def __call__(self, images: Tensor, *, seed: int, epochs: np.ndarray, indices: np.ndarray) -> Tensor:
        """uint8 ``[batch, 3, H, W]`` to float32 of the same shape in 0..1."""
        drawn = torch.from_numpy(uniforms(seed, epochs, indices, 4) * 2 - 1).float()
        drawn = drawn.to(
            images.device, non_blocking=images.device.type == "cuda"
        )  # small, so copied when the call returns
        zoom, angle = 1 + drawn[:, 0] * self.zoom, drawn[:, 1] * math.radians(self.rotation)
        theta = torch.empty(len(images), 2, 3, device=images.device)
        theta[:, 0, 0], theta[:, 0, 1] = zoom * angle.cos(), -zoom * angle.sin()
        theta[:, 1, 0], theta[:, 1, 1] = zoom * angle.sin(), zoom * angle.cos()
        theta[:, :, 2] = drawn[:, 2:] * (2 * self.shift)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return 1 - F.grid_sample(1 - images.float() / 255, grid, align_corners=False)
