"""The commands that use a trained model: export, embed, classify, search."""

import csv
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from PIL import Image

from cliplab.checkpoints.open_clip import write_open_clip
from cliplab.embedding.table import read_table
from tests.embedding.conftest import pictures, weights_folder  # noqa: F401
from tests.models.weights import built, tiny_config


def table(path: Path) -> list[list[str]]:
    return list(csv.reader(path.open(encoding="utf8")))


@pytest.fixture
def last_line(capsys: pytest.CaptureFixture[str]) -> Callable[[], Path]:
    return lambda: Path(capsys.readouterr().out.splitlines()[-1])


def test_embed_then_search_the_table(
    command: Callable[..., int],
    weights_folder: Path,  # noqa: F811
    pictures: Path,  # noqa: F811
    tmp_path: Path,
    last_line: Callable[[], Path],
) -> None:
    model = f"pretrained={weights_folder}"
    assert command("task=embed", model, f"images={pictures}", "format=numpy", "task.batch_size=4") == 0
    out = last_line()
    assert out.suffix == ".npz"
    assert len(read_table(out)[0]) == 10
    query = pictures / "b" / "4.png"
    more = ["index=usearch", "task.top=3", f"out={tmp_path / 'found'}"]
    assert command("task=search", f"images={out}", f"query={query}", *more) == 0, "the table knows its model"
    page = last_line()
    rows = table(page.with_name("results.csv"))
    assert rows[0] == ["rank", "score", "id"]
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
    assert rows[1][2] == "b/4.png"
    text = page.read_text()
    assert text.count("data:image/jpeg") == 4
    assert "ApproximateIndex: 100.0% of the exact 3 nearest" in text


def test_table_of_a_data_set_finds_its_pictures_again(
    command: Callable[..., int],
    weights_folder: Path,  # noqa: F811
    pictures: Path,  # noqa: F811
    tmp_path: Path,
    last_line: Callable[[], Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = sorted((pictures / "b").glob("[0-9].png"))
    rows = {"image": [{"bytes": p.read_bytes(), "path": None} for p in good], "key": [p.stem for p in good]}
    features = datasets.Features({"image": datasets.Image(decode=False), "key": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows.parquet")
    model, out = f"pretrained={weights_folder}", tmp_path / "table.parquet"
    monkeypatch.chdir(tmp_path)
    typed = [model, "images=rows.parquet", "task.id_column=key", f"out={out}"]
    assert command("task=embed", *typed) == 0
    monkeypatch.chdir(pictures)
    long = "query=" + "word " * 100
    for query, count in ((f"query={good[1]}", 6), (long, 5)):
        assert command("task=search", model, f"images={out}", query) == 0
        assert last_line().read_text().count("data:image/jpeg") == count
    config = tiny_config("vit")
    write_open_clip(tmp_path / "other", config, {k: v * 1.5 for k, v in built(config).state_dict().items()})
    assert command("task=search", f"pretrained={tmp_path / 'other'}", f"images={out}", "query=a cat") == 1
    assert "was embedded by another model" in capsys.readouterr().err
    weights_folder.rename(weights_folder.with_name("moved"))
    assert command("task=search", f"images={out}", "query=a cat") == 1
    weights_folder.with_name("moved").rename(weights_folder)
    assert f"was embedded by {weights_folder}, which is gone; name that model" in capsys.readouterr().err


def test_classify_writes_table_and_picture(
    command: Callable[..., int],
    weights_folder: Path,  # noqa: F811
    pictures: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffcat\ndog\n\nfish\n".encode())
    typed = [f"pretrained={weights_folder}", f"images={pictures}", f"labels={tmp_path / 'labels.txt'}"]
    assert command("task=classify", *typed, "task.templates=plain", "task.shown=4") == 0
    said = capsys.readouterr().out.splitlines()
    assert "2 of 12 images skipped, not_an_image: a/3-broken.png, b/empty.jpg" in said
    rows = table(Path(said[-1]) / "predictions.csv")
    labels = ["cat", "dog", "fish"]
    assert rows[0] == ["id", "label", "probability", *labels, "cosine", *(f"cosine {label}" for label in labels)]
    assert len(rows) == 11
    for row in rows[1:]:
        shares = dict(zip(labels, map(float, row[3:6]), strict=True))
        cosines = dict(zip(labels, map(float, row[7:]), strict=True))
        assert float(row[6]) == cosines[row[1]] == max(cosines.values())
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert float(row[2]) == max(shares.values()) == shares[row[1]]
    assert Image.open(Path(said[-1]) / "predictions.png").width > 500
    (tmp_path / "labels.txt").write_bytes("café".encode("latin1"))
    assert command("task=classify", *typed) == 1
    assert "labels.txt is not a text in UTF-8" in capsys.readouterr().err
    assert command("task=classify", *typed[:2], "labels=[cat,dog]", "task.shown=0") == 0
    assert [p.name for p in Path(capsys.readouterr().out.splitlines()[-1]).iterdir()] == ["predictions.csv"]


def test_export_comes_back_and_brings_a_card(
    command: Callable[..., int],
    weights_folder: Path,  # noqa: F811
    tmp_path: Path,
    last_line: Callable[[], Path],
) -> None:
    assert command("task=export", f"pretrained={weights_folder}", "format=huggingface", f"out={tmp_path / 'a'}") == 0
    assert last_line() == tmp_path / "a"
    card = (tmp_path / "a" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert f"converted from `{weights_folder.name}`" in card
    assert "| width | 64 | 64 |" in card
    assert command("task=export", f"pretrained={tmp_path / 'a'}", "format=open_clip", f"out={tmp_path / 'b'}") == 0
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        assert (tmp_path / "b" / name).read_bytes() == (weights_folder / name).read_bytes()


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["task=export", "format=onyx"], "not 'onyx'; did you mean 'onnx'?"),
        (["task=export", "format=onnx"], "ckpt: task=export needs a model: ckpt="),
        (["task=export", "format=onnx", "ckpt=a", "run=b"], "ckpt: ckpt and run are given; one is enough"),
        (["task=export", "format=onnx", "out=.."], "out: .. exists and is not an empty folder"),
        (["task=embed"], "images: task=embed needs pictures"),
        (["task=embed", "format=csv"], "format: task=embed writes parquet or numpy, not 'csv'"),
        (["task=embed", "out=x.csv", "images=."], "out: x.csv must end in .parquet or .npz"),
        (["task=embed", "images=."], "ckpt: task=embed needs a model: ckpt="),
        (["task=classify", "images=."], "labels: task=classify needs labels"),
        (["task=classify", "images=.", "labels=[cat,cat]"], "labels: 'cat' is given 2 times; leave out all but one"),
        (["task=classify", "images=.", "labels=[cat,[dog]]"], "labels: ['dog'] among the labels is not a name"),
        (["task=classify", "images=.", "labels=[]"], "labels: [] has no name, or an empty one; labels=[cat,dog]"),
        (["task=classify", "images=.", "labels=[a,b]", f"out={__file__}"], "test_use.py is a file, and the results go"),
        (["task=classify", "images=.", "labels=lost.txt"], "labels: there is no file lost.txt"),
        (["task=search", "images=."], "query: task=search needs a query"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_mistake_is_one_line(
    argv: list[str], message: str, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(*argv) == 1
    said = capsys.readouterr().err.strip()
    assert message in said.splitlines()[-1]
    assert "Traceback" not in said
