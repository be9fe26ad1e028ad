"""Pictures as arrays and tensors, and labels: taken as meant, or refused with what is wanted."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import cliplab
from cliplab.embedding.arrays import pictures_of
from cliplab.embedding.model import EmbeddingModel
from cliplab.models.clip import CLIP
from tests.models.weights import built, tiny_config

RGB = np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8)
GREY, RGBA = RGB[..., 0], np.concatenate([RGB, np.full((20, 30, 1), 255, np.uint8)], -1)


@pytest.mark.parametrize(
    ("given", "count", "expected"),
    [
        (RGB, 1, RGB),
        (np.moveaxis(RGB, -1, 0), 1, RGB),
        (np.asfortranarray(RGB), 1, RGB),
        (torch.from_numpy(RGB).permute(2, 0, 1), 1, RGB),
        (torch.from_numpy(RGB), 1, RGB),
        (RGB / 255, 1, RGB),
        (RGB.astype(np.float32), 1, RGB),
        (RGB.astype(np.int64), 1, RGB),
        (torch.from_numpy(RGB).double().requires_grad_() / 255, 1, RGB),
        (RGB.astype(np.uint16) * 257, 1, RGB),
        (GREY, 1, GREY),
        (GREY > 100, 1, (GREY > 100) * 255),
        (GREY[..., None], 1, GREY),
        (GREY[None], 1, GREY),
        (RGBA, 1, RGBA),
        (np.stack([RGB] * 4), 4, RGB),
        (torch.stack([torch.from_numpy(RGB).permute(2, 0, 1)] * 2) / 255, 2, RGB),
        (np.zeros((3, 20, 3), np.uint8), 1, np.zeros((3, 20, 3))),
        (torch.zeros(3, 20, 3), 1, np.zeros((20, 3, 3))),
    ],
)
def test_arrays_are_pictures(given: Any, count: int, expected: np.ndarray) -> None:
    found = pictures_of(given)
    assert len(found) == count
    for picture in found:
        np.testing.assert_array_equal(np.asarray(picture), expected)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (np.zeros((20, 30, 5), np.uint8), r"shape \[20, 30, 5\] and type uint8 is not a picture"),
        (np.zeros((2, 3, 4, 5, 3), np.uint8), r"shape \[2, 3, 4, 5, 3\]"),
        (np.zeros(7), r"shape \[7\]"),
        (np.zeros((0, 3, 3), np.uint8), r"shape \[0, 3, 3\]"),
        (np.zeros((4, 32), np.float32), r"shape \[4, 32\] and type float32"),
        (torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(0)), "normalised pictures are not accepted"),
        (np.full((8, 8, 3), 300.0), "are between 300 and 300"),
        (np.full((8, 8, 3), np.nan), "is not a picture"),
        (np.zeros((8, 8, 3), complex), "complex128 is not a picture"),
    ],
)
def test_other_arrays_are_refused_with_the_shapes_that_are_wanted(
    given: Any, reason: str, model: EmbeddingModel
) -> None:
    for one in (given, [given]):
        with pytest.raises(
            ValueError, match=rf"^images: .*{reason}.*\[channels, height, width\] of 1, 3 or 4 channels"
        ):
            model.embed_images(one)


def test_every_form_of_a_picture_has_one_embedding(model: EmbeddingModel) -> None:
    picture = Image.fromarray(RGB)
    expected = model.embed_images(picture)
    tensor = torch.from_numpy(RGB).permute(2, 0, 1)
    for form in (
        RGB,
        [RGB],
        RGB[None],
        tensor,
        [tensor],
        tensor[None],
        tensor / 255,
        [picture],
        picture.convert("RGBA"),
    ):
        np.testing.assert_allclose(model.embed_images(form), expected, atol=1e-6)
    assert model.embed_images([RGB, picture, tensor]).shape == (3, 32)
    assert model.embed_images(np.stack([RGB] * 5)).shape == (5, 32)
    for mode in ("L", "P", "1", "CMYK", "I;16", "F", "LA"):
        assert model.embed_images(picture.convert("L" if mode == "I;16" else mode)).shape == (1, 32)
    with pytest.raises(ValueError, match=r"an item is a batch of shape \[2, 20, 30, 3\]"):
        model.embed_images([np.stack([RGB] * 2)])
    hits = model.search(torch.eye(32), "a cat", top=1)
    assert hits[0].image is None


def test_paths_may_stand_in_an_array(model: EmbeddingModel, pictures: Path) -> None:
    paths = sorted(str(path) for path in (pictures / "b").glob("[0-9].png"))
    np.testing.assert_array_equal(model.embed_images(np.array(paths)), model.embed_images(paths))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 2], r"label 0 is 1, of type int; labels are strings"),
        (["cat", None], r"label 1 is None, of type NoneType"),
        (["cat", ["dog"]], r"label 1 is \['dog'\], of type list"),
        ({"cat": 1}, "labels .* must be a list of names"),
        (7, "labels 7 must be a list of names"),
        ([], "labels must be one or more names"),
        ("", "labels must be one or more names"),
        (["cat", "cat "], "label 'cat' is given twice"),
    ],
)
def test_labels_that_are_none_are_told(labels: Any, message: str, model: EmbeddingModel) -> None:
    with pytest.raises(ValueError, match=message):
        model.classify(RGB, labels)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "texts None must be a list of sentences"),
        (b"a dog", "texts b'a dog' must be a list of sentences"),
        (["a dog", None], "text 1 is None, of type NoneType; texts are strings"),
        ([["a dog"]], r"text 0 is \['a dog'\], of type list; texts are strings"),
        ([], "no texts were given"),
    ],
)
def test_texts_that_are_none_are_told(texts: Any, message: str, model: EmbeddingModel) -> None:
    with pytest.raises(ValueError, match=message):
        model.embed_texts(texts)


def test_labels_that_say_little_are_told(model: EmbeddingModel) -> None:
    with pytest.warns(UserWarning, match="'cat' is the only label: its probability is always 1"):
        assert model.classify(RGB, "cat").probabilities.tolist() == [[1.0]]
    with pytest.warns(UserWarning, match="labels 'Cat' and 'cat' are the same tokens to this model"):
        result = model.classify(RGB, np.array(["Cat", "cat", "dog"]))
    assert result.probabilities[0, 0] == result.probabilities[0, 1]
    np.testing.assert_allclose(
        result.cosines, model.embed_images(RGB) @ model.classifier(["Cat", "cat", "dog"], "simple").T
    )


def test_a_model_with_a_bias_judges_each_label_by_itself() -> None:
    config = {**tiny_config("vit"), "init_logit_bias": -3.0}
    plain: CLIP = built(config)
    model = EmbeddingModel(
        model=plain,
        tokenizer=cliplab.data.tokenizers.CLIPTokenizer(77),
        transform=cliplab.data.transforms.EvalTransform(32),
        progress=False,
    )
    result = model.classify(RGB, ["cat", "dog"])
    logits = float(plain.logit_scale.exp()) * result.cosines + float(plain.logit_bias)
    np.testing.assert_allclose(result.probabilities, 1 / (1 + np.exp(-logits)), rtol=1e-5)
    assert result.independent
    alone = model.classify(RGB, ["cat"])  # no warning: it says something
    np.testing.assert_allclose(alone.probabilities[:, 0], result.probabilities[:, 0], rtol=1e-5)
