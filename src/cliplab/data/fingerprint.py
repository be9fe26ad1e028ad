"""A hash of the content of a data set, the same on every machine."""

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cliplab.data.images import decode_image, encoded

SAMPLED = 1000


def _bytes_of(value: Any) -> bytes:
    content = encoded(value)
    return decode_image(value).tobytes() if content is None else content


def content_fingerprint(
    dataset: Any, image_column: str, labels: bytes, picture: Callable[[Mapping[str, Any]], Any]
) -> str:
    """A hash of the number of rows, ``labels``, and the files of up to 1,000 images, evenly spread over the data set.

    ``picture`` gives what a row's cell of the image column stands for, such as a path from its folder on.
    """
    digest = hashlib.sha256(f"{len(dataset)} ".encode() + labels)
    pictures = dataset.select_columns([image_column])
    for row in np.linspace(0, len(dataset) - 1, min(len(dataset), SAMPLED)).astype(int).tolist():
        digest.update(_bytes_of(picture(pictures[row])))
    return digest.hexdigest()[:16]
