"""Tests of two models on the same images."""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Difference(NamedTuple):
    """Second minus first, with a 95 % interval, and how many images only one of the two got right."""

    value: float
    low: float
    high: float
    only_first: int
    only_second: int
    p_value: float


def mcnemar(only_first: int, only_second: int) -> float:
    """Two-sided exact p-value that both models err equally often, given the images only one of them got right.

    The binomial test of a fair coin, summed in logarithms; no large-sample formula at any size. 1 without such images.
    Source: McNemar 1947.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    if n == 0 or 2 * fewer == n:
        return 1.0
    terms = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(fewer + 1)]
    most = max(terms)
    return min(1.0, 2 * math.exp(most - n * math.log(2)) * math.fsum(math.exp(t - most) for t in terms))


def paired_difference(first: Sequence[bool], second: Sequence[bool], z: float = 1.959963984540054) -> Difference:
    """Of two equally long columns of hits. The interval is Wald's with half an image added to each cell of the two-by-two
    table (Bonett & Price 2012). Raises ValueError when the columns differ in length or are empty."""
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
    """p-values adjusted for their number, so that any of them below 0.05 is one (Holm 1979)."""
    adjusted, worst = [0.0] * len(p_values), 0.0
    for place, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[i]))
        adjusted[i] = worst
    return adjusted
