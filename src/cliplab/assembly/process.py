"""Settings of the process that a verb makes before it works."""

import logging
import random
import warnings

import numpy as np
import torch


def set_seed(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def quiet() -> None:
    """Silence informational messages of Lightning and other libraries, and warnings that do not apply here."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it reports every request
    logging.getLogger("huggingface_hub.utils._http").setLevel(
        logging.ERROR
    )  # a message for each retry when the hub is out of reach
    unwanted = (
        ".*LeafSpec.*",
        ".*does not have many workers.*",
        "This DataLoader will create.*",  # data.num_workers is deliberate, or fits the cores
        ".*is smaller than the logging interval.*",  # the last step of an epoch is logged, too
        ".*in eval mode at the start of training.*",  # frozen towers
        ".*monitor='val/.*could not find the monitored key.*",  # the evaluation is not due in every epoch
        "Be aware that when using `ckpt_path`.*",  # trainer.on_nan may have changed
        "Checkpoint directory .* exists and is not empty.*",
    )
    for message in unwanted:
        warnings.filterwarnings("ignore", message=message)
