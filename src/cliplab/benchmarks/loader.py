"""benchmark=loader: time from encoded files to batches, compared with torchvision's standard pipeline."""

import io
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol

import datasets
import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, default_collate

from cliplab.benchmarks.measured import Measured
from cliplab.cores import usable_cores
from cliplab.data.images import decode_image, decode_pixels
from cliplab.data.layout import Row
from cliplab.data.loader import CaptionLoader, Collate
from cliplab.data.order import sample_rng
from cliplab.data.source import CaptionSource, Source
from cliplab.data.sources import caption_source
from cliplab.data.transforms import EvalTransform, TrainTransform
from cliplab.rules import Count
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError

STAGES = ("decode", "resize", "tokenise", "collate")
CAPTION = "a photograph of two dogs that run along a beach in the evening light"
PICTURES = (".jpg", ".jpeg", ".png", ".webp")
Rows = list[tuple[Any, str]]


def photograph(number: int, width: int, height: int) -> bytes:
    """A JPEG with the spectrum of a photograph (amplitude falls with frequency) and about as many bytes."""
    rng = np.random.default_rng(number)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    amplitude = np.maximum(frequency, 1 / width) ** -1.35
    waves = [amplitude * np.exp(2j * np.pi * rng.random(amplitude.shape)) for _ in range(3)]
    light, warmth, green = (x / x.std() for x in (np.fft.irfft2(w, s=(height, width)) for w in waves))
    colours = np.stack([light + 0.3 * warmth, light + 0.1 * green, light - 0.3 * warmth], -1)
    image = Image.fromarray((rng.uniform(90, 160, 3) + 50 * colours).clip(0, 255).astype(np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _rows_of_folder(path: str, images: int) -> Rows:
    files = sorted(p for p in Path(path).expanduser().rglob("*") if p.suffix.lower() in PICTURES)[:images]
    if not files:
        raise ConfigError(f"benchmark.path: {path} holds no pictures ({', '.join(PICTURES)})")
    return [(file.read_bytes(), CAPTION) for file in files]


def _rows_of_source(source: Source, images: int) -> Rows:
    if not isinstance(source, CaptionSource):
        raise ConfigError("benchmark.from_data: a mixture cannot be measured; name one source")
    rows = (row.values for row in source.raw_rows() if isinstance(row, Row))
    wanted = (values for values in rows if not source.rows.refused(values))
    return [
        (source.rows.picture(values), source.rows.captions(values)[0]) for values in itertools.islice(wanted, images)
    ]


class Timings(NamedTuple):
    """An entry for each round of each pipeline: milliseconds per picture by stage, and pictures per second of the loader."""

    stages: dict[str, list[dict[str, float]]]
    total: dict[str, list[float]]


class Pipeline(Protocol):
    """From an encoded file to a training tensor, in two steps that are timed separately."""

    def decode(self, value: Any) -> Any: ...

    def resize(self, decoded: Any, number: int) -> torch.Tensor: ...


class Ours:
    """libjpeg-turbo, crop, then resize in uint8. Batches are uint8; the device normalises them."""

    def __init__(self, transform: TrainTransform) -> None:
        self.transform = transform

    def decode(self, value: Any) -> np.ndarray:
        return decode_pixels(value)

    def resize(self, decoded: np.ndarray, number: int) -> torch.Tensor:
        return self.transform(decoded, sample_rng(0, 0, number))


class Torchvision:
    """Pillow, RandomResizedCrop, ToTensor, Normalize. Batches are float."""

    def __init__(self, transform: TrainTransform) -> None:
        from torchvision import transforms

        crop = transforms.RandomResizedCrop(
            transform.image_size,
            scale=tuple(transform.scale),
            ratio=tuple(transform.ratio),
            interpolation=transforms.InterpolationMode.BICUBIC,
        )
        flip = [transforms.RandomHorizontalFlip(transform.flip)] if transform.flip else []
        normalise = transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
        self.transform = transforms.Compose([crop, *flip, transforms.ToTensor(), normalise])

    def decode(self, value: Any) -> Image.Image:
        data = value["bytes"] if isinstance(value, dict) else value
        return Image.open(io.BytesIO(data)).convert("RGB") if isinstance(data, bytes) else decode_image(value)

    def resize(self, decoded: Image.Image, number: int) -> torch.Tensor:
        return self.transform(decoded)


def _stages(pipeline: Pipeline, rows: Rows, tokenizer: Callable, batch_size: int) -> dict[str, float]:
    """Milliseconds per picture of each stage, on one core."""
    spent, clock = dict.fromkeys(STAGES, 0.0), time.perf_counter
    for first in range(0, len(rows), batch_size):
        batch, images = rows[first : first + batch_size], []
        for number, (value, _) in enumerate(batch, first):
            start = clock()
            decoded = pipeline.decode(value)
            middle = clock()
            images.append(pipeline.resize(decoded, number))
            spent["resize"] += clock() - middle
            spent["decode"] += middle - start
        start = clock()
        tokenizer([caption for _, caption in batch])
        middle = clock()
        default_collate(images)
        spent["collate"] += clock() - middle
        spent["tokenise"] += middle - start
    return {stage: 1000 * seconds / len(rows) for stage, seconds in spent.items()}


class _PlainRows(Dataset):
    """The rows as a plain data set for torchvision's pipeline."""

    def __init__(self, pipeline: Torchvision, rows: Rows, tokenizer: Callable) -> None:
        self.pipeline, self.rows, self.tokenizer = pipeline, rows, tokenizer

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, str]:
        value, caption = self.rows[index]
        return self.pipeline.resize(self.pipeline.decode(value), index), caption

    def collate(self, samples: Sequence[tuple[torch.Tensor, str]]) -> Any:
        return default_collate([image for image, _ in samples]), self.tokenizer([text for _, text in samples])


def _loaders(rows: Rows, transform: TrainTransform, tokenizer: Any, batch_size: int, workers: int) -> dict[str, Any]:
    values = [row[0]["bytes"] if isinstance(row[0], dict) else row[0] for row in rows]
    data = datasets.Dataset.from_dict({"image": values, "caption": [caption for _, caption in rows]})
    source = caption_source(dataset=data)
    source.prepare(seed=0, train_transform=transform, eval_transform=EvalTransform(transform.image_size))
    plain = _PlainRows(Torchvision(transform), rows, tokenizer)
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": True, "drop_last": True}
    return {
        "ours": CaptionLoader(source, Collate(tokenizer), batch_size, workers, 0),
        "torchvision": DataLoader(plain, batch_size, collate_fn=plain.collate, shuffle=True, **options),
    }


def _passes(loader: Any, rounds: int) -> Iterator[float]:
    """Pictures per second of each pass through the loader, except the first, in which workers start."""
    for number in range(rounds + 1):
        start = time.perf_counter()
        images = sum(len(batch[0]) for batch in loader)
        if number:
            yield images / (time.perf_counter() - start)


def measure(
    *,
    config: dict[str, Any],
    path: str | None,
    from_data: bool,
    images: Count,
    width: Count,
    height: Count,
    rounds: Count,
    batch_size: Count,
    workers: Count | None,
    tokenizer: Any,
    transform: TrainTransform,
) -> Measured:
    """Compare this pipeline with torchvision's: median milliseconds of each stage on one core, and pictures per second of
    each loader with ``workers`` processes."""
    torch.set_num_threads(1)
    if from_data:
        rows = _rows_of_source(build(config["data"]["train"], "data.train"), images)
    elif path:
        rows = _rows_of_folder(path, images)
    else:
        rows = [(photograph(i, width, height), CAPTION) for i in range(images)]
    workers = workers or usable_cores()
    pipelines: dict[str, Pipeline] = {"ours": Ours(transform), "torchvision": Torchvision(transform)}
    loaders = _loaders(rows, transform, tokenizer, min(batch_size, len(rows)), workers)
    passes = {name: _passes(loader, rounds) for name, loader in loaders.items()}
    timings = Timings({name: [] for name in pipelines}, {name: [] for name in passes})
    for pipeline in pipelines.values():
        _stages(pipeline, rows[:batch_size], tokenizer, batch_size)  # warm up
    for _ in range(rounds):
        for name, pipeline in pipelines.items():
            timings.stages[name].append(_stages(pipeline, rows, tokenizer, batch_size))
        for name in passes:
            timings.total[name].append(next(passes[name]))
    return _measured(timings, len(rows), workers)


def _measured(timings: Timings, pictures: int, workers: int) -> Measured:
    """The medians of the rounds as a table, and a summary."""
    ours, theirs = (
        {stage: median(seconds[stage] for seconds in timings.stages[name]) for stage in STAGES}
        | {"all": median(sum(seconds.values()) for seconds in timings.stages[name])}
        for name in ("ours", "torchvision")
    )
    table = [
        {
            "stage": f"{stage}, ms per picture",
            "ours": ours[stage],
            "torchvision": theirs[stage],
            "ratio": theirs[stage] / ours[stage],
        }
        for stage in ours
    ]
    per_core = [1000 / ours["all"], 1000 / theirs["all"]]
    total = [median(timings.total["ours"]), median(timings.total["torchvision"])]
    for what, (a, b) in (("one core", per_core), (f"{workers} workers", total)):
        table.append({"stage": f"pictures per second, {what}", "ours": a, "torchvision": b, "ratio": a / b})
    ratio = per_core[0] / per_core[1]
    return Measured(
        table,
        f"{pictures} pictures: {per_core[0]:.0f} images/s per core, {ratio:.2f} times torchvision's {per_core[1]:.0f}; "
        f"{total[0]:.0f} in total with {workers} workers",
        {"rounds": timings._asdict(), "pictures": pictures, "ratio_per_core": ratio},
    )
