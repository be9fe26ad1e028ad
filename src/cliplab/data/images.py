"""Decodes images from any cell of a data set to RGB."""

import functools
import io
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError

from cliplab.data.jpeg import ORIENTATION, decode_usual_jpeg

ZIP = "zip://"
MAX_PIXELS = 100_000_000
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by the number of the EXIF orientation


class BadImage(ValueError):
    """A picture that cannot be used; ``reason`` is a short code to count by."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason


@functools.lru_cache(maxsize=8)
def _archive(path: str, process: int) -> zipfile.ZipFile:
    """An open zip file. A forked process opens its own: it would share the position in the file with the first one."""
    return zipfile.ZipFile(path)


def _of_archive(path: str) -> Any:
    """The bytes of ``zip://<member>::<file>``, as the datasets library names pictures in a zip file, else the path."""
    member, _, file = path.removeprefix(ZIP).partition("::")
    try:
        return _archive(file, os.getpid()).read(member.lstrip("/"))
    except (OSError, KeyError):
        return path


def _content(value: Any) -> Any:
    """The content of a cell of the datasets library: bytes, a path, or (from our own readers) a range of a larger file."""
    if isinstance(value, str) and value.startswith(ZIP):
        return _of_archive(value)
    if not isinstance(value, Mapping):
        return value
    if value.get("bytes") is not None:
        return value["bytes"]
    if value.get("offset") is not None:
        with open(value["path"], "rb") as file:
            file.seek(value["offset"])
            return file.read(value["size"])
    return _content(value.get("path"))


def encoded(value: Any) -> bytes | None:
    """The bytes of the image file in a cell, or of the file that it names. None when there is no such file."""
    content = _content(value)
    if isinstance(content, str | os.PathLike):
        return Path(content).read_bytes() if os.path.isfile(content) else None
    return bytes(content) if isinstance(content, bytes | bytearray) else None


def _open(value: Any) -> Image.Image:
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, np.ndarray):
        return Image.fromarray(value)
    value = _content(value)
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
    raise BadImage("several_images" if isinstance(value, list) else "not_an_image", type(value).__name__)


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


def _upright(image: Image.Image) -> Image.Image:
    """Rotated as the EXIF or XMP header says, or unchanged when the header is invalid. Pillow's own function also rewrites
    the header, and fails when it contains a fraction with denominator zero."""
    try:
        turn = TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:
        turn = None
    return image if turn is None else image.transpose(turn)


def keep_pillow_quiet() -> None:
    """Ignore Pillow's warnings: the important ones are errors here, or are covered by ``MAX_PIXELS``.

    Called once, on import. Pictures are decoded in threads, where ``warnings.catch_warnings`` is not safe.
    """
    warnings.filterwarnings("ignore", module=r"PIL\.")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


keep_pillow_quiet()


@contextmanager
def _as_bad_image() -> Iterator[None]:
    """Turn any error of a decoder into BadImage. Pillow raises errors of many kinds on broken bytes."""
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
    with _as_bad_image():
        return _checked(value).size


def decode_image(value: Any) -> Image.Image:
    """RGB picture from bytes, path, Hugging Face image dictionary, array or PIL image.

    EXIF rotation is applied, transparent images get a white background, 16-bit and float grey are scaled, and the first
    frame of an animation is taken. Raises BadImage with a reason when there is no image.
    """
    with _as_bad_image():
        return _to_rgb(_upright(_checked(value)))


def decode_pixels(value: Any) -> UInt8[np.ndarray, "height width 3"]:
    """The same pixels as ``decode_image(value)``, computed faster for ordinary JPEG files. Raises BadImage."""
    with _as_bad_image():
        data = encoded(value)
    pixels = None if data is None else decode_usual_jpeg(data, MAX_PIXELS)
    if pixels is None:
        pixels = np.asarray(decode_image(value if data is None else data))
    return pixels
