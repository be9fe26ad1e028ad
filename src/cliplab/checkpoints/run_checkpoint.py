"""What a run's checkpoint holds beside its weights, so that it can be used without other files."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cliplab.checkpoints.spec import no_average

CONFIG = "cliplab_config"
AVERAGE = "ema_state_dict"  # the moving average of the weights, of callbacks=ema
TOKENIZER = "cliplab_tokenizer"  # the definition of a tokenizer that came from files


def standalone_config(config: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """The config rewritten so that the model can be built from the checkpoint alone. Towers load no other weights, and
    tokenizers are built from the definition in the checkpoint."""
    return {key: _rewritten(value, checkpoint.get(TOKENIZER)) for key, value in config.items()}


def _rewritten(node: Any, definition: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    changed = {key: _rewritten(value, definition) for key, value in node.items()}
    if "_target_" in node and "pretrained" in node:
        changed["pretrained"] = False
    if definition is not None and str(node.get("_target_")).endswith((".HFTokenizer", ".SiglipTokenizer")):
        changed["definition"] = definition
    return changed


def saved_state(saved: Mapping[str, Any], weights: str, source: Any) -> dict[str, Tensor]:
    """The state dict of a checkpoint of ours: the weights that were trained, or their average. Raises ValueError when it has
    no average."""
    if weights == "ema" and AVERAGE not in saved:
        raise ValueError(no_average(source))
    return saved[AVERAGE if weights == "ema" else "state_dict"]


def model_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's tensors of a checkpoint's ``state_dict``, under the model's own names."""
    return _below("model.", state)


def objective_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The objective's tensors of a checkpoint's ``state_dict``, under its own names. Empty when it has none."""
    return _below("objective.", state)


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def without_definitions(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config without definitions of tokenizers: they are long, and only checkpoints hold them."""
    return {
        key: without_definitions(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key != "definition"
    }
