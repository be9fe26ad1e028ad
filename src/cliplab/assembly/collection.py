"""Open the pictures of ``images=``, for the verbs that embed, classify and search them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cliplab.embedding.collection import Collection, open_collection
from cliplab.embedding.model import Skipped


def given_collection(config: dict[str, Any]) -> Collection:
    """The collection of ``images=``. Raises ValueError when it cannot be read."""
    task = config["task"]
    return open_collection(config["images"], split=task["split"], id_column=task["id_column"])


def by_reason(skipped: Sequence[Skipped]) -> dict[str, int]:
    """The number of images that were left out for each reason."""
    return dict(Counter(image.reason for image in skipped))


def report_skipped(skipped: Mapping[str, int], count: int) -> None:
    """Print one line if some of ``count`` images were left out. ``skipped`` is their number for each reason."""
    if skipped:
        reasons = ", ".join(f"{reason} {n}" for reason, n in skipped.items())
        print(f"{sum(skipped.values())} of {count} images skipped: {reasons}")
