"""A figure, and how it was found."""

from typing import Any, Literal, NamedTuple

How = Literal["measured", "traced", "computed", "assumed"]


class Figure(NamedTuple):
    """``how`` is measured on a device, traced on tensors without values, computed from such figures, or assumed."""

    value: Any
    unit: str
    how: How


def shown(figure: Figure) -> str:
    value, unit = figure.value, figure.unit
    if value is None:
        return "not known"
    if unit == "bytes":
        return f"{value / 2**30:,.2f} GiB" if value == 0 or abs(value) >= 2**28 else f"{value / 2**20:,.1f} MiB"
    if unit == "share":
        return f"{100 * value:.0f} %"
    if unit == "money":
        return f"{value:,.2f}"
    number = f"{value:,.3g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"
    return f"{number} {unit}".strip() if not isinstance(value, str) else value
