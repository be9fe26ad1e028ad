"""Rebuild the objective that a model was trained with, from its checkpoint."""

import warnings

from cliplab.checkpoints.weights import Weights, load_exactly
from cliplab.models.clip import CLIP
from cliplab.objectives.objective import Objective
from cliplab.settings.build import build


def trained_objective(weights: Weights, model: CLIP) -> Objective | None:
    """The objective with its trained parameters, in eval mode, such as a ``Scorer`` needs.

    Returns None for foreign weights, for weights that were saved without the parameters of the objective, and for an
    objective that can no longer be built, since embeddings do not need it. Warns when trained parameters are left out.
    Raises ValueError when the parameters do not fit.
    """
    if weights.objective is None:
        return None
    try:
        objective: Objective = build(weights.objective.config, "objective")
        objective.adopt(weights.objective.state)
        objective.build_heads(model)
    except Exception as error:
        if weights.objective.state:
            warnings.warn(f"{weights.source}: used without its objective, which cannot be built: {error}", stacklevel=2)
        return None
    if not weights.objective.state and objective.state_dict():
        return None
    load_exactly(objective, weights.objective.state, weights.source)
    return objective.eval()
