"""The objective that a model was trained for, out of its checkpoint."""

import warnings

from cliplab.checkpoints.weights import Weights, load_exactly
from cliplab.models.clip import CLIP
from cliplab.objectives.objective import Objective
from cliplab.settings.build import build


def trained_objective(weights: Weights, model: CLIP) -> Objective | None:
    """The objective with its trained parameters, in eval mode, for what it can tell beside the joint space (``Scorer``).

    None for weights that come without one, as foreign ones do, or without its parameters, as an export does. One that can no
    longer be built is None too, since embeddings do not need it; a warning says why where trained parameters are left out.
    Raises ValueError when parameters do not fit.
    """
    if weights.objective is None:
        return None
    try:
        objective: Objective = build(weights.objective.config, "objective")
        objective.build_heads(model)
    except Exception as error:
        if weights.objective.state:
            warnings.warn(f"{weights.source}: used without its objective, which cannot be built: {error}", stacklevel=2)
        return None
    if not weights.objective.state and objective.state_dict():
        return None
    load_exactly(objective, weights.objective.state, weights.source)
    return objective.eval()
