"""Check that what a command builds is described by its own keys, not replaced by a word, a number or a list. The config is
looked at before its interpolations are resolved, since these refer to keys inside such parts."""

from collections.abc import Mapping
from typing import Any

from cliplab.settings.config import ConfigError, value_at

BY_CHOICE = "choose one with {}=<choice>, or set its keys, as {}=…"
NEEDED = {
    "model": BY_CHOICE.format("model", "model.embed_dim"),
    "model.image_encoder": BY_CHOICE.format("model/image_encoder", "model.image_encoder.width"),
    "model.text_encoder": BY_CHOICE.format("model/text_encoder", "model.text_encoder.width"),
    "tokenizer": "it comes with model/text_encoder=<choice>; set its keys, as tokenizer.context_length=…",
    "data.train": "the data are named by data.path=<folder, file or hub id>",
    "data.train_transform": "set its keys, as data.train_transform.scale=[0.8,1.0]",
    "data.eval_transform": "leave it out",
    "locking": BY_CHOICE.format("locking", "locking.image_encoder.unlocked_groups"),
    "locking.image_encoder": BY_CHOICE.format("locking", "locking.image_encoder.unlocked_groups"),
    "locking.objective": BY_CHOICE.format("locking", "locking.objective.unlocked_groups"),
    "locking.text_encoder": BY_CHOICE.format("locking", "locking.text_encoder.unlocked_groups"),
}
NAMED = ("callbacks", "logger", "zeroshot")  # groups of parts by name; null is none


def check_parts(raw: Mapping[str, Any]) -> None:
    """Raises ConfigError for a part that is replaced by a plain value. ``raw`` is the config before it is resolved."""
    absent = object()
    for key, way in NEEDED.items():
        value = value_at(raw, key, absent)
        if value is not absent and not isinstance(value, Mapping) and not _refers(value):
            raise ConfigError(f"{key}: {value!r} is no description of this part; {way}")
    for group in NAMED:
        for name, value in (raw.get(group) or {}).items():
            if value is not None and not isinstance(value, Mapping) and not _refers(value):
                raise ConfigError(
                    f"{group}.{name}: {value!r} is no description of a part; write +{group}.{name}._target_=<class>, or "
                    f"leave it out with ~{group}.{name}"
                )


def _refers(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("${")
