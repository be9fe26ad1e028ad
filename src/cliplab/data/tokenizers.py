"""Text to tokens."""

import copy
import functools
import gzip
import html
import importlib.util
import re
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ftfy
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer
from transformers import CLIPTokenizer as _FastCLIPTokenizer

from cliplab.models.hf_sources import UnreachableWeights, locate, unreachable
from cliplab.models.tokens import Tokens

_MERGES = 49_152 - 256 - 2  # the vocabulary file holds more lines than the paper's vocabulary uses


def _byte_symbols() -> list[str]:
    """A printable character for each of the 256 bytes, in vocabulary order: printable bytes first, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


@functools.cache
def _fast_tokenizer() -> _FastCLIPTokenizer:
    """The paper's byte-pair vocabulary, read out of the installed package open_clip_torch without importing it."""
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise ImportError("the CLIP vocabulary comes from open_clip_torch; run: pip install open_clip_torch")
    path = Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(path.read_bytes()).decode("utf8").split("\n")[1 : _MERGES + 1]
    merges = [tuple(line.split()) for line in lines]
    symbols = _byte_symbols()
    words = [*symbols, *(s + "</w>" for s in symbols), *("".join(m) for m in merges)]
    vocabulary = {word: i for i, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return _FastCLIPTokenizer(vocab=vocabulary, merges=merges, split_special_tokens=True)  # type: ignore[arg-type]


def clean_text(text: str) -> str:
    """Repair mojibake, resolve HTML entities twice, collapse white space, as the paper's tokenizer does."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip()


class CLIPTokenizer:
    """The paper's lower-case byte-pair tokenizer, served by the Rust library.

    Calling it with a list of strings gives ``Tokens``, padded with 0 to the longest only. A text longer than
    ``context_length`` is cut, keeps its end-of-text token and adds one to ``truncated``.
    """

    vocab_size = 49_408
    start_token, end_token = 49_406, 49_407

    def __init__(self, context_length: int = 77) -> None:
        if context_length < 3:
            raise ValueError(f"context_length {context_length} leaves no room for text; set it to 3 or more")
        self.context_length = context_length
        self.truncated = 0

    def library_tokenizer(self) -> _FastCLIPTokenizer:
        """The same vocabulary as transformers' own object, which cuts at ``context_length``; to be saved beside weights."""
        tokenizer = copy.deepcopy(_fast_tokenizer())
        tokenizer.model_max_length = self.context_length
        return tokenizer

    def __call__(self, texts: Sequence[str]) -> Tokens:
        cleaned = [clean_text(text) for text in texts]
        encoded = _fast_tokenizer().backend_tokenizer.encode_batch_fast(cleaned, add_special_tokens=False)
        rows = [e.ids for e in encoded]
        room = self.context_length - 2
        self.truncated += sum(len(row) > room for row in rows)
        lengths = torch.tensor([min(len(row), room) + 2 for row in rows])
        ids = torch.zeros(len(rows), int(lengths.max()) if rows else 0, dtype=torch.int64)
        for i, row in enumerate(rows):
            ids[i, : lengths[i]] = torch.tensor([self.start_token, *row[:room], self.end_token])
        return Tokens(ids, lengths)


class HFTokenizer:
    """The tokenizer of a Hugging Face model, from a hub id, a folder or ``package:<module>/<folder>``.

    Same interface as ``CLIPTokenizer``: a text longer than ``context_length`` is cut, keeps its end token and adds one to
    ``truncated``; special tokens written out in a text are plain words. ``definition`` (what a checkpoint carries) takes
    the place of the source. Raises UnreachableWeights when the source cannot be read.
    """

    def __init__(self, *, source: str | None, context_length: int, definition: dict[str, Any] | None = None) -> None:
        if context_length < 3:
            raise ValueError(f"context_length {context_length} leaves no room for text; set it to 3 or more")
        self.context_length, self.truncated = context_length, 0
        self.definition = self._read(source) if definition is None else definition
        self.library = Tokenizer.from_str(self.definition["tokenizer"])
        self.library.no_padding()
        self.library.enable_truncation(context_length)
        self.library.encode_special_tokens = True
        self.vocab_size = self.library.get_vocab_size()

    @staticmethod
    def _read(source: str | None) -> dict[str, Any]:
        if source is None:
            raise ValueError("tokenizer.source: give a hub id or a folder that holds the tokenizer's files")
        try:
            tokenizer = AutoTokenizer.from_pretrained(locate(source))
        except (OSError, ValueError) as error:  # no files, or none that the library reads
            raise unreachable(source, "tokenizer", error) from error
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ValueError(f"tokenizer.source: {source} has no tokenizer.json; save it with a fast tokenizer first")
        if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # what the library makes of a config alone
            raise ValueError(
                f"tokenizer.source: {source} holds no vocabulary; put the tokenizer's files there, or name a folder of them"
            )
        return {"tokenizer": tokenizer.backend_tokenizer.to_str(), "pad_id": tokenizer.pad_token_id or 0}

    def __call__(self, texts: Sequence[str]) -> Tokens:
        encoded = self.library.encode_batch([clean_text(text) for text in texts])
        self.truncated += sum(bool(e.overflowing) for e in encoded)
        lengths = torch.tensor([max(1, len(e.ids)) for e in encoded])
        ids = torch.full((len(encoded), int(lengths.max()) if encoded else 0), int(self.definition["pad_id"]))
        for row, e in zip(ids, encoded, strict=True):
            row[: len(e.ids)] = torch.tensor(e.ids, dtype=torch.int64)
        return Tokens(ids, lengths)


class SiglipTokenizer(HFTokenizer):
    """As SigLIP was trained: lower case, no punctuation, white space collapsed; then the model's own vocabulary."""

    @staticmethod
    def _read(source: str | None) -> dict[str, Any]:
        try:
            return HFTokenizer._read(source)
        except UnreachableWeights as error:
            reason = str(error).partition(" Ways on:")[0]
            raise UnreachableWeights(
                f"{reason} Put its tokenizer.json and tokenizer_config.json beside the weights, or go online"
            ) from error

    def __call__(self, texts: Sequence[str]) -> Tokens:
        return super().__call__([canonical_text(text) for text in texts])


def canonical_text(text: str) -> str:
    """Underscores to spaces, no punctuation, lower case, white space collapsed (big_vision's canonical form)."""
    bare = clean_text(text).replace("_", " ").translate(str.maketrans("", "", string.punctuation)).lower()
    return " ".join(bare.split())
