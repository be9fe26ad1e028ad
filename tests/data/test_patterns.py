"""Files named by ranges, lists and patterns, as open_clip and webdataset take them."""

from pathlib import Path

import pytest

from cliplab.data.patterns import common_folder, expand_braces, is_pattern, matching_files


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{0..2}.tar", ["0.tar", "1.tar", "2.tar"]),
        ("x-{08..11}", ["x-08", "x-09", "x-10", "x-11"]),
        ("{2..0}", ["2", "1", "0"]),
        ("{0..4..2}", ["0", "2", "4"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("{a,b{0..1}}", ["a", "b0", "b1"]),
        ("{a,}x", ["ax", "x"]),
        ("{a}", ["{a}"]),
        ("{a", ["{a"]),
        ("{x}{0..1}", ["{x}0", "{x}1"]),
        ("a..b", ["a..b"]),
    ],
)
def test_braces(text: str, names: list[str]) -> None:
    assert expand_braces(text) == names


@pytest.mark.parametrize(
    "path", ["a*.tar", "a?.tar", "[ab].tar", "{0..1}.tar", "a.tar::b.tar", "**/x.tar", "s3://b/a.tar", "pipe:cat x"]
)
def test_what_is_a_pattern(path: str) -> None:
    assert is_pattern(path)


@pytest.mark.parametrize("path", ["a.tar", "owner/name", "/a b/c=d", "{a}", "~/x"])
def test_what_is_none(path: str) -> None:
    assert not is_pattern(path)


def test_files_that_match(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("0.tar", "1.tar", "2.tar", "[x]/3.tar", "{y}.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    def names(pattern: str, folder: Path | None = tmp_path) -> list[str]:
        return [str(Path(file).relative_to(tmp_path)) for file in matching_files(pattern, folder)]

    assert names("{0..2}.tar") == ["0.tar", "1.tar", "2.tar"]
    assert names("[12].tar::0.tar::1.tar") == ["1.tar", "2.tar", "0.tar"]
    assert names("**/*.tar") == sorted(["0.tar", "1.tar", "2.tar", "[x]/3.tar", "{y}.tar"])
    assert names("*", tmp_path / "[x]") == ["[x]/3.tar"], "the folder's own name is no pattern"
    assert names("{y}.tar") == ["{y}.tar"]
    assert names(f"{tmp_path}/{{0..1}}.tar", None) == ["0.tar", "1.tar"]
    assert names("{0..9}*.tar") == ["0.tar", "1.tar", "2.tar"], "a pattern takes those there are"
    assert names("[x]::0.tar") == ["[x]/3.tar", "0.tar"], "a folder is all that is in it"
    monkeypatch.chdir(tmp_path)
    assert matching_files("?.tar") == ["0.tar", "1.tar", "2.tar"]
    assert common_folder(["0.tar", "[x]/3.tar"]) == tmp_path
    with pytest.raises(
        ValueError, match=r"2 of the 5 files of '{0..4}.tar' are missing, such as 3.tar, 4.tar; a pattern"
    ):
        matching_files("{0..4}.tar")
    with pytest.raises(ValueError, match=r"no file matches 'z\*.tar'"):
        matching_files("0.tar::z*.tar")
    with pytest.raises(ValueError, match=r"pipe:aws s3 cp x -: commands are not run; fetch the files"):
        matching_files("pipe:aws s3 cp x -")
    with pytest.raises(ValueError, match=r"s3://b/\{0..1\}.tar: files are not read from addresses; fetch them"):
        matching_files("s3://b/{0..1}.tar")
