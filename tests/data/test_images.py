"""Everything people call an image: read right, or refused with a reason to count."""

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cliplab.data.images import BadImage, decode_image, decode_pixels
from cliplab.data.jpeg import decode_usual_jpeg


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def colour(mode: str, value: Any, size: tuple[int, int] = (6, 4)) -> Image.Image:
    return Image.new(mode, size, value)


def pixel(value: Any, x: int = 0, y: int = 0) -> tuple[int, ...]:
    image = decode_image(value)
    assert image.mode == "RGB"
    return image.getpixel((x, y))


def test_transparency_lies_on_white() -> None:
    assert pixel(encoded(colour("RGBA", (255, 0, 0, 0)), "PNG")) == (255, 255, 255)
    assert pixel(encoded(colour("RGBA", (255, 0, 0, 128)), "PNG")) == pytest.approx((255, 127, 127), abs=1)
    assert pixel(encoded(colour("LA", (0, 0)), "PNG")) == (255, 255, 255)
    palette = colour("P", 1)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    assert pixel(encoded(palette, "PNG")) == (200, 100, 50)
    assert pixel(encoded(palette, "PNG", transparency=1)) == (255, 255, 255)


def test_sixteen_bits_and_floats_are_scaled() -> None:
    grey = Image.fromarray(np.full((4, 6), 32768, dtype=np.uint16))
    assert pixel(encoded(grey, "PNG")) == (127, 127, 127)
    floats = Image.fromarray(np.full((4, 6), 0.5, dtype=np.float32))
    assert pixel(encoded(floats, "TIFF")) == (127, 127, 127)


def test_other_modes() -> None:
    assert pixel(encoded(colour("L", 77), "PNG")) == (77, 77, 77)
    assert pixel(encoded(colour("1", 1), "PNG")) == (255, 255, 255)
    assert pixel(encoded(colour("CMYK", (0, 255, 255, 0)), "JPEG"))[0] > 200
    frames = [colour("RGB", c) for c in ("red", "blue")]
    assert pixel(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)
    assert decode_image(encoded(colour("RGB", "red", (1, 1)), "PNG")).size == (1, 1)
    assert decode_image(encoded(colour("RGB", "red", (5000, 10)), "PNG")).size == (5000, 10)


def test_exif_rotation_is_applied() -> None:
    image = colour("RGB", "red", (6, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert decode_image(encoded(image, "JPEG", exif=exif)).size == (4, 6)


def test_every_way_an_image_arrives(tmp_path: Path) -> None:
    image = colour("RGB", (1, 2, 3))
    data = encoded(image, "PNG")
    (tmp_path / "misnamed.jpg").write_bytes(data)
    path = str(tmp_path / "misnamed.jpg")
    for value in (image, data, path, {"bytes": data, "path": None}, {"bytes": None, "path": path}, np.asarray(image)):
        assert pixel(value) == (1, 2, 3)


PNG = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)), "PNG")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "empty"),
        (None, "missing"),
        ({"bytes": None, "path": None}, "missing"),
        ("/nowhere/x.png", "missing_file"),
        (b"<html><body>404 not found</body></html>", "not_an_image"),
        (17, "not_an_image"),
        (PNG[: len(PNG) // 2], "broken"),
    ],
    ids=lambda x: str(x)[:20],
)
def test_unusable_image_has_a_reason(value: Any, reason: str) -> None:
    with pytest.raises(BadImage) as caught:
        decode_image(value)
    assert caught.value.reason == reason


def test_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cliplab.data.images.MAX_PIXELS", 99)
    with pytest.raises(BadImage, match="too_large: 10 x 10"):
        decode_image(encoded(colour("RGB", "red", (10, 10)), "PNG"))


def jpeg(size: tuple[int, int], mode: str = "RGB", **options: Any) -> bytes:
    y, x = np.mgrid[: size[1], : size[0]]
    waves = np.stack([127 + 120 * np.sin(x / (3 + 5 * c) + y / (11 - 3 * c)) for c in range(3)], -1)
    return encoded(Image.fromarray(waves.astype(np.uint8)).convert(mode), "JPEG", **options)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return jpeg((40, 30), exif=exif)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("size", [(500, 375), (33, 17), (1, 1), (1, 90)], ids=str)
def test_usual_jpeg_gives_pillows_pixels(size: tuple[int, int], quality: int, subsampling: int) -> None:
    for options in ({}, {"progressive": True}, {"mode": "L"}):
        sampling = {} if "mode" in options else {"subsampling": subsampling}
        data = jpeg(size, quality=quality, **sampling, **options)
        fast = decode_usual_jpeg(data, 10**9)
        assert fast is not None
        assert np.array_equal(fast, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_unusual_jpeg_is_left_to_pillow() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    unusual = [turned(6), turned(3), jpeg((40, 30), "CMYK"), jpeg((40, 30), xmp=xmp), jpeg((40, 30))[:-300], PNG, b""]
    assert [decode_usual_jpeg(data, 10**9) for data in unusual] == [None] * len(unusual)
    assert decode_usual_jpeg(jpeg((40, 30)), 40 * 30 - 1) is None
    assert decode_usual_jpeg(turned(1), 10**9) is not None


def outcome(decode: Callable[[bytes], Any], data: bytes) -> bytes | str:
    try:
        return np.asarray(decode(data)).tobytes()
    except BadImage as error:
        return error.reason


@pytest.mark.filterwarnings("ignore")
def test_damaged_jpeg_meets_the_same_end_either_way() -> None:
    rng = np.random.default_rng(0)
    ends = Counter()
    for i in range(400):
        data = bytearray(turned(int(rng.choice([1, 6]))) if i % 3 else jpeg((40, 30), progressive=True))
        if i % 2:
            data[int(rng.integers(2, len(data)))] = int(rng.integers(256))
        else:
            del data[int(rng.integers(len(data))) :]
        pixels = outcome(decode_pixels, bytes(data))
        assert pixels == outcome(decode_image, bytes(data))
        ends[pixels if isinstance(pixels, str) else "read"] += 1
    assert set(ends) >= {"read", "broken", "not_an_image"}


def test_pixels_of_every_way_an_image_arrives(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data := jpeg((12, 9)))
    expected = np.asarray(decode_image(data))
    for value in (data, str(tmp_path / "x"), {"bytes": data}, {"bytes": None, "path": tmp_path / "x"}, expected):
        assert np.array_equal(decode_pixels(value), expected)
    with pytest.raises(BadImage, match="missing_file"):
        decode_pixels(str(tmp_path / "nowhere"))
