"""What a setting needs to reach a value: worked out by hand on logarithmic axes, with runs that never get there."""

import json
from pathlib import Path

import pytest

from cliplab.reporting.sweep.jobs import Metric, Setting
from cliplab.reporting.sweep.pace import Pace, Point, common_level, needed, reached, section, sentences
from cliplab.runs.pace import paces_of, points_of

FAST = [Point(0, 0, 0.0), Point(100, 10, 0.2), Point(1000, 100, 0.6)]
SLOW = [Point(0, 0, 0.0), Point(100, 20, 0.0), Point(1000, 200, 0.2), Point(10_000, 2000, 0.6)]
NEVER = [Point(0, 0, 0.0), Point(100, 10, 0.1), Point(1000, 100, 0.3)]


def test_a_value_is_reached_between_two_evaluations() -> None:
    """Half of the way in the figure is half of the way in the logarithm of images, 316 of them."""
    point = reached(FAST, 0.4)
    assert point is not None
    assert point.images == pytest.approx(100 * 10**0.5)
    assert point.seconds == pytest.approx(10 + 90 * (100 * 10**0.5 - 100) / 900)
    assert reached(FAST, 0.2) == FAST[1]
    assert reached(NEVER, 0.4) is None
    assert reached(FAST, 0.1) == FAST[1]  # from no images there is no logarithm


def test_a_slower_setting_needs_ten_times_the_images() -> None:
    fast, slow, never = Pace("fast", [FAST, FAST]), Pace("slow", [SLOW]), Pace("never", [NEVER, FAST])
    assert needed(slow, 0.4)[0] == pytest.approx(10 * needed(fast, 0.4)[0])  # type: ignore[index]
    assert needed(never, 0.4) is None
    assert sentences([slow, fast], 0.4) == ["fast reaches 40.0% with 316 images: 1/10 of those of slow."]
    assert common_level([fast, slow, never]) == 0.3
    assert [text[:26] for text in sentences([fast, slow, never], 0.4)] == [
        "fast reaches 40.0% with 31",
        "fast reaches 30.0% with 17",
    ]


def test_the_section_shows_both_axes_and_who_never_gets_there() -> None:
    shown = section([Pace("fast", [FAST, FAST]), Pace("never", [NEVER])], 0.4, "acc1", ["a note"])
    assert ["images seen" in svg for svg in shown["plots"]] == [True, False]
    assert "not reached (best 30.0%)" in [cell.text for row in shown["table"].rows for cell in row.cells]
    assert shown["notes"] == ["a note"]
    assert section([Pace("fast", [FAST])], None, "acc1", []) == {}
    assert section([Pace("fast", [FAST[:2]])], 0.4, "acc1", []) == {}


def test_a_label_has_the_keys_that_tell_settings_apart() -> None:
    """A text tower that follows the objective tells nothing more; where two settings share an objective, it does."""

    def labels(*values: tuple[str, str]) -> list[str]:
        settings = [Setting("whole", {"objective": one, "model/text_encoder": other}, [], []) for one, other in values]
        return [pace.label for pace in paces_of(settings, Metric("acc1"))]

    assert labels(("caption", ""), ("words", "bag")) == ["objective=caption", "objective=words"]
    assert labels(("caption", ""), ("caption", "bag")) == ["whole", "whole"]


def test_seconds_are_those_of_training(tmp_path: Path) -> None:
    """Ten steps of 8 images at 4 images/s take 20 s, the next ten at 8 images/s another 10 s."""
    (tmp_path / "zeroshot").mkdir()
    lines = [
        {"set": "a", "task": "zeroshot_classification", "step": step, "samples_seen": 8 * step}
        for step in (0, 5, 20, 24)
    ]
    for line in lines:
        line["metrics"] = {"acc1": line["step"] / 100, "acc5": 1.0}
    (tmp_path / "zeroshot" / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "metrics.csv").write_text("step,train/images_per_second\n10,4\n20,8\n")
    points = points_of(tmp_path, Metric("zeroshot/a/acc1"))
    assert [p.images for p in points] == [0, 40, 160, 192]
    assert [p.seconds for p in points] == pytest.approx([0, 10, 30, 34])
    assert [p.value for p in points] == [0, 0.05, 0.2, 0.24]
    assert points_of(tmp_path, Metric("zeroshot/b/acc1")) == []
