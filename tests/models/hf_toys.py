"""Hugging Face models of a few thousand weights, and a tokenizer made on the spot."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, PreTrainedTokenizerFast

WORDS = ["a", "photo", "of", "the", "red", "green", "blue", "yellow", "disc", "stripe", "big", "small", "cat", "dog"]
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]
VOCABULARY = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
BERT_LIKE = {
    "vocab_size": 40,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 34,
    "pad_token_id": 1,
}
ARCHITECTURES = {
    "bert": {"model_type": "bert", **BERT_LIKE},
    "roberta": {"model_type": "roberta", **BERT_LIKE},
    "xlm_roberta": {"model_type": "xlm-roberta", **BERT_LIKE},
    "distilbert": {
        "model_type": "distilbert",
        "vocab_size": 40,
        "dim": 24,
        "n_layers": 3,
        "n_heads": 2,
        "hidden_dim": 32,
        "pad_token_id": 1,
    },
    "mpnet": {"model_type": "mpnet", **BERT_LIKE},
    "modernbert": {
        "model_type": "modernbert",
        **BERT_LIKE,
        "local_attention": 4,
        **{f"{name}_token_id": 2 for name in ("bos", "eos", "cls", "sep")},
    },
    "t5": {
        "model_type": "t5",
        "vocab_size": 40,
        "d_model": 24,
        "d_kv": 12,
        "d_ff": 32,
        "num_layers": 3,
        "num_heads": 2,
        "pad_token_id": 1,
    },
}


def save_tokenizer(folder: Path) -> Path:
    """Words between a start and an end token, padded with 1."""
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", VOCABULARY["<s>"]), ("</s>", VOCABULARY["</s>"])]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.save_pretrained(folder)
    return folder


def save_model(folder: Path, family: str, seed: int = 7) -> Path:
    """Random weights of the family, with its tokenizer, as the hub keeps them."""
    import torch
    from transformers import AutoModel

    values = dict(ARCHITECTURES[family])
    torch.manual_seed(seed)
    AutoModel.from_config(AutoConfig.for_model(values.pop("model_type"), **values)).save_pretrained(folder)
    return save_tokenizer(folder)
