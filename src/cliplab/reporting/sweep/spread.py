"""How far a mean over seeds may lie from the truth, and whether two means differ by more than seeds do."""

import math
from collections.abc import Sequence
from typing import NamedTuple

TINY, TERMS = 1e-300, 300


class Spread(NamedTuple):
    """Of the values of one setting: their mean, their standard deviation, and a 95 % interval of the mean (Student 1908), of
    shares on the logit scale. Deviation and interval are None for a single value."""

    number: int
    mean: float
    deviation: float | None = None
    low: float | None = None
    high: float | None = None


def _continued_fraction(x: float, a: float, b: float) -> float:
    """Of the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1) or TINY)
    result = d
    for m in range(1, TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / (1 + term * d or TINY)
            c = 1 + term / c or TINY
            result *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return result


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, for x in [0, 1]."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    logarithm = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(logarithm)
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(x, a, b) / a
    return 1 - front * _continued_fraction(1 - x, b, a) / b


def two_sided(t: float, freedom: float) -> float:
    """The chance of a Student t at least this far from 0, with so many degrees of freedom."""
    return incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)


def t_quantile(chance: float, freedom: float) -> float:
    """The t that is exceeded on either side with this chance."""
    low, high = 0.0, 1.0
    while two_sided(high, freedom) > chance:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, freedom) > chance else (low, middle)
    return high


def spread(values: Sequence[float], share: bool = False) -> Spread:
    """``share`` says that the values lie in [0, 1] by their nature: their interval does, too. Raises ValueError for no
    values."""
    if not values:
        raise ValueError("the mean of nothing is undefined: there are no values")
    count, mean = len(values), math.fsum(values) / len(values)
    if count < 2:
        return Spread(count, mean)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (count - 1))
    half = t_quantile(0.05, count - 1) * deviation / math.sqrt(count)
    if share and half and 0 < mean < 1:
        return Spread(count, mean, deviation, *_logit_interval(mean, half))
    return Spread(count, mean, deviation, mean - half, mean + half)


def _logit_interval(mean: float, half: float) -> tuple[float, float]:
    """The interval ``mean ± half`` on the scale log(p / (1 - p)), where its width is divided by the slope p (1 - p) (delta
    method); brought back, it lies within 0 and 1."""
    wide = half / (mean * (1 - mean))
    against = (1 - mean) / mean
    return 1 / (1 + against * math.exp(min(wide, 700.0))), 1 / (1 + against * math.exp(-wide))


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Two-sided p-value that two sets of values have one mean, their spreads being whatever they are. None unless both have
    two values or more. Source: Welch 1947."""
    a, b = spread(first), spread(second)
    if a.deviation is None or b.deviation is None:
        return None
    left, right = a.deviation**2 / a.number, b.deviation**2 / b.number
    if left + right == 0:
        return float(a.mean == b.mean)
    freedom = (left + right) ** 2 / (left**2 / (a.number - 1) + right**2 / (b.number - 1))
    return two_sided((a.mean - b.mean) / math.sqrt(left + right), freedom)
