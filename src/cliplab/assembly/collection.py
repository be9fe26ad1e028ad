"""Open the pictures of ``images=``, for the verbs that embed, classify and search them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from cliplab.embedding.collection import Collection, open_collection
from cliplab.embedding.model import Skipped

SHOWN = 5  # images named of those that were left out for one reason


def given_collection(config: dict[str, Any]) -> Collection:
    """The collection of ``images=``. Raises ValueError when it cannot be read."""
    task = config["task"]
    return open_collection(config["images"], split=task["split"], id_column=task["id_column"])


def with_ids(skipped: Sequence[Skipped], collection: Collection) -> list[tuple[str, str]]:
    """The id of each image that was left out, and the reason."""
    return [(collection.ids[one.position], one.reason) for one in skipped]


def report_skipped(skipped: Sequence[tuple[str, str]], count: int) -> None:
    """Print a line for each reason for which some of ``count`` images were left out, with the first of them.
    ``skipped`` are their ids and reasons."""
    by_reason = defaultdict[str, list[str]](list)
    for name, reason in skipped:
        by_reason[reason].append(name)
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = ", …" if len(names) > SHOWN else ""
        print(f"{len(names)} of {count} images skipped, {reason}: {', '.join(names[:SHOWN])}{more}")
