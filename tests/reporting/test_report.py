"""Result files in the stated form, and a page made of them alone."""

import html.parser
import json
from pathlib import Path
from typing import Any

import pytest

from cliplab.reporting.html import write_report
from cliplab.reporting.results import gallery_rows, read_samples

from .toys import classification


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
