"""What a verb sets for its whole process before it works."""

import logging
import random
import warnings

import numpy as np
import torch


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and torch alike."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def quiet() -> None:
    """Leave out what Lightning and datasets say about themselves; warnings stay."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)  # each try again of a hub out of reach
    unwanted = (
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        "This DataLoader will create.*",  # data.num_workers was chosen, by a person or by the cores
        ".*is smaller than the logging interval.*",  # an epoch's last step is logged, too
        ".*in eval mode at the start of training.*",  # frozen towers
        ".*monitor='val/.*could not find the monitored key.*",  # a rare evaluation
        "Be aware that when using `ckpt_path`.*",  # another trainer.on_nan
        "Checkpoint directory .* exists and is not empty.*",
    )
    for message in unwanted:
        warnings.filterwarnings("ignore", message=message)
