"""Format figures for people."""

from typing import Any


def percent(share: Any, digits: int = 1) -> str:
    """``81.8 %``; a dash for an unknown share."""
    return f"{100 * share:.{digits}f} %" if isinstance(share, int | float) else "–"


def points(difference: float) -> str:
    """``+1.2`` percentage points, with a true minus sign."""
    return f"{100 * difference:+.1f}".replace("-", "−")


def p_value(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number: float) -> str:
    return f"{int(number):,}"


def span(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}"
