"""Which tokenizer belongs to a folder of weights, from the files beside them."""

import functools
import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from cliplab.checkpoints.stated import read_json
from cliplab.checkpoints.weights import TOKENIZER, tokenizer_config
from cliplab.data.tokenizers import CLIPTokenizer, Definition, read_definition

HF_TOKENIZER = "cliplab.data.tokenizers.HFTokenizer"
SIGLIP_TOKENIZER = "cliplab.data.tokenizers.SiglipTokenizer"
CONFIG = "tokenizer_config.json"
FILES = ("tokenizer.json", CONFIG, "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt")
RULES = ("normalizer", "pre_tokenizer", "post_processor", "added_tokens")


def has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in FILES)


@functools.cache
def _clips_definition() -> dict[str, Any]:
    return json.loads(CLIPTokenizer().library_tokenizer().backend_tokenizer.to_str())


def _is_clips(definition: Definition) -> bool:
    """Whether a tokenizer is that of the CLIP paper: same vocabulary, merges and rules."""
    theirs = json.loads(definition["tokenizer"])
    ours = _clips_definition()
    same = all(theirs["model"].get(key) == ours["model"].get(key) for key in ("vocab", "merges", "end_of_word_suffix"))
    return same and all(theirs.get(rule) == ours.get(rule) for rule in RULES)


def _check(definition: Definition, vocab_size: int, file: Path) -> Tokenizer:
    library = Tokenizer.from_str(definition["tokenizer"])
    library.no_padding()  # tokenizer.json may fix a length, which transformers and HFTokenizer ignore, too
    library.no_truncation()
    special = {number for number, token in library.get_added_tokens_decoder().items() if token.special}
    # A special token that is written in a text is plain words, so only those round a text need a place.
    used = {*library.get_vocab().values()} - special | {*library.encode("").ids, definition["pad_id"]}
    if max(used) >= vocab_size:
        raise ValueError(f"{file}: its tokens go up to number {max(used)}, and the model's vocab_size is {vocab_size}")
    return library


def clip_folder_tokenizer(folder: Path, vocab_size: int, context_length: int, end: Any) -> dict[str, Any]:
    """The tokenizer's config for a CLIPModel folder that pools its texts at the token ``end``.

    The tokenizer gets texts unchanged, as in transformers. Raises ValueError naming file and field when the tokenizer's
    files and the model do not fit together.
    """
    if not has_tokenizer(folder):
        return tokenizer_config(vocab_size, context_length, str(folder))
    file = folder / CONFIG
    definition = read_definition(str(folder))
    library = _check(definition, vocab_size, file)
    if definition["padding_side"] == "left":
        raise ValueError(f"{file}: padding_side is 'left'; the embedding of a text would depend on its batch")
    ids = library.encode("").ids
    last = ids[-1] if ids else None
    highest = max(library.get_vocab(with_added_tokens=True).values())
    # Configs from before 2023 have 2. The library then pools at the highest token id of a text.
    pooled_at = highest if end == 2 else end
    if last is None or last != pooled_at:
        raise ValueError(
            f"{folder / 'config.json'}: text_config.eos_token_id is {end!r} and the tokenizer ends texts with {last}; "
            "texts would not be pooled at their end"
        )
    length = min(context_length, definition["most_tokens"] or context_length)
    if _is_clips(definition) and definition["truncation_side"] == "right":
        return {"_target_": TOKENIZER, "context_length": length, "clean": "none"}
    return {"_target_": HF_TOKENIZER, "source": str(folder), "context_length": length, "clean": "none"}


def siglip_folder_tokenizer(folder: Path, vocab_size: int, context_length: int) -> dict[str, Any]:
    """The tokenizer's config for a SiglipModel folder. Texts are filled up to its ``context_length``.

    transformers' SiglipTokenizer removes punctuation and lowers case; any other tokenizer class gets texts unchanged.
    """
    config = {"_target_": SIGLIP_TOKENIZER, "source": str(folder), "context_length": context_length}
    if not has_tokenizer(folder):
        return config  # an error comes when a text is embedded; pictures need no tokenizer
    file = folder / CONFIG
    stated = read_json(file) if file.is_file() else {}
    definition = read_definition(str(folder))
    _check(definition, vocab_size, file)
    named = str(stated.get("tokenizer_class") or "SiglipTokenizer").removesuffix("Fast")
    lower = stated.get("do_lower_case") is not False
    clean = ("siglip" if lower else "siglip_cased") if named == "SiglipTokenizer" else "none"
    length = min(context_length, definition["most_tokens"] or context_length)
    return {**config, "context_length": length, "clean": clean}
