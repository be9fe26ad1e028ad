"""A file is whole or not there."""

from pathlib import Path

import pytest

from cliplab.files import whole_file


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    with whole_file(target) as file:
        file.write("höher")
        assert not target.exists()
    assert target.read_bytes() == "höher".encode()
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(TypeError), whole_file(target, "wb") as file:
        file.write("no bytes")
    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
