"""The protocol of an evaluation, as short hashes: figures compare only when their protocols agree."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from cliplab.evaluation.batches import EvaluationImages, PictureSet, picture_hash
from cliplab.evaluation.kind import ProtocolHashes


def short_hash(value: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of ``value``, written as JSON."""
    return hashlib.sha256(json.dumps(value, ensure_ascii=False).encode()).hexdigest()[:16]


def protocol_of(
    *,
    images: EvaluationImages[PictureSet],
    names: Sequence[str] | None = None,
    templates: Sequence[str] | None = None,
    part: Any = None,
) -> ProtocolHashes:
    """Hash the class names, the templates, the image transform and the data; and ``all`` of these hashes.

    The transform is hashed by its description and by the first picture as the model sees it. ``part`` describes the data
    further, such as the part of the set that was evaluated. A hash is None for what the evaluation does not have.
    """
    data = short_hash(images.dataset.fingerprint)
    hashes = [
        None if names is None else short_hash(list(names)),
        None if templates is None else short_hash(list(templates)),
        short_hash([images.transform.fingerprint, picture_hash(images.first)]),
        data if part is None else short_hash([data, part]),
    ]
    return ProtocolHashes(
        names=hashes[0], templates=hashes[1], transform=hashes[2], data=hashes[3], all=short_hash(hashes)
    )
