"""Images given as arrays or tensors."""

from typing import Any

import numpy as np
import torch
from PIL import Image

CHANNELS = (1, 3, 4)
WANTED = (
    "a picture is uint8 [height, width], or [height, width, channels] or [channels, height, width] of 1, 3 or 4 channels, "
    "in uint8 (0..255) or floating point (0..1 or 0..255); a batch of them has one axis more in front"
)


def is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | torch.Tensor)


def _refusal(array: np.ndarray, why: str = "") -> ValueError:
    return ValueError(
        f"images: an array of shape {list(array.shape)} and type {array.dtype} is not a picture{why}; {WANTED}"
    )


def _in_bytes(array: np.ndarray) -> np.ndarray:
    """The pixels as uint8, from any numeric type. Raises ValueError for values that are not pixels."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    if array.dtype == np.uint16:
        return (array / 257).round().astype(np.uint8)
    if array.dtype.kind not in "fiu":
        raise _refusal(array)
    low, high = float(array.min()), float(array.max())
    if not 0 <= low <= high <= 255:  # NaN fails, too
        why = ": its values are between {:g} and {:g}; normalised pictures are not accepted"
        raise _refusal(array, why.format(low, high))
    scale = 255 if array.dtype.kind == "f" and high <= 1 else 1
    return (array.astype(np.float64) * scale).round().astype(np.uint8)


def _channels_last(array: np.ndarray, first: bool) -> np.ndarray:
    """One image as ``[height, width, channels]``. Where either axis could be the channels, ``first`` decides."""
    last_fits, first_fits = array.shape[-1] in CHANNELS, array.shape[0] in CHANNELS
    if not last_fits and not first_fits:
        raise _refusal(array)
    return np.moveaxis(array, 0, -1) if first_fits and (first or not last_fits) else array


def pictures_of(value: Any) -> list[Image.Image]:
    """The images in an array or a tensor: one, or those of a batch. A batch has one scale of values.

    Raises ValueError naming the given shape and the accepted ones.
    """
    array = value.detach().cpu().float().numpy() if _is_half(value) else np.asarray(_on_cpu(value))
    if array.size == 0 or array.ndim not in (2, 3, 4) or (array.ndim == 2 and array.dtype.kind == "f"):
        raise _refusal(array)
    pixels = _in_bytes(array)
    if pixels.ndim == 2:
        return [Image.fromarray(pixels)]
    batch = pixels if pixels.ndim == 4 else pixels[None]
    tensors = [_channels_last(one, first=isinstance(value, torch.Tensor)) for one in batch]
    return [Image.fromarray(one[..., 0] if one.shape[-1] == 1 else np.ascontiguousarray(one)) for one in tensors]


def _is_half(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, torch.Tensor) else value
