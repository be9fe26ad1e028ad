"""What of a caption is trained on, and in which words around it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

CaptionPart = Literal["whole", "sentence"]
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


def sentences(text: str) -> list[str]:
    """The sentences of a text; the text itself where it has only one."""
    found = [part.strip() for part in _SENTENCE_ENDS.split(text)]
    return [part for part in found if part] or [text]


@dataclass(frozen=True)
class Wording:
    """Takes the whole caption or one of its sentences (``part``), and puts it into one of ``templates`` in place of ``{}``.
    Both are drawn by the generator of the sample. Raises ValueError for an unknown part, and for a template without ``{}``.
    """

    part: CaptionPart = "whole"
    templates: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.part not in get_args(CaptionPart):
            raise ValueError(f"data.train.caption_part {self.part!r} must be one of {', '.join(get_args(CaptionPart))}")
        for template in self.templates or ():
            if template.count("{}") != 1:
                raise ValueError(
                    f"data.train.caption_templates: {template!r} must hold the caption's place, {{}}, exactly once"
                )

    def __call__(self, caption: str, rng: np.random.Generator) -> str:
        if self.part == "sentence":
            parts = sentences(caption)
            caption = parts[int(rng.integers(len(parts)))]
        if self.templates:
            caption = self.templates[int(rng.integers(len(self.templates)))].replace("{}", caption)
        return caption
