"""A model with a decoder, from training to its captions: written, scored, and refused where embeddings are needed."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest

import cliplab
from cliplab.embedding import captions
from cliplab.objectives.writing import Beam

from .conftest import NAMES, nothing_but_the_run, only_run, picture, small_run


def references(shapes: Path) -> list[str]:
    place = "zeroshot.folder_captions.dataset"
    return [f"{place}.path={shapes}", f"{place}.split=validation"]


@pytest.fixture(scope="module")
def captioner(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of objective=caption, with a report."""
    import sys

    from cliplab import cli

    root = tmp_path_factory.mktemp("captioner")
    kept = [a for a in small_run(shapes) if not a.startswith(("objective", "trainer.max_epochs", "zeroshot=folder"))]
    chosen = [*kept, "objective=caption", "trainer.max_epochs=30", "callbacks.evaluation.every_n_epochs=30"]
    chosen += ["zeroshot=[folder,folder_captions]", *references(shapes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLIPLAB_ROOT", str(root))
        nothing_but_the_run(patch, report=True)
        patch.setattr(sys, "argv", ["run.py", *chosen])
        cli.main()
    return only_run(root)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """One picture of each kind, and a file that is none."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for kind, name in enumerate(NAMES):
        picture(kind, 3).save(folder / f"{kind} {name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


def table(path: Path) -> list[list[str]]:
    return list(csv.reader(path.open(encoding="utf8")))


@pytest.mark.report
def test_captions_are_scored_and_shown(
    captioner: Path, command: Callable[..., int], shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = json.loads((captioner / "results" / "folder_captions.json").read_text())
    assert result["task"] == "captioning"
    assert {"Bleu_1", "Bleu_4", "ROUGE_L", "CIDEr", "exact"} <= set(result["metrics"])
    assert result["metrics"]["images"] == 8
    final = json.loads((captioner / "manifest.json").read_text())["final"]
    assert final["zeroshot/folder/ROUGE_L"] == result["metrics"]["ROUGE_L"] > 0.5
    page = (captioner / "report.html").read_text()
    assert "CIDEr-D" in page
    assert "the caption written greedily with its ROUGE-L" in page
    asked = ["zeroshot=folder_captions", *references(shapes), "zeroshot.folder_captions.beams=3"]
    assert command("task=evaluate", f"run={captioner}", *asked) == 0
    assert "folder_captions: ROUGE-L" in capsys.readouterr().out
    (again,) = tmp_path.rglob("results/*.json")
    assert json.loads(again.read_text())["protocol_hash"] != result["protocol_hash"], "written by beams"


def test_captions_are_written_by_each_method_and_a_broken_picture_is_named(
    captioner: Path, pictures: Path, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed, written = ["task=caption", f"run={captioner}", f"images={pictures}"], {}
    for method in ("greedy", "beam", "nucleus"):
        out = tmp_path / method
        assert command(*typed, f"out={out}", f"task.method={method}") == 0
        assert "1 of 9 images skipped, not_an_image: broken.png" in capsys.readouterr().out
        header, *rows = table(out / "captions.csv")
        assert header == ["id", "caption", "log_likelihood"]
        assert [row[0] for row in rows] == [f"{kind} {name}.png" for kind, name in enumerate(NAMES)]
        written[method] = rows
        assert [path.name for path in out.iterdir()] == ["captions.csv"]
    assert sum(name in row[1] for name, row in zip(NAMES, written["greedy"], strict=True)) >= 5
    for likely, greedy in zip(written["beam"], written["greedy"], strict=True):
        assert float(likely[2]) >= float(greedy[2]) - 1e-3
    assert command(*typed, "task.method=gredy") == 1
    assert "task.method: 'gredy' is not a choice; did you mean 'greedy'?" in capsys.readouterr().err


def test_a_stopped_job_goes_on_with_the_same_captions(
    captioner: Path, pictures: Path, command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = ["task=caption", f"run={captioner}", f"images={pictures}", "task.rows_per_part=3"]
    assert command(*typed, f"out={tmp_path / 'whole'}") == 0
    write, calls = captions.write, list[int]()

    def stopping(*arguments, **named):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return write(*arguments, **named)

    monkeypatch.setattr(captions, "write", stopping)
    assert command(*typed, f"out={tmp_path / 'stopped'}") == 130
    assert len(list((tmp_path / "stopped" / "parts").glob("*.json"))) == 1
    assert command(*typed, f"out={tmp_path / 'stopped'}") == 0
    assert len(calls) == 4, "the first of three parts was kept"
    assert (tmp_path / "stopped" / "captions.csv").read_text() == (tmp_path / "whole" / "captions.csv").read_text()
    assert not (tmp_path / "stopped" / "parts").exists()


@pytest.mark.filterwarnings("ignore:.*images skipped")
def test_the_model_in_python_writes_and_classifies_by_score(captioner: Path, pictures: Path) -> None:
    model = cliplab.load(str(captioner), device="cpu", progress=False)
    greedy, wide = model.caption(pictures), model.caption(pictures, Beam(beams=8))
    assert [one.position for one in greedy] == list(range(8))
    assert [one.reason for one in model.skipped] == ["not_an_image"]
    assert all(b.log_likelihood >= a.log_likelihood - 1e-4 for a, b in zip(greedy, wide, strict=True))
    assert max(len(one.text.split()) for one in model.caption(pictures, most_tokens=1)) <= 1
    found = model.classify(pictures, NAMES, templates="plain")
    assert found.by_score
    assert not found.independent
    assert found.probabilities.sum(1) == pytest.approx(1, abs=1e-5)
    assert (found.cosines < 0).all(), "log-likelihoods"
    assert sum(a == b for a, b in zip(found.best, NAMES, strict=True)) >= 5


def test_classify_by_score_and_verbs_that_need_an_embedding(
    captioner: Path, pictures: Path, command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = [f"run={captioner}", f"images={pictures}"]
    labels = "labels=[red disc,blue stripe]"
    assert command("task=classify", *typed, labels, "task.templates=plain", f"out={tmp_path / 'labels'}") == 0
    header, *rows = table(tmp_path / "labels" / "predictions.csv")
    assert header[5:] == ["score", "score red disc", "score blue stripe"]
    assert len(rows) == 8
    assert all(float(row[5]) < 0 for row in rows)
    capsys.readouterr()
    told = "objective Caption trains no embeddings of images; use task=classify or task=caption"
    for verb in (["task=search", "query=red disc"], ["task=embed", f"out={tmp_path / 'table.parquet'}"]):
        assert command(*verb, *typed) == 1
        assert capsys.readouterr().err.strip().endswith(told)


def test_a_model_without_a_decoder_is_refused(
    stopped_run: Path, pictures: Path, shapes: Path, command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    typed = f"run={stopped_run}"
    assert command("task=caption", typed, f"images={pictures}") == 1
    assert "does not write captions; use a model of objective=caption or coca" in capsys.readouterr().err
    assert command("task=evaluate", typed, "zeroshot=folder_captions", *references(shapes)) == 1
    assert "zeroshot: folder is a set to write captions for, and this model writes none" in capsys.readouterr().err
