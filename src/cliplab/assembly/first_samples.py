"""Draw the first samples as the towers see them: as a picture, and as a page."""

import base64
import html
import io
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cliplab.assembly.process import quiet, set_seed
from cliplab.models.tokens import Tokens
from cliplab.runs.folder import save_config
from cliplab.settings.build import build
from cliplab.settings.job import Job, Outcome

COLUMNS, LEAST_PIXELS, LINES, FONT_SIZE, GAP = 8, 144, 4, 13, 8


class Shown(NamedTuple):
    """A sample as the model sees it, with its caption, its number and the number of its tokens."""

    image: Image.Image
    caption: str
    number: int
    tokens: int


class _RecordingTokenizer:
    """A tokenizer that records the texts that it was given."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.texts = tokenizer, list[str]()

    def __call__(self, texts: Sequence[str]) -> Tokens:
        self.texts += texts
        return self.tokenizer(texts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)


def picture_of(image: Tensor) -> Image.Image:
    """A picture from a tensor ``[3, H, W]``, uint8 or float in 0..1."""
    values = image.mul(255).round() if image.is_floating_point() else image
    return Image.fromarray(values.clamp(0, 255).byte().permute(1, 2, 0).cpu().contiguous().numpy())


def first_samples(config: dict[str, Any], most: int) -> list[Shown]:
    """The first samples of the first epoch, with the augmentations of the workers and of the device."""
    tokenizer = _RecordingTokenizer(build(config["data"]["tokenizer"], "tokenizer"))
    node = {key: value for key, value in config["data"].items() if key not in ("validation", "tokenizer")}
    datamodule = build({**node, "batch_size": 1}, "data", validation=None, tokenizer=tokenizer)
    datamodule.batch_size = min(most, len(datamodule.train))
    batch = next(iter(datamodule.train_dataloader()))
    batch = datamodule.on_after_batch_transfer(batch, 0)
    facts = zip(batch.images, tokenizer.texts, batch.indices.tolist(), batch.tokens.lengths.tolist(), strict=True)
    return [Shown(picture_of(image), caption, number, tokens) for image, caption, number, tokens in facts]


def sheet(samples: Sequence[Shown]) -> Image.Image:
    """All samples in rows. Each is above the beginning of its caption. Small pictures are enlarged without smoothing."""
    enlarge = max(1, -(-LEAST_PIXELS // samples[0].image.width))
    side = samples[0].image.width * enlarge
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), FONT_SIZE)
    columns, line = min(COLUMNS, len(samples)), FONT_SIZE + 3
    step, height = side + GAP, side + GAP + LINES * line
    page = Image.new("RGB", (columns * step + GAP, -(-len(samples) // columns) * height + GAP), "white")
    draw = ImageDraw.Draw(page)
    for i, shown in enumerate(samples):
        left, top = GAP + i % columns * step, GAP + i // columns * height
        page.paste(shown.image.resize((side, side), Image.Resampling.NEAREST), (left, top))
        text = textwrap.wrap(shown.caption, max(8, int(side / (0.65 * FONT_SIZE))), max_lines=LINES, placeholder=" …")
        for number, words in enumerate(text):
            draw.text((left, top + side + 1 + number * line), words, fill="black", font=font)
    return page


def page(samples: Sequence[Shown], title: str) -> str:
    """All samples as one HTML page, with their whole captions."""
    figures = []
    for shown in samples:
        buffer = io.BytesIO()
        shown.image.save(buffer, "PNG")
        source = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
        caption = html.escape(shown.caption)
        figures.append(
            f'<figure><img src="{source}" alt="{caption}"><figcaption>{caption}'
            f"<small>sample {shown.number}, {shown.tokens} tokens</small></figcaption></figure>"
        )
    style = (
        "body{font:14px sans-serif;margin:2em}main{display:grid;grid-template-columns:repeat(auto-fill,minmax(180px,1fr));"
        "gap:1em}figure{margin:0}img{width:100%;image-rendering:pixelated}small{display:block;color:#666}"
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{style}</style>'
        f"<h1>{html.escape(title)}</h1><main>{''.join(figures)}</main></html>\n"
    )


def show_first_samples(job: Job) -> Outcome:
    """Write ``contact_sheet.png`` and ``contact_sheet.html`` into the run folder. Returns the page's path."""
    config, run_dir = job.config, job.run_dir
    quiet()
    set_seed(config["seed"])
    samples = first_samples(config, config["task"]["pictures"])
    save_config(config, job)
    title = f"{config['name']}: the first {len(samples)} samples, seed {config['seed']}"
    sheet(samples).save(run_dir / "contact_sheet.png")
    (run_dir / "contact_sheet.html").write_text(page(samples, title), encoding="utf8")
    print(run_dir / "contact_sheet.png")
    return Outcome(run_dir / "contact_sheet.html")
