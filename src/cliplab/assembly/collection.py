"""The pictures of ``images=``, for the verbs that embed, classify and search them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from cliplab.embedding.collection import Collection, open_collection
from cliplab.embedding.model import Skipped
from cliplab.settings.config import ConfigError


def given_collection(config: dict[str, Any]) -> Collection:
    """The collection of ``images=``. Raises ConfigError when it is not given, ValueError when it cannot be read."""
    task = config["task"]
    if not config["images"]:
        raise ConfigError(f"images: task={task['name']} needs pictures; images=<folder, file, Parquet or data set>")
    return open_collection(config["images"], split=task["split"], id_column=task["id_column"])


def by_reason(skipped: Sequence[Skipped]) -> dict[str, int]:
    """How many images were left out for each reason."""
    return dict(Counter(image.reason for image in skipped))


def report_skipped(skipped: Mapping[str, int], count: int) -> None:
    """Print one line when some of ``count`` images were left out; ``skipped`` is how many for each reason."""
    if skipped:
        reasons = ", ".join(f"{reason} {n}" for reason, n in skipped.items())
        print(f"{sum(skipped.values())} of {count} images skipped: {reasons}")
