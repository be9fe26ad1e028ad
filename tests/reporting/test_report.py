"""Result files in the stated form, and a page made of them alone."""

import html.parser
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cliplab.evaluation.result import EvaluationResult
from cliplab.reporting.html import write_report
from cliplab.reporting.results import gallery_rows, read_samples, write_json, write_result

NAMES = ["cat", "<script>alert(1)</script>", "dog & co", "owl", "fox", "bee"]


class Pictures:
    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(np.full((200, 100, 3), 40 * index, dtype=np.uint8))


def classification(name: str = "toy") -> EvaluationResult:
    labels, ranks = [0, 1, 2, 3, 4, 5], [0, 0, 1, 5, 0, 2]
    counts = [[1, int(r < 1), int(r < 5), r, int(r < 1), int(r < 1)] for r in ranks]
    tops = [[label, *(i for i in range(6) if i != label)][:5] for label in labels]
    metrics = {
        "acc1": 0.5,
        "acc5": 5 / 6,
        "mean_per_class_recall": 0.5,
        "acc1_ci_low": 0.1876,
        "acc1_ci_high": 0.8124,
        "mean_rank": 2.3,
        "ece": 0.2,
        "chance": 1 / 6,
        "images": 6.0,
        "classes": 6.0,
        "acc1_twemoji": 0.25,
    }
    details = {"class_names": NAMES, "templates": ["a {}"], "counts": counts, "calibration": [[6, 3, 2.5]]}
    samples = {
        "index": labels,
        "label": labels,
        "rank": ranks,
        "top5": [t if r == 0 else t[1:] + t[:1] for t, r in zip(tops, ranks, strict=True)],
        "top5_probability": [[0.9 - 0.1 * i, 0.05, 0.02, 0.01, 0.0] for i in range(6)],
    }
    return EvaluationResult(name, "zeroshot_classification", metrics, "abc123", details, samples, {"text": 0.5})


def retrieval() -> EvaluationResult:
    ways = ("image_retrieval", "text_retrieval")
    metrics = {f"{way}_recall@{k}": k / 10 for way in ways for k in (1, 5, 10)}
    metrics |= {f"{way}_median_rank": 3.0 for way in ways}
    return EvaluationResult("val", "zeroshot_retrieval", metrics, "def456")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for result in (classification(), retrieval()):
        write_result(tmp_path, result, Pictures(), "emoji", "last")
    history = [
        {
            "set": "toy",
            "epoch": e,
            "step": 10 * e,
            "samples_seen": 100 * e,
            "metrics": {"acc1": 0.1 * e, "acc5": 0.2 * e},
        }
        for e in range(4)
    ]
    (tmp_path / "zeroshot").mkdir()
    (tmp_path / "zeroshot" / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
    manifest = {
        "run_name": "emoji",
        "task": "train",
        "status": "finished",
        "command": "python run.py seed=2",
        "seed": 2,
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:03:00+00:00",
        "python": "3.11.7",
        "versions": {"torch": "2.15.0"},
        "git": {"commit": "0123abc", "dirty": True},
        "hardware": {"cpu": "x86_64", "cores": 2, "memory_gb": 8.0, "gpus": []},
        "parameters": 1234,
        "credits": ["Drawings by somebody, https://example.org"],
    }
    write_json(tmp_path / "manifest.json", manifest)
    return tmp_path


def test_result_file_has_the_form_that_clip_benchmark_reads(run: Path) -> None:
    for name, task in (("toy", "zeroshot_classification"), ("val_retrieval", "zeroshot_retrieval")):
        result = json.loads((run / "results" / f"{name}.json").read_text())
        assert result["task"] == task
        assert all(isinstance(result[key], str) for key in ("dataset", "model", "pretrained", "task", "language"))
        dictionaries = [key for key, value in result.items() if isinstance(value, dict | list)]
        assert dictionaries == ["metrics"]
        assert all(isinstance(value, float) for value in result["metrics"].values())


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.hidden = tag in ("script", "style")
        self.addresses += [str(v) for k, v in attrs if k in ("src", "href", "action", "xlink:href") and v]

    def handle_endtag(self, tag: str) -> None:
        self.hidden = False

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.text += " ".join(data.split()) + " "


def test_page_is_self_contained_and_escapes_names(run: Path) -> None:
    text = write_report(run).read_text()
    page = Page(text)
    assert all(a.startswith(("data:image/png;base64,", "#")) for a in page.addresses)
    assert "url(http" not in text
    assert "@import" not in text
    assert page.tags.count("script") == 1
    assert "<script>alert(1)</script>" in page.text, "the class name is shown, not run"


def test_page_says_what_the_files_say(run: Path) -> None:
    text = Page(write_report(run).read_text()).text
    for expected in ("50.0 %", "18.8 % to 81.2 %", "3 times chance", "16.67 %", "twemoji", "25.0 %"):
        assert expected in text
    for expected in ("python run.py seed=2", "0123abc , with local changes", "1,234 parameters", "torch 2.15.0"):
        assert expected.replace(" ,", ",") in text.replace(" ,", ",")
    assert "Drawings by somebody" in text


def test_page_is_made_of_the_files_alone(run: Path) -> None:
    first = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == first


@pytest.mark.parametrize(
    "missing",
    ["zeroshot/history.jsonl", "samples/toy.parquet", "details/toy.json", "results/toy.json", "manifest.json"],
)
def test_what_is_missing_is_left_out(run: Path, missing: str) -> None:
    (run / missing).unlink()
    assert "<h1>" in write_report(run).read_text()


def test_gallery_shelves() -> None:
    shelves = gallery_rows(classification().samples)
    assert shelves["Confidently right"] == [0, 1, 4]
    assert shelves["Confidently wrong"] == [3]
    assert shelves["Near misses"] == [2]


def test_thumbnails_are_small_and_only_of_what_is_shown(run: Path) -> None:
    thumbnails: list[Any] = read_samples(run / "samples" / "toy.parquet")["thumbnail"]
    assert all(t is None or t.startswith(b"\x89PNG") for t in thumbnails)
    assert any(thumbnails)
