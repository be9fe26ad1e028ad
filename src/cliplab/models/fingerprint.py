"""A hash of everything that the embeddings of a model depend on."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

# Attributes of modules that matter in training only, or name the origin of something
_NO_EFFECT = {
    "training", "text_fixed", "max_log_scale", "patch_dropout", "name_or_path", "warnings_issued", "gradient_checkpointing",
    "grad_checkpointing", "fused_attn", "cached_texts", "layerdrop", "is_gradient_checkpointing",
}  # fmt: skip


class Described(Protocol):
    """A part outside the model that describes itself in words: the tokenizer, the transform of images."""

    @property
    def fingerprint(self) -> str: ...


def model_fingerprint(model: nn.Module, tokenizer: Described, transform: Described) -> str:
    """SHA-256 over the built model, the tokenizer and the preparation of images.

    It covers the class and the settings of each module (activations, heads, epsilons, pooling, sizes), and every weight and
    buffer with its type, including the mean and deviation of images. Two models with the same fingerprint give the same
    embeddings. Models with different settings have different fingerprints, even if their weights are equal.
    """
    digest = hashlib.sha256(json.dumps(_configuration(model), sort_keys=True).encode())
    digest.update(f"{tokenizer.fingerprint}\n{transform.fingerprint}\n".encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _configuration(model: nn.Module) -> list[Any]:
    """The class of each module and its plain settings, by name. Dropout is left out: it does not change an embedding."""
    return [
        [name, type(module).__qualname__, _settings(module)]
        for name, module in model.named_modules()
        if not isinstance(module, nn.Identity) and "Drop" not in type(module).__name__
    ]


def _settings(module: nn.Module) -> dict[str, Any]:
    kept = {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in _NO_EFFECT}
    return _plain({key: value for key, value in kept.items() if _is_plain(value)})


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    simple = value is None or isinstance(value, bool | int | float | str | Mapping)
    return simple or hasattr(value, "__qualname__")


def _plain(value: Any) -> Any:
    """Of a mapping, the values that are plain: one that is not must not hide the others."""
    if isinstance(value, Mapping):
        known = {str(key): item for key, item in value.items() if "drop" not in str(key)}
        return {key: _plain(item) for key, item in known.items() if _is_plain(item)}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else value.__qualname__
