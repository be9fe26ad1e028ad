"""What a shell is told at TAB: words that begin so, without composing anything."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cliplab.cli.completion import SCRIPTS, answer, asked_of, candidates, split


@pytest.mark.parametrize(
    ("line", "some", "others"),
    [
        ("", ["experiment=", "trainer.", "seed="], ["trainer.max_epochs="]),
        ("task=", ["task=train", "task=runs"], []),
        ("optimizer=ad", ["optimizer=adamw"], ["optimizer=sgd"]),
        ("model/image_encoder=resnet_", ["model/image_encoder=resnet_tiny"], []),
        ("zeroshot=emoji,imagenet_v", ["zeroshot=emoji,imagenet_v2"], []),
        ("trainer.max_", ["trainer.max_epochs=", "trainer.max_steps="], ["trainer.devices="]),
        ("optimizer.", ["optimizer.lr=", "optimizer.weight_decay="], []),
        ("optimizer=sgd optimizer.mom", ["optimizer.momentum="], []),
        ("data.train.", ["data.train.caption_columns=", "data.train.filters.min_side="], []),
        ("callbacks=early_stopping callbacks.early_stopping.p", ["callbacks.early_stopping.patience="], []),
        ("+model.image_encoder.wid", ["+model.image_encoder.width="], []),
        ("compile=", ["compile=true", "compile=false"], []),
        ("--mu", ["--multirun"], []),
        ("resume=", ["resume=auto"], []),
        ("nothing.of.that", [], []),
    ],
)
def test_candidates(line: str, some: list[str], others: list[str]) -> None:
    *typed, word = line.split(" ")
    found = set(candidates(word, typed))
    assert set(some) <= found
    assert not set(others) & found
    assert all(text.startswith(word) for text in found)
    assert bool(found) == bool(some)


def test_files_are_offered_for_paths(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "rows.csv").touch()
    assert sorted(candidates(f"data.path={tmp_path}/r", [])) == [
        f"data.path={tmp_path}/{x}" for x in ("rows.csv", "runs/")
    ]


def test_bash_takes_what_follows_the_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "python run.py optimizer=adamw_")
    assert answer("query", "bash") == "adamw_resnet\n"
    assert answer("query", "zsh") == answer("query", "fish") == "optimizer=adamw_resnet\n"
    with pytest.raises(ValueError, match="bash, zsh and fish"):
        answer("install", "tcsh")
    assert asked_of(["-sc", "install=zsh"]) == asked_of(["--shell-completion=install=zsh"]) == ("install", "zsh")
    assert asked_of(["seed=1"]) is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ["", ""]),
        ("a  b ", ["a", "b", "", ""]),
        ("a 'b c", ["a", "b c", "'"]),
        ("a \"b=[c,'d'\" e", ["a", "b=[c,'d'", "e", ""]),
        (r"a b\ c", ["a", "b c", ""]),
        ("a 'b'", ["a", "b", "''"]),
    ],
)
def test_words_of_a_line_that_is_being_typed(line: str, words: list[str]) -> None:
    assert split(line) == words


def test_quotes_and_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my runs").mkdir()
    whole = f"run={tmp_path}/my runs/\n"
    for typed in (f"'run={tmp_path}/my r", f'"run={tmp_path}/m', f'"run={tmp_path}/my runs"'):
        monkeypatch.setenv("COMP_LINE", f"python run.py {typed}")
        assert [answer("query", shell) for shell in SCRIPTS] == [whole] * 3
    monkeypatch.setenv("COMP_LINE", f"python run.py run={tmp_path}/my\\ r")
    assert answer("query", "bash") == f"{tmp_path}/my\\ runs/\n", "bash escapes nothing itself"
    assert answer("query", "zsh") == whole


def test_bash_completes_the_command() -> None:
    """In a real shell, from the script that it is given; nothing heavy is imported for it."""
    program = f"{sys.executable} {Path(__file__).parents[2] / 'run.py'}"
    words = (
        f"COMP_WORDS=({program} model/text_encoder=clip_text_s); COMP_LINE='{program} model/text_encoder=clip_text_s'"
    )
    script = f"{SCRIPTS['bash']}\n{words}; COMP_POINT=${{#COMP_LINE}}; _cliplab_complete; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "clip_text_small"


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize("word", ["zeroshot=emoji,imagenet_v", '"zeroshot=emoji,imagenet_v'])
def test_fish_completes_the_command(word: str) -> None:
    line = f"python {Path(__file__).parents[2] / 'run.py'} {word}"
    script = f"{SCRIPTS['fish']}\ncomplete -C{shlex.quote(line)}"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PATH": path},
    )
    assert done.stdout.strip() == "zeroshot=emoji,imagenet_v2"
