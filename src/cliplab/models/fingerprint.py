"""One hash of all that decides the embeddings a model gives."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

# Attributes of modules that matter in training only, or say where something came from
_NO_EFFECT = {
    "training", "text_fixed", "max_log_scale", "patch_dropout", "name_or_path", "warnings_issued", "gradient_checkpointing",
    "grad_checkpointing", "fused_attn", "cached_texts", "layerdrop", "is_gradient_checkpointing",
}  # fmt: skip


class Described(Protocol):
    """A part outside the model that says in words what it does: the tokenizer, the transform of pictures."""

    @property
    def fingerprint(self) -> str: ...


def model_fingerprint(model: nn.Module, tokenizer: Described, transform: Described) -> str:
    """SHA-256 over the built model's configuration (the class and the settings of each module: activations, heads,
    epsilons, pooling, sizes), every weight and buffer (mean and deviation of pictures among them) with its type, the
    tokenizer and the preparation of pictures.

    Two models with one fingerprint give the same embeddings; where a setting differs they do not share it, though their
    weights be equal.
    """
    digest = hashlib.sha256(json.dumps(_configuration(model), sort_keys=True).encode())
    digest.update(f"{tokenizer.fingerprint}\n{transform.fingerprint}\n".encode())
    for name, value in model.state_dict().items():
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _configuration(model: nn.Module) -> list[Any]:
    """The class of each module and its plain settings, by name; dropout does nothing to an embedding."""
    return [
        [name, type(module).__qualname__, _settings(module)]
        for name, module in model.named_modules()
        if not isinstance(module, nn.Identity) and "Drop" not in type(module).__name__
    ]


def _settings(module: nn.Module) -> dict[str, Any]:
    kept = {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in _NO_EFFECT}
    return {key: _plain(value) for key, value in kept.items() if "drop" not in key and _is_plain(value)}


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str) or hasattr(value, "__qualname__")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else value.__qualname__
