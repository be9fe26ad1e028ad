"""Runs beside each other: tested on the same images, labelled by what differs, refused when there is nothing to compare."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cliplab.reporting.comparison import compare_runs, run_labels, write_comparison

from .toys import fill_run


def change(folder: Path, file: str, **values: object) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs; the second is right about all six images, the first about three."""
    folders = [fill_run(tmp_path / name) for name in ("one", "two")]
    path = folders[1] / "samples" / "toy.parquet"
    table = pq.read_table(path).to_pydict()
    pq.write_table(pa.table({**table, "rank": [0] * 6}), path)
    change(folders[1], "results/toy.json", pretrained="best")
    details = json.loads((folders[1] / "details" / "toy.json").read_text())
    change(folders[1], "details/toy.json", counts=[[1, 1, 1, 0, 1, 1] for _ in details["counts"]])
    return folders


def test_difference_is_tested_on_the_images_both_runs_saw(runs: list[Path]) -> None:
    record = compare_runs(runs)
    (toy,) = record["sets"]
    difference = toy["rows"][1]["difference"]
    assert (difference["value"], difference["only_first"], difference["only_second"]) == (0.5, 0, 3)
    assert difference["p_value"] == difference["p_holm"] == pytest.approx(0.25)
    assert "difference" not in toy["rows"][0]
    assert [row["name"] for row in toy["moved"]["gained"]] == ["dog & co", "owl", "bee"]
    assert toy["moved"]["lost"] == []
    assert record["retrieval"][0]["rows"][0]["image_retrieval_recall@1"][0] == 0.1


def test_other_images_and_another_protocol_are_said(runs: list[Path]) -> None:
    path = runs[1] / "samples" / "toy.parquet"
    table = pq.read_table(path).to_pydict()
    pq.write_table(pa.table({**table, "label": [1, 0, 2, 3, 4, 5]}), path)
    change(runs[1], "results/toy.json", protocol_hash="another")
    (toy,) = compare_runs(runs)["sets"]
    assert "difference" not in toy["rows"][1]
    assert toy["notes"] == [
        "toy: the protocols differ",
        "toy: emoji best is not tested against emoji last, the images or labels differ",
    ]


def test_published_rows_stand_beside_a_known_model(runs: list[Path]) -> None:
    for folder in runs:
        for kind in ("results", "details"):
            (folder / kind / "toy.json").rename(folder / kind / "imagenet.json")
        (folder / "samples" / "toy.parquet").rename(folder / "samples" / "imagenet.parquet")
        change(folder, "results/imagenet.json", dataset="imagenet", model="vit_b32")
    write_comparison(runs[0].parent / "out", runs)
    for file in ("comparison.md", "comparison.html"):
        assert "63.2 %" in (runs[0].parent / "out" / file).read_text()


def test_figures_without_images_to_test_on(runs: list[Path]) -> None:
    for folder, value in zip(runs, (0.5, 0.75), strict=True):
        result = json.loads((folder / "results" / "toy.json").read_text())
        probe = {**result, "task": "linear_probe", "metrics": {"acc1": value}}
        (folder / "results" / "toy_linear_probe.json").write_text(json.dumps(probe))
    (probe,) = compare_runs(runs)["others"]
    assert [row["value"] for row in probe["rows"]] == [0.5, 0.75]
    assert "75.0 %" in write_comparison(runs[0].parent / "out", runs).read_text()


def test_labels_name_what_was_typed_and_differs(runs: list[Path]) -> None:
    assert run_labels(runs) == ["emoji last", "emoji best"]
    change(runs[1], "results/toy.json", pretrained="last")
    assert run_labels(runs) == ["emoji (one)", "emoji (two)"]
    for folder, rate in zip(runs, (0.1, 0.2), strict=True):
        typed = ["experiment=emoji", f"optimizer.lr={rate}", f"paths.run={folder}", "tags=[a]"]
        (folder / "overrides.yaml").write_text(yaml.safe_dump(typed))
        (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"embed_dim": 8 * rate, "output_dim": 8 * rate}}))
    assert run_labels(runs) == ["emoji lr=0.1", "emoji lr=0.2"]
    (runs[0] / "overrides.yaml").write_text("[]")  # the default of its config stands for what was not typed
    (runs[0] / "config.yaml").write_text(yaml.safe_dump({"optimizer": {"lr": 0.5}}))
    assert run_labels(runs) == ["emoji lr=0.5", "emoji lr=0.2"]


def test_what_cannot_be_compared(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two run folders or more, got 1"):
        compare_runs(runs[:1])
    with pytest.raises(ValueError, match="has no results"):
        compare_runs([runs[0], tmp_path])
