"""Statistical tests of two models on the same images."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Difference(NamedTuple):
    """Second minus first, with a 95 % interval, and the number of images that only one of the two got right."""

    value: float
    low: float
    high: float
    only_first: int
    only_second: int
    p_value: float


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value for the hypothesis that both models err equally often, from the images that only one of
    them got right.

    It is the binomial test of a fair coin, summed in logarithms, for any number of images. 1 without such images. Source:
    McNemar 1947.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0 or 2 * fewer == n:
        return 1.0
    terms = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(fewer + 1)]
    most = max(terms)
    return min(1.0, 2 * math.exp(most - n * math.log(2)) * math.fsum(math.exp(t - most) for t in terms))


def paired_difference(first: Sequence[bool], second: Sequence[bool], z: float = 1.959963984540054) -> Difference:
    """Compare two columns of hits of equal length. The interval is Wald's, with half an image added to each cell of the
    two-by-two table (Bonett & Price 2012). Raises ValueError when the lengths differ or are 0."""
    if len(first) != len(second) or not first:
        raise ValueError(f"a paired test needs the same images twice, got {len(first)} and {len(second)}")
    n = len(first)
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    p, q = (only_first + 1) / (n + 2), (only_second + 1) / (n + 2)
    half = z * math.sqrt((p + q - (q - p) ** 2) / (n + 2))
    value = (only_second - only_first) / n
    low, high = max(-1.0, q - p - half), min(1.0, q - p + half)
    return Difference(value, low, high, only_first, only_second, mcnemar(only_first, only_second))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for the number of tests (Holm 1979)."""
    adjusted, worst = [0.0] * len(p_values), 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = worst
    return adjusted
