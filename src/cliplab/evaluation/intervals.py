"""The interval of a share that was counted."""

import math


def wilson_interval(hits: float, total: float, z: float = 1.959963984540054) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927). Raises ValueError when ``total`` is 0."""
    if total <= 0:
        raise ValueError("a share of nothing has no interval: total is 0")
    share = hits / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)
