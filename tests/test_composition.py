"""What tests compose is what Hydra composes."""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from cliplab.cli.places import config_dir
from tests.composition import keep_compositions


def composed(*overrides: str, folder: Path | None = None) -> Any:
    with initialize_config_dir(str(folder or config_dir()), version_base="1.3"):
        return OmegaConf.to_container(compose("config", overrides=list(overrides), return_hydra_config=True))


def test_a_kept_composition_is_hydras_own() -> None:
    typed = ["experiment=vit_b32", "data=csv", "+data.train.limit=3", "optimizer.lr=1", "~callbacks.progress"]
    kept = [composed(*typed), composed(*typed), composed(*typed[:2], "seed=3"), composed(*typed)]
    keep_compositions(False)
    try:
        assert kept[0] == kept[1] == kept[3] == composed(*typed)
        assert kept[2] == composed(*typed[:2], "seed=3")
    finally:
        keep_compositions()


def test_a_file_that_changes_is_composed_anew(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("defaults: [a: x, _self_]\nb: 1\n")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.yaml").write_text("c: 1\n")
    (tmp_path / "a" / "y.yaml").write_text("c: 2\n")
    assert composed(folder=tmp_path)["a"] == {"c": 1}
    assert composed("a=y", folder=tmp_path)["a"] == {"c": 2}
    with pytest.raises(HydraException):
        composed("a=z", folder=tmp_path)
    (tmp_path / "a" / "z.yaml").write_text("c: 3\n")
    assert composed("a=z", folder=tmp_path)["a"] == {"c": 3}
    (tmp_path / "a" / "x.yaml").write_text("c: 44\n")
    assert composed(folder=tmp_path)["a"] == {"c": 44}
