"""Tokenizers: from texts to token ids."""

import copy
import functools
import gzip
import hashlib
import html
import importlib.util
import json
import re
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypedDict

import ftfy
import torch
from annotated_types import Ge
from tokenizers import Encoding, Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers import CLIPTokenizer as _FastCLIPTokenizer

from cliplab.files import without_marks
from cliplab.models.hf_sources import UnreachableWeights, locate, quiet, unreachable
from cliplab.models.hub import hub_or_cache
from cliplab.models.tokens import Tokens

ContextLength = Annotated[int, Ge(3)]  # begin, a word and end
_MERGES = 49_152 - 256 - 2  # the vocabulary file holds more lines than the paper's vocabulary uses


def _byte_symbols() -> list[str]:
    """A printable character for each of the 256 bytes, in vocabulary order: printable bytes first, then the others."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]


@functools.cache
def _fast_tokenizer() -> _FastCLIPTokenizer:
    """The paper's byte-pair vocabulary, read from the installed package open_clip_torch without importing it."""
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


_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def canonical_text(text: str) -> str:
    """Underscores to spaces, no punctuation, lower case, white space collapsed (big_vision's canonical form)."""
    bare = clean_text(text).replace("_", " ").translate(_NO_PUNCTUATION).lower()
    return " ".join(bare.split())


def siglip_text(text: str) -> str:
    """Lower case, no punctuation or underscores, white space collapsed, as in transformers' SiglipTokenizer."""
    return bare_text(text.lower())


def bare_text(text: str) -> str:
    """No punctuation, white space collapsed, as in SiglipTokenizer when ``do_lower_case`` is false."""
    return " ".join(text.translate(_NO_PUNCTUATION).split())


# How texts are cleaned before they are tokenised, by open_clip's names. "none" leaves it to the tokenizer's own rules.
CLEANERS: dict[str, Callable[[str], str]] = {
    "none": str,
    "whitespace": clean_text,
    "lower": lambda text: clean_text(text).lower(),
    "canonicalize": canonical_text,
    "siglip": siglip_text,
    "siglip_cased": bare_text,
}


def _cleaner(name: str) -> Callable[[str], str]:
    if name not in CLEANERS:
        raise ValueError(f"tokenizer.clean {name!r} is unknown; choose one of {', '.join(CLEANERS)}")
    return CLEANERS[name]


class CLIPTokenizer:
    """The paper's lower-case byte-pair tokenizer, served by the Rust library.

    Calling it with a list of strings gives ``Tokens``, padded with 0 to the longest text. A text longer than
    ``context_length`` is cut, keeps its end-of-text token and adds one to ``truncated``. ``clean`` is one of ``CLEANERS``;
    after it the text is converted to lower case.
    """

    vocab_size = 49_408
    start_token, end_token = 49_406, 49_407

    def __init__(self, context_length: ContextLength = 77, clean: str = "lower") -> None:
        if context_length < 3:
            raise ValueError(f"context_length {context_length} leaves no room for text; set it to 3 or more")
        self.context_length, self.clean = context_length, _cleaner(clean)
        self.truncated = 0
        self.fingerprint = f"CLIP's vocabulary, {clean}, {context_length} tokens"

    def library_tokenizer(self) -> _FastCLIPTokenizer:
        """The same vocabulary as transformers' own object, which cuts at ``context_length``; to be saved beside weights.

        It shares the vocabulary with all others: a copy of it would take a quarter of a second.
        """
        tokenizer = copy.copy(_fast_tokenizer())
        tokenizer.model_max_length = self.context_length
        return tokenizer

    def __call__(self, texts: Sequence[str]) -> Tokens:
        cleaned = [self.clean(text) for text in texts]
        encoded = _fast_tokenizer().backend_tokenizer.encode_batch_fast(cleaned, add_special_tokens=False)
        rows = [e.ids for e in encoded]
        room = self.context_length - 2
        self.truncated += sum(len(row) > room for row in rows)
        lengths = torch.tensor([min(len(row), room) + 2 for row in rows])
        ids = torch.zeros(len(rows), int(lengths.max()) if rows else 0, dtype=torch.int64)
        for i, row in enumerate(rows):
            ids[i, : lengths[i]] = torch.tensor([self.start_token, *row[:room], self.end_token])
        return Tokens(ids, lengths)

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens."""
        return clean_text(str(_fast_tokenizer().decode(list(ids))))


class Definition(TypedDict, total=False):
    """A tokenizer read from files, as a checkpoint stores it. ``tokenizer`` is the library's JSON, a side left or right."""

    tokenizer: str
    pad_id: int
    pads: bool  # whether the files state a padding token
    padding_side: str
    truncation_side: str
    most_tokens: int | None  # model_max_length, where it is stated


def read_definition(source: str | None) -> Definition:
    """The tokenizer of a hub id, a folder or ``package:<module>/<folder>``, as transformers reads its files.

    Raises UnreachableWeights when it cannot be read, ValueError when there is no vocabulary or no fast tokenizer.
    """
    if source is None:
        raise ValueError("tokenizer.source: give a hub id or a folder that holds the tokenizer's files")
    try:
        with quiet(), without_marks(locate(source)) as place, hub_or_cache(place):
            try:
                tokenizer = AutoTokenizer.from_pretrained(place)
            except ImportError:  # the class needs sentencepiece; tokenizer.json has the same content
                tokenizer = PreTrainedTokenizerFast.from_pretrained(place)
    except Exception as error:  # no files, or none that the library reads; it raises whatever its parsers raise
        raise unreachable(source, "tokenizer", error) from error
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise ValueError(f"tokenizer.source: {source} has no tokenizer.json; save it with a fast tokenizer first")
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):  # made from a config alone
        raise ValueError(
            f"tokenizer.source: {source} holds no vocabulary; put the tokenizer's files there, or name a folder of them"
        )
    most = tokenizer.model_max_length
    return Definition(
        tokenizer=tokenizer.backend_tokenizer.to_str(),
        pad_id=tokenizer.pad_token_id or 0,
        pads=tokenizer.pad_token_id is not None,
        padding_side=tokenizer.padding_side,
        truncation_side=tokenizer.truncation_side,
        most_tokens=most if most < NO_LIMIT else None,
    )


NO_LIMIT = 10**9  # transformers writes 1e30 when a tokenizer states no length


class HFTokenizer:
    """The tokenizer of a Hugging Face model, from a hub id, a folder or ``package:<module>/<folder>``.

    It has the interface of ``CLIPTokenizer``: a text longer than ``context_length`` is cut, keeps its end token and adds one
    to ``truncated``. Special tokens that are written in a text are plain words. ``clean`` is one of ``CLEANERS``.
    ``definition``, which a checkpoint stores, replaces the source. Raises UnreachableWeights when the source cannot be read.
    """

    def __init__(
        self,
        *,
        source: str | None,
        context_length: ContextLength,
        definition: Definition | None = None,
        clean: str = "whitespace",
    ) -> None:
        if context_length < 3:
            raise ValueError(f"context_length {context_length} leaves no room for text; set it to 3 or more")
        self.context_length, self.truncated, self.clean = context_length, 0, _cleaner(clean)
        self.definition = self._read(source) if definition is None else definition
        self.library = Tokenizer.from_str(self.definition["tokenizer"])
        self.library.no_padding()
        self.library.enable_truncation(context_length, direction=self.definition.get("truncation_side", "right"))
        self.library.encode_special_tokens = True
        self.vocab_size = self.library.get_vocab_size()
        facts = [self.definition[key] for key in sorted(self.definition) if key != "most_tokens"]  # type: ignore[literal-required]
        digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
        self.fingerprint = f"{type(self).__name__} {digest}, {clean}, {context_length} tokens"

    @staticmethod
    def _read(source: str | None) -> Definition:
        return read_definition(source)

    def __call__(self, texts: Sequence[str]) -> Tokens:
        encoded = self._encoded(texts)
        lengths = torch.tensor([max(1, len(e.ids)) for e in encoded])
        ids = torch.full((len(encoded), int(lengths.max()) if encoded else 0), int(self.definition["pad_id"]))
        for row, e in zip(ids, encoded, strict=True):
            row[: len(e.ids)] = torch.tensor(e.ids, dtype=torch.int64)
        return Tokens(ids, lengths)

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens."""
        return self.library.decode(list(ids)).strip()

    def _encoded(self, texts: Sequence[str]) -> list[Encoding]:
        encoded = self.library.encode_batch([self.clean(text) for text in texts])
        self.truncated += sum(bool(e.overflowing) for e in encoded)
        return encoded


class SiglipTokenizer(HFTokenizer):
    """SigLIP's tokenizer. It pads each text to ``context_length``, with the token and on the side that its files state.

    The models were trained without a mask, so the padding is part of the text and counts in ``lengths``. SigLIP pads with
    ``</s>`` (1), SigLIP 2 with ``<pad>`` (0). ``clean`` is lower case without punctuation, unless the source of the weights
    differs. Raises ValueError for a tokenizer that states no padding token.
    """

    def __init__(
        self,
        *,
        source: str | None,
        context_length: ContextLength,
        definition: Definition | None = None,
        clean: str = "canonicalize",
    ) -> None:
        super().__init__(source=source, context_length=context_length, definition=definition, clean=clean)
        if not self.definition.get("pads", True):
            folder = source is not None and Path(source).is_dir()
            file = f"{source}/tokenizer_config.json: it" if folder else f"tokenizer.source: {source}"
            raise ValueError(f"{file} states no pad_token, which SigLIP's texts need")

    @staticmethod
    def _read(source: str | None) -> Definition:
        try:
            return read_definition(source)
        except UnreachableWeights as error:
            reason = str(error).partition(" Ways on:")[0]
            raise UnreachableWeights(
                f"{reason} Put its tokenizer.json and tokenizer_config.json beside the weights, or go online"
            ) from error

    def __call__(self, texts: Sequence[str]) -> Tokens:
        encoded = self._encoded(texts)
        ids = torch.full((len(encoded), self.context_length), int(self.definition["pad_id"]))
        left = self.definition.get("padding_side", "right") == "left"
        for row, e in zip(ids, encoded, strict=True):
            start = self.context_length - len(e.ids) if left else 0
            row[start : start + len(e.ids)] = torch.tensor(e.ids, dtype=torch.int64)
        return Tokens(ids, torch.full((len(encoded),), self.context_length))
