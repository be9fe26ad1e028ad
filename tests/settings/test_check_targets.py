"""A mistake in the config is told in one line that names the key, before anything is built."""

from typing import Any

import pytest

from cliplab.assembly.device import choose_precision
from cliplab.settings.build import build
from cliplab.settings.check_targets import check
from cliplab.settings.config import ConfigError, did_you_mean

BASE = {"seed": 1, "compile": False, "optimizer": None, "model": None, "paths": {"run": None}}
ADAMW = {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-3}
BLOCK = {
    "_target_": "cliplab.models.layers.ResidualBlock",
    "width": 8,
    "heads": 2,
    "mlp_ratio": 4.0,
    "activation": "gelu",
    "causal": False,
}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"sead": 1}, "sead: no such key at the top level; did you mean 'seed'?"),
        ({"seed": "x"}, "seed: 'x' is not an int"),
        ({"compile": 1}, "compile: 1 is not a bool"),
        ({"paths": {"runn": "x"}}, "paths.runn: no such key; did you mean 'run'?"),
        ({"optimizer": {**ADAMW, "weigth_decay": 0.1}}, "optimizer.weigth_decay: .*did you mean 'weight_decay'?"),
        ({"optimizer": {**ADAMW, "lr": "fast"}}, "optimizer.lr: 'fast' is not a float"),
        ({"optimizer": {"_target_": "torch.optim.AdamZ"}}, "optimizer._target_: torch.optim.AdamZ cannot be imported"),
        ({"optimizer": {"_target_": "nowhere.X"}}, "optimizer._target_: nowhere.X cannot be imported"),
        ({"model": {"block": {**BLOCK, "heads": 2.5}}}, "model.block.heads: 2.5 is not an int"),
        ({"model": {"block": {**BLOCK, "heads": True}}}, "model.block.heads: True is not an int"),
        ({"model": [{**BLOCK, "activation": 3}]}, r"model\[0\].activation: 3 is not a str"),
        ({"model": {k: v for k, v in BLOCK.items() if k != "heads"}}, "model.heads: .* needs this argument"),
    ],
)
def test_mistake_is_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check(config, BASE)
    assert "\n" not in str(caught.value)


def test_correct_config_passes() -> None:
    check({"seed": 3, "optimizer": {**ADAMW, "betas": [0.9, 0.98]}, "model": BLOCK}, BASE)


def test_neighbours_are_suggested_first() -> None:
    keys = ["trainer.max_epochs", "data.max_bad", "trainer.devices"]
    assert did_you_mean("trainer.max_epoch", keys) == "; did you mean 'trainer.max_epochs'?"
    assert did_you_mean("zzz", keys) == ""


@pytest.mark.parametrize(
    ("node", "key"), [({"nested": {**BLOCK, "heads": 3}}, "model.nested"), ({**BLOCK, "heads": 3}, "model")]
)
def test_build_raises_the_original_error_with_the_key_of_the_part(node: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"^{key}: width 8 is not a multiple of heads 3"):
        build(node, "model")


def test_build_leaves_an_error_that_names_its_key() -> None:
    tower = {
        "_target_": "cliplab.models.vision_transformer.VisionTransformer",
        **{"image_size": 50, "patch_size": 16, "width": 8, "layers": 1, "heads": 2, "output_dim": 4},
        "activation": "gelu",
    }
    with pytest.raises(ValueError, match=r"^image_size 50 .* set model.image_encoder.image_size to 48"):
        build({"image_encoder": tower}, "model")


def test_stated_precision_is_kept() -> None:
    assert choose_precision("16-mixed", "cpu") == "16-mixed"
    assert choose_precision("auto", "cpu") in ("bf16-mixed", "32-true")
