"""Put references such as ``${data.path}`` back into a resolved config, in place of copies of the value."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from cliplab.settings.config import times, value_at

REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.]*)\}")
MULTIPLE = re.compile(r"\$\{times:\$\{([A-Za-z_][\w.]*)\},([\w.+-]+)\}")
ABSENT = object()


def with_interpolations(config: Mapping[str, Any], composed: Mapping[str, Any] | DictConfig) -> dict[str, Any]:
    """``config``, which is resolved, with the references of ``composed`` put back wherever they give the same value.

    The result resolves to ``config``, even when its values were changed after composing. Only references to other keys are
    put back; a value from the environment stays a value.
    """
    plain: Any = OmegaConf.to_container(composed, resolve=False) if isinstance(composed, DictConfig) else composed
    return {key: _restored(value, plain.get(key), config) for key, value in config.items()}


def _restored(value: Any, written: Any, config: Mapping[str, Any]) -> Any:
    if isinstance(written, str) and "${" in written and _evaluated(written, config) == (type(value), value):
        return written
    if isinstance(value, Mapping):
        inner = written if isinstance(written, Mapping) else {}
        return {key: _restored(child, inner.get(key), config) for key, child in value.items()}
    if isinstance(value, list):
        beside = written if isinstance(written, Sequence) and len(written) == len(value) else [None] * len(value)
        return [_restored(child, one, config) for child, one in zip(value, beside, strict=True)]
    return value.replace("${", "\\${") if isinstance(value, str) else value


def _evaluated(written: str, config: Mapping[str, Any]) -> tuple[type, Any]:
    """The type and the value of a text with references; ABSENT when one of them is not a key of the config."""
    whole = REFERENCE.fullmatch(written)
    if whole:
        value = value_at(config, whole[1], ABSENT)
        return type(value), value
    multiple = MULTIPLE.fullmatch(written)
    if multiple:
        value = value_at(config, multiple[1], ABSENT)
        return float, times(value, float(multiple[2])) if isinstance(value, int | float) else ABSENT
    values = {key: value_at(config, key, ABSENT) for key in REFERENCE.findall(written)}
    text = REFERENCE.sub(lambda m: str(values[m[1]]), written)
    return str, ABSENT if ABSENT in values.values() or "${" in text else text
