"""Several objectives at once."""

import math
from collections.abc import Mapping

from torch import Tensor, nn

from cliplab.models.clip import CLIP, Encoded
from cliplab.objectives.objective import Loss, Objective, Pairs


class WeightedSum(Objective):
    """The sum of ``parts``, each times its weight; a part that ``weights`` does not name counts once.

    The batch is encoded once, for all of them. Figures of a part are named ``<part>/<figure>``, its loss, before the
    weight, ``<part>/loss``. Raises ValueError for no parts, for a weight of no part, and for one that is no number of 0 or
    more.
    """

    def __init__(self, *, parts: Mapping[str, Objective], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        weights = weights or {}
        if not parts:
            raise ValueError("objective.parts names no objective; add one, +objective@objective.parts.clip=clip")
        for name, weight in weights.items():
            if name not in parts:
                raise ValueError(f"objective.weights.{name} is of no part; there are {', '.join(parts)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"objective.weights.{name} {weight} must be 0 or more")
        self.parts = nn.ModuleDict(dict(parts))
        self.weights = {name: weights.get(name, 1.0) for name in parts}
        self.reads = frozenset().union(*(part.reads for part in parts.values()))

    def _named_parts(self) -> list[tuple[str, Objective]]:
        return list(self.parts.items())  # type: ignore[arg-type]

    def build_heads(self, model: CLIP) -> None:
        for _, part in self._named_parts():
            part.build_heads(model)

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        losses, figures = [], dict[str, Tensor]()
        for name, part in self._named_parts():
            loss, told = part(encoded, batch)
            losses.append(self.weights[name] * loss)
            figures |= {f"{name}/loss": loss.detach(), **{f"{name}/{key}": value for key, value in told.items()}}
        return Loss(sum(losses[1:], losses[0]), figures)
