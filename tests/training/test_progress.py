"""Without a terminal a line tells each logged step and each evaluated set."""

import io
import re
import sys
from pathlib import Path

import pytest

from cliplab.text import duration
from cliplab.training.callbacks import Evaluate, ProgressBar, ProgressLines, progress_display

from .toys import ToyEvaluator, checkpoints, fit


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert isinstance(progress_display(10, 5), ProgressBar)
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert isinstance(progress_display(10, 5), ProgressLines)


def lines(text: str) -> list[str]:
    return [re.sub(r"[\d.]+ (s|min)\b", "TIME", line) for line in text.splitlines()]


def test_each_logged_step_and_each_set_has_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def callbacks() -> list[object]:
        evaluation = Evaluate()
        evaluation.prepare(
            evaluators=[ToyEvaluator()],  # type: ignore[list-item]
            tokenizer=None,  # type: ignore[arg-type]
            run_dir=tmp_path,
            steps_per_epoch=3,
            total_steps=6,
        )
        return [evaluation, ProgressLines(every_n_steps=2), checkpoints(tmp_path)]

    fit([1.0, 1.0, 1.0], callbacks(), epochs=2, enable_progress_bar=True)  # type: ignore[arg-type]
    said = lines(capsys.readouterr().out)
    assert said[0].startswith("after step 0: toy: ")
    assert re.fullmatch(r"step 2/6  epoch 1/2  loss 0\.\d+  TIME left", said[1])
    assert said[2].startswith("after step 3: toy: ")
    assert [line.split("  ")[:2] for line in said[3:] if line.startswith("step")] == [
        ["step 4/6", "epoch 2/2"],
        ["step 6/6", "epoch 2/2"],
    ]
    assert said[-1].endswith("the last")


def test_times_are_short_to_read() -> None:
    assert [duration(x) for x in (0.4, 89, 91, 3600, 11_100)] == ["0 s", "89 s", "2 min", "60 min", "3 h 05 min"]
