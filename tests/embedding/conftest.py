"""A tiny model behind ``cliplab.load``, and a folder of pictures."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cliplab
from cliplab.checkpoints.open_clip import write_open_clip
from cliplab.embedding.model import EmbeddingModel
from tests.models.weights import built, tiny_config


@pytest.fixture(scope="session")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    config = tiny_config("vit")
    write_open_clip(folder, config, built(config).state_dict())
    return folder


@pytest.fixture
def model(weights_folder: Path) -> EmbeddingModel:
    return cliplab.load(str(weights_folder), device="cpu", batch_size=4, progress=False)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of noise, in two folders, and two files that are none."""
    root = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(10):
        path = root / ("a" if i % 2 else "b") / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), np.uint8)).save(path)
    (root / "a" / "3-broken.png").write_bytes(b"no picture")
    (root / "b" / "empty.jpg").write_bytes(b"")
    (root / "notes.txt").write_text("not looked at")
    return root
