"""What an evaluation was made of, in short hashes: figures compare only where these agree."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from cliplab.evaluation.batches import EvaluationImages, picture_hash


def short_hash(value: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of ``value`` written as JSON."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:16]


def protocol_of(
    *, images: EvaluationImages, names: Sequence[str] | None = None, templates: Sequence[str] | None = None
) -> dict[str, str | None]:
    """Hashes of the class names, the templates, the image transform (its description, and the first picture as the model
    sees it), the data, and of ``all`` of them; None for a part that the evaluation does not have."""
    parts = {
        "names": None if names is None else short_hash(list(names)),
        "templates": None if templates is None else short_hash(list(templates)),
        "transform": short_hash([images.transform.fingerprint, picture_hash(images.first)]),
        "data": short_hash(images.dataset.fingerprint),
    }
    return {**parts, "all": short_hash(list(parts.values()))}


def part_of(protocol: dict[str, str | None], part: str) -> dict[str, str | None]:
    """The protocol of an evaluation on a part of the data only, which the sentence ``part`` describes."""
    parts = {**protocol, "data": short_hash([protocol["data"], part])}
    del parts["all"]
    return {**parts, "all": short_hash(list(parts.values()))}
