"""Several objectives at once."""

import math
from collections.abc import Hashable, Mapping, Sequence

from torch import Tensor, nn

from cliplab.models.clip import CLIP, Encoded
from cliplab.objectives.objective import Corpus, Loss, Objective, Pairs


class WeightedSum(Objective):
    """The sum of the losses of ``parts``, each times its weight. A part without a weight has the weight 1.

    The batch is encoded once for all parts. Figures are named ``<part>/<figure>``; ``<part>/loss`` is the loss without its
    weight. Raises ValueError without parts, for a weight of a part that does not exist, for a negative weight, and where all
    weights are 0.
    """

    def __init__(self, *, parts: Mapping[str, Objective], weights: Mapping[str, float] | None = None) -> None:
        super().__init__()
        weights = weights or {}
        if not parts:
            raise ValueError("objective.parts names no objective; add one, +objective@objective.parts.clip=clip")
        for name, weight in weights.items():
            if name not in parts:
                raise ValueError(f"objective.weights.{name}: there is no such part; the parts are {', '.join(parts)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"objective.weights.{name} {weight} must be 0 or more")
        self.parts = nn.ModuleDict(dict(parts))
        self.weights = {name: weights.get(name, 1.0) for name in parts}
        if not any(self.weights.values()):
            raise ValueError(
                f"objective.weights: all of {', '.join(parts)} have a weight of 0, and nothing would train"
            )
        self.reads = frozenset().union(*(part.reads for part in parts.values()))

    def _named_parts(self) -> list[tuple[str, Objective]]:
        return list(self.parts.items())  # type: ignore[arg-type]

    def adopt(self, state: Mapping[str, Tensor]) -> None:
        for name, part in self._named_parts():
            prefix = f"parts.{name}."
            part.adopt({key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)})

    def prepare(self, corpus: Corpus) -> None:
        for _, part in self._named_parts():
            part.prepare(corpus)

    def build_heads(self, model: CLIP) -> None:
        for _, part in self._named_parts():
            part.build_heads(model)

    def trained_parts(self) -> list[Objective]:
        """The parts with a weight above 0, and theirs."""
        return [inner for name, part in self._named_parts() if self.weights[name] for inner in part.trained_parts()]

    def least_loss(self, pictures: Sequence[Hashable], captions: Sequence[Hashable], groups: Sequence[int]) -> float:
        least = {name: part.least_loss(pictures, captions, groups) for name, part in self._named_parts()}
        return math.fsum(self.weights[name] * value for name, value in least.items())

    def forward(self, encoded: Encoded, batch: Pairs) -> Loss:
        losses, figures = [], dict[str, Tensor]()
        for name, part in self._named_parts():
            loss, part_figures = part(encoded, batch)
            losses.append(self.weights[name] * loss)
            figures[f"{name}/loss"] = loss.detach()
            figures |= {f"{name}/{key}": value for key, value in part_figures.items()}
        return Loss(sum(losses[1:], start=losses[0]), figures)
