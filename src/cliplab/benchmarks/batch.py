"""The batch that a benchmark computes on: pictures of random pixels, and texts of natural lengths."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from cliplab.data.layout import Row
from cliplab.data.source import CaptionSource, Source
from cliplab.models.tokens import Tokens
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError

QUANTILES = 64
SHORTEST = 3  # the start of text, a word, and the end of text


class MadeBatch(NamedTuple):
    """uint8 images ``[batch, 3, size, size]``, the tokens of their texts, and ``groups``, int64 ``[batch]``, all
    different."""

    images: UInt8[Tensor, "batch 3 size size"]
    tokens: Tokens
    groups: Int[Tensor, " batch"]  # type: ignore[assignment]

    def pinned(self) -> "MadeBatch":
        """In memory that a GPU copies from by itself."""
        tokens = Tokens(*(None if x is None else x.pin_memory() for x in self.tokens))  # type: ignore[arg-type]
        return MadeBatch(self.images.pin_memory(), tokens, self.groups.pin_memory())


def lengths_of_captions(
    count: int, mean: float, spread: float, longest: int, generator: torch.Generator
) -> Int[Tensor, " count"]:
    """Tokens of each caption, with start and end: log-normal with this mean and this ``spread`` (the deviation of the
    logarithm), rounded, and clipped at ``longest``."""
    normal = torch.randn(count, generator=generator, dtype=torch.float64)
    return _log_normal(normal, mean, spread, longest)


def typical_lengths(count: int, mean: float, spread: float, longest: int) -> Int[Tensor, " count"]:
    """Such lengths, not drawn: the same even quantiles again and again, so that batches differ in size alone."""
    shares = (torch.arange(QUANTILES, dtype=torch.float64) + 0.5) / QUANTILES
    lengths = _log_normal(torch.special.ndtri(shares), mean, spread, longest)
    return lengths.flip(0).repeat(-(-count // QUANTILES))[:count]


def _log_normal(normal: Tensor, mean: float, spread: float, longest: int) -> Tensor:
    lengths = torch.exp(math.log(mean) - spread**2 / 2 + spread * normal)
    return lengths.round().long().clamp(min(SHORTEST, longest), longest)


def made_tokens(lengths: Int[Tensor, " count"], vocab_size: int, generator: torch.Generator) -> Tokens:
    """Random words between the start and the end of text, which are the last two tokens of the vocabulary, as CLIP's."""
    ids = torch.randint(1, vocab_size - 2, (len(lengths), int(lengths.max())), generator=generator)
    position = torch.arange(ids.shape[1])
    ids = ids.masked_fill(position >= lengths.unsqueeze(1), 0)
    ids[:, 0] = vocab_size - 2
    return Tokens(ids.scatter(1, lengths.unsqueeze(1) - 1, vocab_size - 1), lengths)


def first_captions(source: Source, count: int) -> list[str]:
    """One caption of each of the first rows that can be used. Raises ConfigError for a mixture, and where there is none."""
    if not isinstance(source, CaptionSource):
        raise ConfigError("benchmark.from_data: a mixture has no rows of its own; name one source")
    rows = (row.values for row in source.raw_rows() if isinstance(row, Row))
    usable = (values for values in rows if not source.rows.refused(values))
    captions = [source.rows.captions(values)[0] for values in itertools.islice(usable, count)]
    if not captions:
        raise ConfigError("benchmark.from_data: no row of data.train can be used")
    return captions


def _repeated(captions: Sequence[str], count: int) -> list[str]:
    return list(itertools.islice(itertools.cycle(captions), count))


class Captions(NamedTuple):
    """Which texts are measured: the captions of ``data.train`` (``from_data``), or made ones, see
    ``lengths_of_captions``."""

    from_data: bool
    mean: float
    spread: float

    def tokens(self, config: Mapping[str, Any], tokenizer: Any, count: int, generator: torch.Generator) -> Tokens:
        if self.from_data:
            source = build(config["data"]["train"], "data.train")
            return tokenizer(_repeated(first_captions(source, count), count))
        text = config["model"]["text_encoder"]
        if not text.get("vocab_size"):
            raise ConfigError(
                "benchmark.from_data: captions are made for towers with a vocab_size in their config; for this one, set "
                "benchmark.from_data=true and choose data="
            )
        lengths = lengths_of_captions(count, self.mean, self.spread, text["context_length"], generator)
        return made_tokens(lengths, text["vocab_size"], generator)

    def told(self, tokens: Tokens) -> str:
        lengths = tokens.lengths.double()
        what = "the data's own" if self.from_data else f"log-normal with spread {self.spread:g}"
        return f"captions of {lengths.mean():.1f} tokens in the mean, {int(lengths.max())} at most ({what})"


def made_images(config: Mapping[str, Any], size: int, generator: torch.Generator) -> Tensor:
    side = config["model"]["image_encoder"]["image_size"]
    return torch.randint(256, (size, 3, side, side), dtype=torch.uint8, generator=generator)


def make_batch(
    config: Mapping[str, Any], tokenizer: Any, captions: Captions, size: int, pixels: bool = True
) -> MadeBatch:
    """A batch on the CPU, the same for the same ``seed``. Without ``pixels`` one black picture stands for all."""
    generator = torch.Generator().manual_seed(config["seed"])
    images = made_images(config, size if pixels else 1, generator).expand(size, -1, -1, -1)
    return MadeBatch(images, captions.tokens(config, tokenizer, size, generator).with_places(), torch.arange(size))


def batch_of_images(config: Mapping[str, Any], size: int) -> MadeBatch:
    """A batch whose texts are empty: for what reads its images alone."""
    generator = torch.Generator().manual_seed(config["seed"])
    images, lengths = made_images(config, size, generator), torch.full((size,), SHORTEST)
    return MadeBatch(images, made_tokens(lengths, SHORTEST + 1, generator).with_places(), torch.arange(size))
