"""A data set on a hub that does not answer is told by its key, before anything heavy is imported."""

from typing import Any

import pytest

from cliplab.models import hub
from cliplab.settings.check_hub import check_hub
from cliplab.settings.config import ConfigError

SOURCE = "cliplab.data.sources.caption_source"


def config(path: str, task: str = "train", zeroshot: str | None = None) -> dict[str, Any]:
    sets = {"imagenet": {"dataset": {"path": zeroshot}}} if zeroshot else {}
    return {"task": {"name": task}, "data": {"train": {"_target_": SOURCE, "path": path}}, "zeroshot": sets}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hub is silent; every question is noted."""
    questions: list[str] = []

    def silence() -> str:
        questions.append("?")
        return "https://hub cannot be reached: no network"

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub, "hub_silence", silence)
    return questions


@pytest.mark.parametrize(
    ("given", "key"),
    [
        (config("owner/name"), "data.path"),
        (config("owner/name", "prepare"), "data.path"),
        (config("/tmp", zeroshot="owner/set"), "zeroshot.imagenet.dataset.path"),
        (config("owner/name", "evaluate", "owner/set"), "zeroshot.imagenet.dataset.path"),
    ],
)
def test_a_silent_hub_is_told_with_the_key(given: dict[str, Any], key: str, asked: list[str]) -> None:
    told = rf"^{key}: owner/\w+ is on the Hugging Face hub, and https://hub cannot be reached: no network; .* {key}=<folder"
    with pytest.raises(ConfigError, match=told):
        check_hub(given, {"data.train.path": "data.path"})
    assert len(asked) == 1


@pytest.mark.parametrize(
    "given",
    [
        config("/tmp"),
        config("./a/b"),
        config("shards/{0..9}.tar"),
        config("owner/name", "report"),
        config("owner/name", "evaluate"),
    ],
)
def test_nobody_asks_for_what_lies_here_or_is_not_read(given: dict[str, Any], asked: list[str]) -> None:
    check_hub(given, {})
    assert not asked


def test_offline_nobody_asks(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    check_hub(config("owner/name"), {})
    assert not asked
