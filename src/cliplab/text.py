"""Texts for people: in one line, shortened, a length of time."""

from collections import Counter
from collections.abc import Iterable, Sequence


def one_line(text: object) -> str:
    """The words of a text or an error, with single spaces between them."""
    return " ".join(str(text).split())


def shortened(text: str, most: int) -> str:
    """At most so many characters, the last an ellipsis where some are left out."""
    return text if len(text) <= most else text[: most - 1] + "…"


def listed(names: Sequence[object], most: int = 8, where: str = "") -> str:
    """The first names, and how many more there are: ``a, b and 3 more``. ``where`` says where these can be found."""
    more = f" and {len(names) - most} more{where}" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more


def occurrences(words: Iterable[str]) -> str:
    """How often each word occurs, the most frequent one first: ``broken 2, missing_file 1``."""
    return ", ".join(f"{word} {count}" for word, count in Counter(words).most_common())


def uneven_batch(batch_size: int, ranks: int) -> str:
    """The message for a batch of which the processes cannot have equal shares."""
    return (
        f"data.batch_size: {batch_size} is the batch of all {ranks} processes and not a multiple of {ranks}; set "
        f"{max(1, batch_size // ranks) * ranks}"
    )


def duration(seconds: float) -> str:
    """Such as ``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
