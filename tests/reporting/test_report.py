"""Result files in the stated form, and a page made of them alone."""

import argparse
import csv
import html.parser
import json
from pathlib import Path
from typing import Any

import pytest

from cliplab.evaluation.gallery import confused_pairs, gallery_rows
from cliplab.evaluation.kinds import linear_probe, multi_label, retrieval
from cliplab.evaluation.result import EvaluationResult
from cliplab.reporting.html import write_report
from cliplab.reporting.results import read_samples, write_json, write_result

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
    assert all(a.startswith(("data:image/png;base64,", "data:,", "#")) for a in page.addresses)
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


def edit(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_badge_changes_with_any_part_of_the_protocol(run: Path) -> None:
    file = run / "details" / "toy.json"
    protocol = json.loads(file.read_text())["protocol"]
    edit(file, calibration=[])
    for plotted in ("zeroshot/history.jsonl", "metrics.csv"):
        (run / plotted).unlink()
    badges = set()
    for part in ("all", "names", "templates", "transform", "data"):
        edit(file, protocol=protocol if part == "all" else {**protocol, part: "ee55"})
        text = write_report(run).read_text()
        start = text.index('<div class="chips" data-protocol')
        badges.add(text[start : text.index("</div>", start)])
    assert len(badges) == 5


def test_warnings_and_subsets_stand_above_the_figures(run: Path) -> None:
    edit(run / "details" / "toy.json", warnings=["labels and names differ"], subset="10 images of each class")
    write_report(run)
    for file in ("report.html", "report.md"):
        text = (run / file).read_text()
        for sentence in ("labels and names differ", "10 images of each class"):
            assert 0 < text.index(sentence) < text.index("per-class recall")


def test_what_went_wrong_in_the_run_stands_above_the_figures(run: Path) -> None:
    assert "left out" not in Page(write_report(run).read_text()).text
    manifest = json.loads((run / "manifest.json").read_text())
    left_out = {"skipped_steps": 1203, "first_skipped_steps": [7, 19]}
    write_json(run / "manifest.json", {**manifest, **left_out})
    page, summary = Page(write_report(run).read_text()).text, (run / "report.md").read_text()
    for text in (page, summary):
        assert (
            "Training steps left out, since their loss or gradient was NaN or infinite: 1,203; the first: 7, 19."
            in text
        )
    told = {"first_batch": "all pictures are the same file", "not_learned": "the model has not learned: 3.47"}
    write_json(run / "manifest.json", {**manifest, **told})
    page, summary = Page(write_report(run).read_text()).text, (run / "report.md").read_text()
    for sentence in told.values():
        assert page.count(sentence) == summary.count(sentence) == 1
    failed = {"status": "failed", "step": 38, "error": "NotFiniteError: the loss is not finite at step 37 (epoch 2)"}
    write_json(run / "manifest.json", {**manifest, **failed})
    page = Page(write_report(run).read_text()).text
    assert "This run failed at step 38: NotFiniteError: the loss is not finite at step 37 (epoch 2)" in page


def test_unusable_rows_are_told_where_there_are_any(run: Path) -> None:
    page = write_report(run)
    assert "nusable rows" not in page.read_text() + (run / "report.md").read_text()
    manifest = json.loads((run / "manifest.json").read_text())
    manifest |= {
        "bad_samples": {"not_an_image": 1200, "empty_caption": 2},
        "first_bad_samples": ["web row 3: not_an_image", "row <9>: empty_caption"],
    }
    (run / "manifest.json").write_text(json.dumps(manifest))
    page = write_report(run).read_text()
    assert '<section id="unusable">' in page
    assert "<td>not_an_image</td><td>1,200</td>" in page
    assert "<code>row &lt;9&gt;: empty_caption</code>" in page
    text = (run / "report.md").read_text()
    assert "**Unusable rows**, each replaced by the next: 1,200 not_an_image, 2 empty_caption. The first:" in text
    assert "- web row 3: not_an_image\n- row &lt;9>: empty_caption\n" in text


def test_prompts_robustness_and_cost(run: Path) -> None:
    text = Page(write_report(run).read_text()).text
    assert "Together 50.0 % : +12.5 points against the best alone, +18.8 against their mean".replace(" :", ":") in text
    assert "no: a shift" in text  # twemoji was not trained on
    assert "−50.0" in text
    assert "4.6 % to 69.9 %" in text  # Wilson's interval of one hit in four
    assert "500 ms" in text
    assert "owl" in text


def test_imagenet_is_held_against_its_shifts_and_published_figures(run: Path) -> None:
    for name in ("imagenet", "imagenet_v2"):
        result = json.loads((run / "results" / "toy.json").read_text())
        metrics = {**result["metrics"], "acc1": 0.6332 if name == "imagenet" else 0.60}
        write_json(
            run / "results" / f"{name}.json", {**result, "dataset": name, "model": "vit_b32", "metrics": metrics}
        )
    text = Page(write_report(run).read_text()).text
    row = text[text.index("effective") :]
    assert "imagenet_v2 60.0 %" in row
    assert "−3.3" in row  # points lost
    assert "56.5 % +3.5" in row  # what published models of this accuracy reach, and what is above it
    assert "published: ViT-B/32, WIT-400M (OpenAI)" in text


def test_probe_and_several_labels_stand_apart(run: Path) -> None:
    protocol = {"protocol": {}, "subset": None, "warnings": []}
    probe = EvaluationResult("toy", linear_probe.KIND, {"acc1": 0.875, "acc5": 1.0, "C": 0.316}, "ab", dict(protocol))
    details = {**protocol, "class_names": ["cat", "dog", "owl"], "average_precision": [0.5, None, 0.25]}
    metrics = {"mean_average_precision": 0.375, "images": 9.0, "classes": 3.0, "labels_per_image": 1.5}
    several = EvaluationResult("voc", multi_label.KIND, metrics, "cd", details)
    for result in (probe, several):
        write_result(run, result, None, "emoji", "last")
    text = Page(write_report(run).read_text()).text
    assert "Linear probe set top-1 top-5 C  toy 87.5 % 100.0 % 0.316" in text
    assert "voc 37.5 % 1.5 9 3" in text
    assert "owl 25.0 %  cat 50.0 %" in text
    assert "| voc | **37.5 %** | 1.5 | 9 | 3 |" in (run / "report.md").read_text()
    for file in ("toy.json", "toy_linear_probe.json", "val_retrieval.json"):
        (run / "results" / file).unlink()
    assert "mean average precision on voc" in Page(write_report(run).read_text()).text


def test_retrieval_shows_hits_and_misses(run: Path) -> None:
    samples = read_samples(run / "samples" / "val_retrieval.parquet")
    assert retrieval.shelves(samples) == {"Hits": [0, 1], "Misses": [9, 8, 7, 6, 5, 4]}
    text = Page(write_report(run).read_text()).text
    assert "its caption comes at place 9" in text


def test_markdown_is_a_summary_for_a_pull_request(run: Path) -> None:
    write_report(run)
    text = (run / "report.md").read_text()
    assert "## emoji: 50.0 % zero-shot top-1 on toy" in text
    assert "| toy | **50.0 %** | 18.8 % to 81.2 % |" in text
    assert "| val | text to image | 10.0 % | 50.0 % | 100.0 % | 3 | 10 |" in text
    assert "git checkout 0123abc  # with local changes\npython run.py seed=2\n```" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    heads = [i for i, line in enumerate(tables) if set(line) <= set("|-:")]
    for start, end in zip(heads, [*(h - 1 for h in heads[1:]), len(tables)], strict=True):
        assert {line.count("|") for line in tables[start - 1 : end]} == {tables[start].count("|")}


def test_clip_benchmark_builds_its_table_of_our_results(run: Path) -> None:
    from clip_benchmark.cli import main_build

    main_build(argparse.Namespace(files=[str(run / "results")], output=str(run / "benchmark.csv")))
    with (run / "benchmark.csv").open(newline="") as file:
        rows = {row["dataset"]: row for row in csv.DictReader(file)}
    assert rows["toy"]["acc1"] == "0.5"
    assert rows["toy"]["model_fullname"] == "emoji last"
    assert rows["toy"]["task"] == "zeroshot_classification"
    assert rows["val"]["image_retrieval_recall@5"] == "0.5"


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


@pytest.mark.parametrize("text", ["[", "a sentence", ""])
def test_a_damaged_config_is_left_out(run: Path, text: str) -> None:
    (run / "config.yaml").write_text(text)
    assert "<h1>" in write_report(run).read_text()


def test_a_line_that_a_kill_cut_is_left_out(run: Path) -> None:
    whole = write_report(run).read_bytes()
    with (run / "zeroshot" / "history.jsonl").open("a") as file:
        file.write('{"set": "toy", "st')
    assert write_report(run).read_bytes() == whole


def test_gallery_shelves() -> None:
    shelves = gallery_rows(classification().samples)
    assert shelves["Confidently right"] == [0, 1, 4]
    assert shelves["Confidently wrong"] == [3]
    assert shelves["Near misses"] == [2]


def test_confused_pairs_count_and_point_at_an_example_of_each() -> None:
    samples = {
        "label": [0, 0, 1, 2, 0],
        "rank": [1, 1, 0, 1, 0],
        "top5": [[1, 0], [1, 0], [1, 0], [3, 2], [0, 1]],
        "top5_probability": [[0.5, 0.1], [0.6, 0.1], [0.9, 0.1], [0.7, 0.1], [0.9, 0.0]],
    }
    assert confused_pairs(samples) == [
        (0, 1, 2, 0, 2),
        (2, 3, 1, 3, None),
    ]


def test_thumbnails_are_small_and_only_of_what_is_shown(run: Path) -> None:
    thumbnails: list[Any] = read_samples(run / "samples" / "toy.parquet")["thumbnail"]
    assert all(t is None or t.startswith(b"\x89PNG") for t in thumbnails)
    assert any(thumbnails)
