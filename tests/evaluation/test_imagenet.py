"""ImageNet's label space: WordNet folders, numbered folders, the sets with 200 classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cliplab.data.labelled import LabelledImages
from cliplab.evaluation.imagenet import imagenet_class_names, imagenet_places, label_space, wordnet_ids
from cliplab.evaluation.zero_shot import ZeroShotClassification, imagenet_classification

from .toys import Labelled, prepared, toy_model


def folders(root: Path, names: list[str]) -> LabelledImages:
    """One picture in each class folder, its brightness the number of the folder in ``names``."""
    for i, name in enumerate(names):
        (root / name).mkdir()
        Image.fromarray(np.full((4, 4, 3), i, dtype=np.uint8)).save(root / name / "x.png")
    return LabelledImages(path=str(root), split="test")


def accuracy(evaluator: ZeroShotClassification, shown: list[int]) -> float:
    """Of an oracle: picture i shows ImageNet's class ``shown[i]``, and every prompt lies at its own class name."""
    names = imagenet_class_names()
    place = {name: i for i, name in enumerate(dict.fromkeys(evaluator.class_names))}
    model = toy_model(torch.eye(1000)[[place[names[i]] for i in shown]], torch.eye(1000))
    return evaluator.evaluate(model).metrics["acc1"]


def test_wordnet_ids_stand_in_label_order() -> None:
    ids = wordnet_ids()
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert (imagenet_class_names()[0], ids[0]) == ("tench", "n01440764")
    assert [len(label_space(name)) for name in ("imagenet", "imagenet_a", "imagenet_r")] == [1000, 200, 200]
    with pytest.raises(ValueError, match="label_space 'imagenet_b' is unknown"):
        label_space("imagenet_b")


def test_wordnet_folders_are_matched_whichever_there_are(tmp_path: Path) -> None:
    shown = [999, 3, 657, 20]
    data = folders(tmp_path, [wordnet_ids()[i] for i in shown])
    evaluator = imagenet_classification(name="imagenet", images=prepared(data), templates="plain")
    assert evaluator.class_names == [imagenet_class_names()[i] for i in sorted(shown)]
    assert accuracy(evaluator, shown) == 1


def test_numbered_folders_are_labels(tmp_path: Path) -> None:
    """ImageNet-V2's folders 0 to 999, which a listing sorts as text."""
    shown = [0, 1, 2, 10, 100, 999]
    data = folders(tmp_path, [str(i) for i in shown])
    evaluator = imagenet_classification(name="imagenet_v2", images=prepared(data), templates="plain")
    assert len(evaluator.class_names) == 1000
    assert accuracy(evaluator, shown) == 1


@pytest.mark.parametrize("space", ["imagenet_a", "imagenet_r"])
def test_sets_of_200_classes_have_their_own_candidates(space: str) -> None:
    data = Labelled([0, 5, 199], [f"their name {i}" for i in range(200)])
    evaluator = imagenet_classification(name=space, images=prepared(data), label_space=space, templates="plain")
    assert evaluator.class_names == [imagenet_class_names()[i] for i in label_space(space)]
    with pytest.raises(ValueError, match=r"1000 class names for a data set of 200 classes; check zeroshot.x.dataset"):
        imagenet_classification(name="x", images=prepared(data), templates="plain")
    with pytest.raises(ValueError, match="labels run to 200 but there are 200 classes"):
        imagenet_places(None, 200, space)


def test_unknown_ids_and_ids_as_names_are_refused() -> None:
    with pytest.raises(ValueError, match="n99999999 is not a WordNet id"):
        imagenet_places(["n01440764", "n99999999"], 1, "imagenet")
    with pytest.raises(ValueError, match="WordNet ids; use zeroshot=imagenet"):
        ZeroShotClassification(name="x", images=prepared(Labelled([0], wordnet_ids())), templates="plain")
    nameless = Labelled([0], None)
    with pytest.raises(ValueError, match=r"the labels have no names; set zeroshot.x.dataset.class_names"):
        ZeroShotClassification(name="x", images=prepared(nameless), templates="plain")
    assert len(ZeroShotClassification(name="x", images=prepared(Labelled([0], ["a"]))).templates) == 80


def test_a_part_of_imagenet_is_called_one() -> None:
    some = imagenet_classification(name="x", images=prepared(Labelled([0, 1], wordnet_ids()[:2])), templates="plain")
    assert some.notes == [
        "2 of 1,000 classes are present, and only these are candidates. This is easier than the whole set, so its published "
        "figures do not compare."
    ]
    assert not imagenet_classification(
        name="x", images=prepared(Labelled([0, 1], wordnet_ids())), templates="plain"
    ).notes
