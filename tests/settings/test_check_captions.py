"""What only a model with a decoder can do is told from the config of its run."""

from typing import Any

import pytest

from cliplab.settings.check_captions import check_captioning, writes_captions
from cliplab.settings.config import ConfigError

HERE = "cliplab.objectives"
PARTS = {"clip": f"{HERE}.contrastive.ClipLoss", "caption": f"{HERE}.coca.CocaCaption"}
SUM = {"_target_": f"{HERE}.weighted_sum.WeightedSum"}


@pytest.mark.parametrize(
    ("objective", "writes"),
    [
        ({"_target_": f"{HERE}.contrastive.ClipLoss"}, False),
        ({"_target_": f"{HERE}.contrastive.GroupedClipLoss"}, False),
        ({"_target_": f"{HERE}.masked_caption.MaskedCaption"}, False),
        ({"_target_": f"{HERE}.caption.Caption"}, True),
        ({**SUM, "parts": {"clip": {"_target_": PARTS["clip"]}}}, False),
        ({**SUM, "parts": {name: {"_target_": target} for name, target in PARTS.items()}}, True),
        ({"_target_": "torch._C._nothing"}, True),  # not known: the loaded model tells
        (None, True),
    ],
)
def test_an_objective_writes_captions_or_not(objective: Any, writes: bool) -> None:
    assert writes_captions(objective) is writes


def test_a_set_of_captions_needs_a_decoder() -> None:
    sets = {"a": {"_target_": "cliplab.evaluation.captioning.Captioning", "name": "folder"}}
    check_captioning(sets, {"_target_": f"{HERE}.caption.Caption"})
    check_captioning({}, {"_target_": PARTS["clip"]})
    with pytest.raises(
        ConfigError, match=r"^zeroshot: folder is a set to write captions for, and this model writes none;"
    ):
        check_captioning(sets, {"_target_": PARTS["clip"]})
