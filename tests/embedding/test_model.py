"""The model a user holds: unit vectors in order, broken images and long texts counted, errors in words."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cliplab
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform
from cliplab.embedding.model import EmbeddingModel, Hit, list_images
from tests.models.weights import built, tiny_config


@pytest.mark.filterwarnings("ignore:.*images skipped")
def test_images_are_unit_vectors_in_order_whatever_they_are_given_as(model: EmbeddingModel, pictures: Path) -> None:
    paths = [p for p in list_images(pictures) if "broken" not in p.name and "empty" not in p.name]
    embeds = model.embed_images(paths)
    assert (embeds.shape, embeds.dtype) == ((10, 32), np.float32)
    np.testing.assert_allclose(np.linalg.norm(embeds, axis=1), 1, atol=1e-6)
    plain = built(tiny_config("vit")).eval()
    with torch.no_grad():
        expected = plain.encode_image(torch.stack([EvalTransform(32)(Image.open(p)) for p in paths]))
    np.testing.assert_allclose(embeds, expected.numpy(), atol=1e-5)
    for given in (paths[::-1][:3], [Image.open(p) for p in paths[::-1][:3]], [p.read_bytes() for p in paths[::-1][:3]]):
        np.testing.assert_allclose(model.embed_images(given), embeds[::-1][:3], atol=1e-5)
    pixels = np.asarray(Image.open(paths[4]))
    for one in (str(paths[4]), paths[4], Image.open(paths[4]), pixels, paths[4].read_bytes(), pixels[None]):
        np.testing.assert_allclose(model.embed_images(one), embeds[4:5], atol=1e-5)


def test_broken_images_are_left_out_and_counted(model: EmbeddingModel, pictures: Path) -> None:
    with pytest.warns(UserWarning, match="2 of 12 images skipped: not_an_image 2"):
        embeds = model.embed_images(pictures)
    names = [p.name for p in list_images(pictures)]
    assert len(embeds) == len(model.kept) == 10
    assert {names[s.position]: s.reason for s in model.skipped} == {
        "3-broken.png": "not_an_image",
        "empty.jpg": "not_an_image",
    }
    assert sorted([*model.kept, *(s.position for s in model.skipped)]) == list(range(12))
    with pytest.warns(UserWarning, match="images skipped"):
        hits = model.search(pictures, pictures / "b" / "4.png", top=20)
    assert len(hits) == 10
    assert hits[0].image == pictures / "b" / "4.png"
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert [h.score for h in hits] == sorted((h.score for h in hits), reverse=True)


def test_long_texts_are_cut_and_counted(model: EmbeddingModel) -> None:
    with pytest.warns(UserWarning, match="1 of 2 texts cut at 77 tokens"):
        embeds = model.embed_texts(["a cat", "word " * 200])
    assert model.truncated == 1
    np.testing.assert_allclose(embeds[1], model.embed_texts("word " * 75)[0], atol=1e-5)
    assert model.truncated == 0
    assert embeds.dtype == np.float32


def test_classify_is_the_softmax_of_scaled_cosines(model: EmbeddingModel, pictures: Path) -> None:
    images, labels = sorted((pictures / "b").glob("[0-9].png")), ["cat", "dog", "fish"]
    result = model.classify(images, labels, templates=["a {}.", "the {}."])
    texts = model.embed_texts([t.replace("{}", n) for n in labels for t in ("a {}.", "the {}.")]).reshape(3, 2, 32)
    weights = texts.mean(1) / np.linalg.norm(texts.mean(1), axis=1, keepdims=True)
    logits = torch.tensor(model.logit_scale * model.embed_images(images) @ weights.T)
    np.testing.assert_allclose(result.probabilities, logits.softmax(1).numpy(), atol=1e-5)
    assert result.best == [labels[i] for i in result.probabilities.argmax(1)]
    assert result.kept.tolist() == [0, 1, 2, 3, 4]


def test_search_of_embeddings_gives_positions(model: EmbeddingModel) -> None:
    vectors = np.eye(32, dtype=np.float32)
    query = model.embed_texts("a tree")[0]
    hits = model.search(vectors, "a tree", top=2)
    order = np.argsort(-query)[:2]
    assert hits == [Hit(int(i), pytest.approx(float(query[i]), abs=1e-6), None) for i in order]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, _: m.embed_images([]), "no images were given"),
        (lambda m, f: m.embed_images(f), "there are no images in this folder"),
        (lambda m, f: m.embed_images([f / "no.png"]), "none of the 1 images can be read: missing_file 1"),
        (lambda m, _: m.embed_texts([]), "no texts were given"),
        (lambda m, _: m.classify(["x"], []), "labels must be one or more names"),
        (lambda m, _: m.classify(["x"], ["a", "b", "a"]), "label 'a' is given twice"),
        (lambda m, _: m.classify(["x"], ["a"], templates="nonsense"), "templates 'nonsense' is neither"),
        (lambda m, _: m.search(["x"], "lost.png"), "there is no such file|can be read"),
        (lambda m, _: m.search(np.eye(32), " "), "query is empty"),
        (lambda m, _: m.search(np.eye(31), "x"), "the embeddings have 31 dimensions and the model 32"),
        (lambda m, _: m.search(np.eye(32), "x", top=0), "top 0 must be a whole number, 1 or more"),
        (lambda m, _: m.search(np.eye(32), "x", top="5"), "top '5' must be a whole number, 1 or more"),
        (lambda m, _: m.search(np.eye(32), ["a", "b"]), "query is a list of 2; give one sentence or one image"),
        (lambda m, f: list_images(f / "lost"), "is not a folder"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*images skipped")
def test_mistake_is_told_in_words(call, message: str, model: EmbeddingModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        call(model, tmp_path)


def test_load_says_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds neither a run with a last.ckpt nor weights"):
        cliplab.load(str(tmp_path))
    with pytest.raises(ValueError, match="batch_size 0 must be 1 or more"):
        EmbeddingModel(
            model=built(tiny_config("vit")), tokenizer=CLIPTokenizer(77), transform=EvalTransform(32), batch_size=0
        )


def test_what_can_be_no_image_is_named(model: EmbeddingModel) -> None:
    with pytest.raises(ValueError, match=r"^images 3 must be a folder, a picture, or a list of paths"):
        model.embed_images(3)


def test_a_checkpoint_whose_class_is_gone_names_it_and_says_what_to_do(tmp_path: Path) -> None:
    config = tiny_config("vit")
    state = {f"model.{key}": value for key, value in built(config).state_dict().items()}
    config["image_encoder"]["_target_"] = "cliplab.models.old_place.Tower"
    tokenizer = {"_target_": "cliplab.data.tokenizers.CLIPTokenizer", "context_length": 77}
    file = tmp_path / "last.ckpt"
    torch.save({"cliplab_config": {"model": config, "tokenizer": tokenizer}, "state_dict": state}, file)
    with pytest.raises(ValueError) as caught:
        cliplab.load(str(file))
    message = str(caught.value)
    assert message.startswith(f"{file}: its config does not fit this cliplab: model.image_encoder._target_: ")
    assert "cliplab.models.old_place.Tower cannot be imported" in message
    assert "load it with the version that wrote it" in message
    assert "\n" not in message
