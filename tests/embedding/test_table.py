"""Tables of embeddings: the same rows after a stop, from whatever holds the pictures."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform, FitTransform, SquashTransform
from cliplab.embedding import table
from cliplab.embedding.collection import open_collection
from cliplab.embedding.facts import is_table
from cliplab.embedding.model import EmbeddingModel, list_images
from cliplab.embedding.table import embed_collection, read_table
from tests.models.weights import TOWERS, built, tiny_config


def embed(model: EmbeddingModel, images: Path, out: Path, rows_per_part: int = 5) -> dict:
    return embed_collection(model, open_collection(images), out, rows_per_part=rows_per_part, facts={"images": "x"})


@pytest.mark.parametrize("suffix", [".parquet", ".npz"])
def test_table_holds_ids_and_unit_vectors_of_what_can_be_read(
    suffix: str, model: EmbeddingModel, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"table{suffix}"
    facts = embed(model, pictures, out)
    ids, vectors, saved = read_table(out)
    good = [p for p in list_images(pictures) if "broken" not in p.name and "empty" not in p.name]
    assert ids == [str(p.relative_to(pictures)) for p in good]
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, model.embed_images(good), atol=1e-5)
    assert (saved["rows"], saved["dim"], saved["skipped"]) == (10, 32, {"not_an_image": 2})
    assert sorted(name for name, _ in saved["skipped_ids"]) == ["a/3-broken.png", "b/empty.jpg"]
    assert facts == {**saved, "already": 0}
    assert is_table(out)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_stopped_job_goes_on_to_the_same_table(
    model: EmbeddingModel, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed(model, pictures, tmp_path / "whole.parquet")
    done: list[range] = []

    def stopping(model: EmbeddingModel, collection, rows: range, path: Path) -> None:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(rows)
        one(model, collection, rows, path)

    one = table._embed_part
    monkeypatch.setattr(table, "_embed_part", stopping)
    with pytest.raises(KeyboardInterrupt):
        embed(model, pictures, tmp_path / "stopped.parquet")
    assert not (tmp_path / "stopped.parquet").exists()
    monkeypatch.setattr(table, "_embed_part", one)
    assert embed(model, pictures, tmp_path / "stopped.parquet")["already"] == 10
    whole, again = read_table(tmp_path / "whole.parquet"), read_table(tmp_path / "stopped.parquet")
    assert whole[0] == again[0]
    assert np.array_equal(whole[1], again[1])
    assert whole[2] == again[2]
    assert embed(model, pictures, tmp_path / "stopped.parquet")["already"] == 12
    with pytest.raises(ValueError, match="holds other embeddings"):
        embed(model, pictures / "a", tmp_path / "stopped.parquet")


def test_parts_of_another_job_are_not_taken(
    model: EmbeddingModel, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "table.parquet"
    out.with_name("table.parquet.parts").mkdir()
    (out.with_name("table.parquet.parts") / "job").write_text("another")
    with pytest.raises(ValueError, match="started with another model, batch size or images"):
        embed(model, pictures, out)


def test_data_sets_are_read_by_column_and_named_by_another(
    model: EmbeddingModel, pictures: Path, tmp_path: Path
) -> None:
    good = sorted((pictures / "b").glob("[0-9].png"))
    rows = {"jpg": [{"bytes": p.read_bytes(), "path": None} for p in good], "key": [p.stem for p in good]}
    features = datasets.Features({"jpg": datasets.Image(), "key": datasets.Value("string")})
    data = datasets.Dataset.from_dict(rows, features=features)
    data.to_parquet(tmp_path / "rows.parquet")
    data.save_to_disk(tmp_path / "saved")
    expected = model.embed_images(good)
    for place in ("rows.parquet", "saved"):
        collection = open_collection(str(tmp_path / place), id_column="key")
        assert list(collection.ids) == ["0", "2", "4", "6", "8"]
        np.testing.assert_allclose(model.embed_images(collection), expected, atol=1e-6)
    assert list(open_collection(str(tmp_path / "saved")).ids) == ["0", "1", "2", "3", "4"]
    assert not is_table(tmp_path / "rows.parquet")
    with pytest.raises(ValueError, match="no id column among jpg, key; looked for name"):
        open_collection(str(tmp_path / "saved"), id_column="name")
    data.map(lambda row: {"key": row["key"] * 0}).save_to_disk(tmp_path / "same")
    with pytest.raises(ValueError, match="key has '' more than once; name a column of distinct ids"):
        open_collection(str(tmp_path / "same"), id_column="key")


def test_folder_of_pictures_stays_one_beside_lists_and_tables(
    model: EmbeddingModel, pictures: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(pictures, tmp_path / "pictures")
    names = open_collection(folder).ids
    embed(model, folder, folder / "table.parquet")
    (folder / "list.csv").write_text("image,label\nb/0.png,cat\na/1.png,dog\n")
    assert list(open_collection(folder).ids) == list(names)
    listed = open_collection(str(folder / "list.csv"), id_column="label")
    assert list(listed.ids) == ["cat", "dog"]
    np.testing.assert_allclose(
        model.embed_images(listed), model.embed_images([pictures / "b" / "0.png", pictures / "a" / "1.png"]), atol=1e-6
    )


def test_what_is_not_there_or_no_table_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="images: there is no /nowhere/pictures"):
        open_collection("/nowhere/pictures")
    with pytest.raises(ValueError, match="there are no images in this folder"):
        open_collection(str(tmp_path))
    with pytest.raises(ValueError, match="there is no file or folder lost here, and data set 'lost'"):
        open_collection("lost")
    (tmp_path / "notes.txt").write_text("cat")
    with pytest.raises(ValueError, match=r"notes.txt is neither a picture nor one of .tar, .*.parquet"):
        open_collection(tmp_path / "notes.txt")
    (tmp_path / "broken.parquet").write_text("cat")
    assert not is_table(tmp_path / "broken.parquet")
    (tmp_path / "broken.parquet").unlink()
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="not a table of embeddings that task=embed wrote"):
        read_table(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "changed",
    [
        lambda m: {"tokenizer": CLIPTokenizer(m.tokenizer.context_length, clean="canonicalize")},
        lambda m: {"tokenizer": CLIPTokenizer(m.tokenizer.context_length - 1)},
        lambda m: {"transform": EvalTransform(m.transform.image_size, interpolation="bilinear")},
        lambda m: {"transform": EvalTransform(m.transform.image_size, short_side=2 * m.transform.image_size)},
        lambda m: {"transform": SquashTransform(m.transform.image_size)},
        lambda m: {"transform": FitTransform(m.transform.image_size)},
    ],
    ids=["cleaning", "length", "interpolation", "short side", "squashed", "fitted"],
)
def test_other_texts_or_pictures_over_the_same_weights_are_another_model(
    changed: Callable[[EmbeddingModel], dict[str, Any]], model: EmbeddingModel, pictures: Path, tmp_path: Path
) -> None:
    out = tmp_path / "table.parquet"
    embed(model, pictures, out)
    parts = {"tokenizer": model.tokenizer, "transform": model.transform, **changed(model)}
    other = EmbeddingModel(model=model.model, batch_size=4, progress=False, **parts)
    with pytest.raises(ValueError, match="holds other embeddings"):
        embed(other, pictures, out)


def test_nothing_readable_is_an_error_and_leaves_nothing(model: EmbeddingModel, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"no")
    with pytest.raises(ValueError, match="none of the 1 images can be read"):
        embed(model, tmp_path / "pictures", tmp_path / "out.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["pictures"]


def test_the_same_weights_under_another_activation_are_another_model(
    model: EmbeddingModel, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a table nor a half-done one is taken for the other's."""
    out, half = tmp_path / "table.parquet", tmp_path / "half.parquet"
    embed(model, pictures, out)
    monkeypatch.setattr(table, "_read_parts", lambda paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        embed(model, pictures, half)
    monkeypatch.undo()
    gelu = EmbeddingModel(
        model=built(tiny_config("vit") | {"image_encoder": {**TOWERS["vit"], "activation": "gelu", "output_dim": 32}}),
        tokenizer=model.tokenizer,
        transform=model.transform,
        batch_size=4,
        progress=False,
    )
    assert gelu.model.state_dict().keys() == model.model.state_dict().keys()
    assert read_table(out)[2]["fingerprint"] == model.fingerprint != gelu.fingerprint
    with pytest.raises(ValueError, match="holds other embeddings"):
        embed(gelu, pictures, out)
    with pytest.raises(ValueError, match="started with another model"):
        embed(gelu, pictures, half)
    assert embed(model, pictures, half)["already"] == 12
