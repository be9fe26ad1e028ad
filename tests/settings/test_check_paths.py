"""A path of this machine that is not there is told at once; a name on a hub is left to the hub."""

from pathlib import Path

import pytest

from cliplab.settings.check_paths import check_there, is_local
from cliplab.settings.config import ConfigError


@pytest.mark.parametrize("name", ["/a", "./a", "~/a", "a/b/c", "pairs.csv", "data/pairs.jsonl", "cats.PNG", "x.tar.gz"])
def test_local_names(name: str) -> None:
    assert is_local(name)


@pytest.mark.parametrize("name", ["owner/name", "cifar10", "owner/name.v2", "s3://a/b/c", "package:a/b/c"])
def test_names_that_may_be_elsewhere(name: str) -> None:
    assert not is_local(name)


def test_what_is_not_there_or_empty_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^images: nopics.png is neither a folder nor a file; give one that is there"
    ):
        check_there("images", "nopics.png")
    with pytest.raises(ConfigError, match=r"^data.path: .* is an empty folder; give one with data in it"):
        check_there("data.path", str(tmp_path))
    (tmp_path / "a.csv").touch()
    check_there("data.path", str(tmp_path))
    check_there("data.path", "owner/name")
