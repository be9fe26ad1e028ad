"""What all tests share: no network, no cache but their own, one thread."""

import os

os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("CLIPLAB_ROOT", os.getcwd())

import datasets
import pytest
import torch

datasets.disable_progress_bars()
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
