"""Everything that real data sets hold: read right, or replaced, counted by reason and named."""

import io
import os
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image, ImageOps, TiffImagePlugin

from cliplab.data import retry
from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.images import decode_image, keep_pillow_quiet
from cliplab.data.layout import DataError
from cliplab.data.retry import persistent
from cliplab.data.sources import caption_source
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform

from .conftest import png


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif)


def palette() -> bytes:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([10, 20, 30, 200, 100, 50])
    return encoded(image, transparency=1)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8))
GREY = np.full((20, 20), 32768, dtype=np.uint16)
FRAMES = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
# bytes, expected colour of the middle
ODD = {
    "misnamed": (encoded(Image.new("RGB", (20, 20), "red"), "WEBP", lossless=True), (255, 0, 0)),
    "cmyk": (encoded(Image.new("CMYK", (20, 20), (0, 0, 0, 255)), "JPEG"), (0, 0, 0)),
    "palette": (palette(), (255, 255, 255)),
    "rgba": (encoded(Image.new("RGBA", (20, 20), (255, 0, 0, 0))), (255, 255, 255)),
    "sixteen": (encoded(Image.fromarray(GREY)), (127, 127, 127)),
    "float": (encoded(Image.fromarray(np.full((20, 20), 0.5, np.float32)), "TIFF"), (127, 127, 127)),
    "grey": (encoded(Image.new("L", (20, 20), 77)), (77, 77, 77)),
    "animated": (encoded(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), (255, 0, 0)),
    "turned": (turned(), (254, 0, 0)),
    "one pixel": (encoded(Image.new("RGB", (1, 1), "blue")), (0, 0, 255)),
    "ribbon": (encoded(Image.new("RGB", (5000, 10), "blue")), (0, 0, 255)),
}
BROKEN = {
    "truncated": (encoded(NOISE)[:900], "broken"),
    "truncated jpeg": (encoded(NOISE, "JPEG")[:500], "broken"),
    "zero bytes": (b"", "empty"),
    "html": (b"<!DOCTYPE html><html>404</html>", "not_an_image"),
    "none": (None, "missing"),
    "bomb": (encoded(Image.new("1", (20_000, 20_000))), "too_large"),
}
CAPTIONS = {
    "none": (None, "no_caption"),
    "empty": (b"  ", "empty_caption"),
    "long": (b"a long story " * 800_000, None),
    "not utf8": (b"caf\xe9 \xff", None),
}


@pytest.fixture(scope="module")
def assorted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet folder of all of these among sound ones."""
    folder = tmp_path_factory.mktemp("broken")
    rows = [(data, b"odd") for data, _ in ODD.values()] + [(data, b"broken") for data, _ in BROKEN.values()]
    rows += [(png(3), caption) for caption, _ in CAPTIONS.values()]
    rows += [(png(k % 12), b"sound") for k in range(40 - len(rows))]
    features = datasets.Features({"jpg": datasets.Value("binary"), "txt": datasets.Value("binary")})
    columns = {"jpg": [data for data, _ in rows], "txt": [caption for _, caption in rows]}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(folder / "train.parquet")
    return folder


def prepared(source: Any, **options: Any) -> CaptionDataModule:
    whole = EvalTransform(16)
    settings: dict[str, Any] = {"batch_size": 4, "seed": 1, "max_bad_fraction": 1.0, **options}
    return CaptionDataModule(
        train=source,
        validation=None,
        train_transform=lambda pixels, rng: whole(Image.fromarray(pixels)),
        eval_transform=whole,
        tokenizer=CLIPTokenizer(32),
        **settings,
    )


def test_odd_pictures_are_read_right(assorted: Path) -> None:
    source = caption_source(path=str(assorted))
    prepared(source)
    for k, (name, (_, colour)) in enumerate(ODD.items()):
        sample = source[(0, k)]
        assert sample.bad is None, name
        assert sample.image[:, 8, 8].tolist() == pytest.approx(colour, abs=2), name


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("streaming", [False, True])
def test_broken_rows_are_replaced_and_counted_by_reason(streaming: bool, workers: int, assorted: Path) -> None:
    options = {"streaming": True, "samples_per_epoch": 40} if streaming else {}
    runs = []
    for _ in range(2):
        module = prepared(caption_source(path=str(assorted), **options), num_workers=workers)
        runs.append([batch.images.sum().item() for batch in module.train_dataloader()])
    assert runs[0] == runs[1], "the same replacement every time"
    expected = [reason for _, reason in (*BROKEN.values(), *CAPTIONS.values()) if reason]
    assert sorted(module.counts.bad.elements()) == sorted(expected)
    assert len(module.counts.first_bad) == len(expected)
    assert "40 samples read, 8 unusable rows replaced (2 broken, 1" in str(module.counts)
    assert module.counts.metrics()["data/bad/broken"] == 2
    assert module.counts.truncated >= 1  # the long story


def test_a_missing_file_is_counted(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20)).save(tmp_path / "0.png")
    (tmp_path / "pairs.csv").write_text("image,caption\n0.png,zero\n1.png,one\n")
    source = caption_source(path=str(tmp_path))
    prepared(source, batch_size=2)
    reason, place = source[(0, 1)].bad or ("", "")
    assert reason == "missing_file"
    assert place == "pairs.csv line 3"


def test_above_the_limit_the_first_ten_are_named(tmp_path: Path) -> None:
    rows = {"jpg": [b"x" if k % 2 else png(k % 12) for k in range(200)], "txt": ["a"] * 200}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    module = prepared(caption_source(path=str(tmp_path)), max_bad_fraction=0.3)
    with pytest.raises(DataError, match=r"rows are unusable \(not_an_image\), more than") as raised:
        list(module.train_dataloader())
    assert str(raised.value).count("row ") == 10


class Dying:
    """Stands for the system's killer of processes that take too much memory."""

    def __call__(self, pixels: Any, rng: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_dying_worker_is_a_clear_error(assorted: Path) -> None:
    module = prepared(caption_source(path=str(assorted)), num_workers=1)
    module.train.train_transform = Dying()
    with pytest.raises(DataError, match=r"a worker that reads data died .*lower data.num_workers .*and resume"):
        list(module.train_dataloader())


def test_a_source_that_comes_back_loses_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", (0, 0, 0))
    failures = iter([3, 3, 3, 7, None])

    def rows(start: int) -> Any:
        stop = next(failures)
        for k in range(start, 10):
            if k == stop:
                raise ConnectionError("gone")
            yield k

    assert list(persistent(rows, "somewhere")) == list(range(10))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_source_that_stays_away_stops_the_run(workers: int, assorted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "RETRY_SECONDS", (0, 0))
    stream = caption_source(path=str(assorted), streaming=True, samples_per_epoch=40)
    module = prepared(stream, num_workers=workers)

    def away(*_: Any) -> Any:
        raise FileNotFoundError("train.parquet is gone")
        yield

    monkeypatch.setattr(stream.layout, "rows", away)
    message = r"cannot be read any more, after 2 more attempts: FileNotFoundError: train.parquet is gone$"
    with pytest.raises(DataError, match=message):
        list(module.train_dataloader())


def test_a_header_that_makes_no_sense_costs_no_picture() -> None:
    exif, fraction = Image.Exif(), TiffImagePlugin.IFDRational(1, 0)
    exif[0x0112], exif[0x011A] = 6, fraction  # turned, and a resolution of one over nothing
    turned_too = encoded(Image.new("RGB", (40, 20), "red"), "JPEG", exif=exif)
    assert decode_image(turned_too).size == (20, 40)
    start = turned_too.index(b"Exif\0\0") + 6
    cut = turned_too[:start] + b"\xff" * 12 + turned_too[start + 12 :]
    assert decode_image(cut).size == (40, 20)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_turn_is_pillows(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(NOISE.resize((30, 20)), "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert decode_image(data).tobytes() == expected.tobytes()


def test_warnings_of_pillow_are_ignored_without_touching_others(recwarn: pytest.WarningsRecorder) -> None:
    keep_pillow_quiet()  # pytest sets the filters anew for each test
    bomb = encoded(Image.new("1", (9_500, 9_500)))
    before = list(warnings.filters)
    assert decode_image(bomb).size == (9_500, 9_500)
    assert not recwarn.list
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(decode_image, [encoded(Image.new("RGB", (8, 8)))] * 200))
    assert list(warnings.filters) == before
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)
