"""From whatever a data set holds to an RGB picture."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from cliplab.data.jpeg import decode_usual_jpeg

MAX_PIXELS = 100_000_000


class BadImage(ValueError):
    """A picture that cannot be used; ``reason`` is a short code to count by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


def _open(value: Any) -> Image.Image:
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, np.ndarray):
        return Image.fromarray(value)
    if isinstance(value, dict):
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if value is None:
        raise BadImage("missing")
    if isinstance(value, bytes | bytearray):
        if not value:
            raise BadImage("empty")
        return Image.open(io.BytesIO(value))
    if isinstance(value, str | os.PathLike):
        if not os.path.exists(value):
            raise BadImage("missing_file", str(value))
        return Image.open(value)
    raise BadImage("not_an_image", type(value).__name__)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would saturate
        array = np.asarray(image).astype(np.float64)
        return Image.fromarray((array / 257 if array.max(initial=0) > 255 else array).astype(np.uint8)).convert("RGB")
    if image.mode == "F":  # float: Pillow would give black
        array = np.nan_to_num(np.asarray(image, dtype=np.float64))
        return Image.fromarray(
            (array * (255 if array.max(initial=0) <= 1 else 1)).clip(0, 255).astype(np.uint8)
        ).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        return white.convert("RGB")
    return image.convert("RGB")


@contextmanager
def _telling() -> Iterator[None]:
    """Whatever a decoder raises becomes BadImage; Pillow's raise anything on broken bytes."""
    try:
        yield
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage("not_an_image", str(error)[:80]) from error
    except Image.DecompressionBombError as error:
        raise BadImage("too_large", str(error)[:80]) from error
    except Exception as error:
        raise BadImage("broken", str(error)[:80]) from error


def _checked(value: Any) -> Image.Image:
    image = _open(value)
    if image.width * image.height > MAX_PIXELS:
        raise BadImage("too_large", f"{image.width} x {image.height}")
    return image


def image_size(value: Any) -> tuple[int, int]:
    """Width and height from the header, before EXIF rotation, without decoding. Raises BadImage."""
    with _telling():
        return _checked(value).size


def decode_image(value: Any) -> Image.Image:
    """RGB picture from bytes, path, Hugging Face image dictionary, array or PIL image.

    EXIF rotation is applied, transparency lies on white, 16-bit and float grey are scaled, the first frame of an
    animation is taken. Raises BadImage with a reason when there is nothing to show.
    """
    with _telling():
        return _to_rgb(ImageOps.exif_transpose(_checked(value)))


def decode_pixels(value: Any) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of ``decode_image(value)``, exactly, with less work for ordinary JPEG files. Raises BadImage likewise."""
    data = value
    if isinstance(data, dict):
        data = data["bytes"] if data.get("bytes") is not None else data.get("path")
    if isinstance(data, str | os.PathLike) and os.path.isfile(data):
        data = Path(data).read_bytes()
    pixels = decode_usual_jpeg(data, MAX_PIXELS) if isinstance(data, bytes) else None
    return np.asarray(decode_image(value)) if pixels is None else pixels
