"""Tables of pairs in the dialects that people write: every one gives the same pictures and captions."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cliplab.data.layouts.delimited import DelimitedReader
from cliplab.data.layouts.json_pairs import JsonReader
from cliplab.data.tables.delimited import dialect_of, read_delimited

PAIRS = [("0.jpg", "a dog"), ("1.jpg", "two cats, asleep"), ("2.jpg", "café")]


def reader_of(file: Path, data: str | bytes, **options: Any) -> Any:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    kind = JsonReader if ".json" in file.name else DelimitedReader
    return kind([str(file)], file.parent, **options)


def columns_of(reader: Any) -> dict[str, list[Any]]:
    data = reader.dataset("train")
    rows = [row.values for part in range(len(reader.parts)) for row in reader.rows(part)]
    assert rows == list(data), "streamed and by row"
    return {name: data[name][:] for name in data.column_names}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image,caption\n0.jpg,a dog\n", {"image": ["0.jpg"], "caption": ["a dog"]}),
        ("filepath\ttitle\n0.jpg\ta dog, asleep\n", {"filepath": ["0.jpg"], "title": ["a dog, asleep"]}),
        ("Filepath;TITLE\n0.jpg;a dog, asleep\n", {"Filepath": ["0.jpg"], "TITLE": ["a dog, asleep"]}),
        (
            "image|caption\n0.jpg|a dog, asleep; dreaming\n",
            {"image": ["0.jpg"], "caption": ["a dog, asleep; dreaming"]},
        ),
        (
            "image_name| comment_number| comment\n0.jpg| 0| A dog , asleep .\n",
            {"image_name": ["0.jpg"], "comment_number": [0], "comment": ["A dog , asleep ."]},
        ),
        ('image,caption\r\n0.jpg,"a dog, asleep"\r\n', {"image": ["0.jpg"], "caption": ["a dog, asleep"]}),
        ("image,caption\r0.jpg,a dog\r1.jpg,a cat\r", {"image": ["0.jpg", "1.jpg"], "caption": ["a dog", "a cat"]}),
        ('image,caption\n0.jpg,"a dog\nasleep"\n', {"image": ["0.jpg"], "caption": ["a dog\nasleep"]}),
        (
            'image,caption\n0.jpg,"a dog\nsaid to be, asleep"\n',
            {"image": ["0.jpg"], "caption": ["a dog\nsaid to be, asleep"]},
        ),
        ('image,caption\n0.jpg,"a ""good"" dog"\n', {"image": ["0.jpg"], "caption": ['a "good" dog']}),
        ('image, caption\n0.jpg, "a dog, asleep"\n', {"image": ["0.jpg"], "caption": ["a dog, asleep"]}),
        ("image,caption\n0.jpg,a dog, asleep\n", {"image": ["0.jpg"], "caption": ["a dog, asleep"]}),
        ("caption,image\na dog, asleep,0.jpg\n", {"caption": ["a dog, asleep"], "image": ["0.jpg"]}),
        ("sep=;\nimage;caption\n0.jpg;a dog\n", {"image": ["0.jpg"], "caption": ["a dog"]}),
        ("\nimage,caption\n\n0.jpg,a dog\n\n", {"image": ["0.jpg"], "caption": ["a dog"]}),
        ("image,caption\n0.jpg,a dog", {"image": ["0.jpg"], "caption": ["a dog"]}),
        (",image,caption\n0,0.jpg,a dog\n", {"column_0": [0], "image": ["0.jpg"], "caption": ["a dog"]}),
        ("caption,caption,image\na,b,0.jpg\n", {"caption": ["a"], "caption_1": ["b"], "image": ["0.jpg"]}),
        # quotes that are none
        (
            'image\tcaption\n0.jpg\t"a dog\n1.jpg\ta cat"\n',
            {"image": ["0.jpg", "1.jpg"], "caption": ['"a dog', 'a cat"']},
        ),
        ('image\tcaption\n0.jpg\t6" tall\n1.jpg\tb\n', {"image": ["0.jpg", "1.jpg"], "caption": ['6" tall', "b"]}),
        ('image,caption\n0.jpg,"a\n', {"image": ["0.jpg"], "caption": ['"a']}),
        # no header
        ("0.jpg,a dog\n1.png,a cat\n", {"image": ["0.jpg", "1.png"], "caption": ["a dog", "a cat"]}),
        ("a dog, asleep\tx/0.JPG\n", {"caption": ["a dog, asleep"], "image": ["x/0.JPG"]}),
        ("0.jpg,a dog, asleep\n1.jpg,a cat\n2.jpg,b\n", {"image": ["0.jpg", "1.jpg", "2.jpg"], "caption": None}),
        ("7;0.jpg;a long dog\n8;1.jpg;a cat\n", {"column_0": [7, 8], "image": ["0.jpg", "1.jpg"], "caption": None}),
        # text that other readers take for nothing, and numbers
        (
            "image,caption,score\n007.jpg,None,0.5\n1.jpg,NA,\n2.jpg,nan,1\n3.jpg,null,2\n4.jpg,42,3\n5.jpg,007,4\n",
            {
                "image": ["007.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg"],
                "caption": ["None", "NA", "nan", "null", "42", "007"],
                "score": [0.5, None, 1.0, 2.0, 3.0, 4.0],
            },
        ),
        (
            "image,caption,ok\n0.jpg,a,True\n1.jpg,b,\n2.jpg,c,FALSE\n",
            {"caption": ["a", "b", "c"], "ok": [True, None, False]},
        ),
        ("image,caption,id\n0.jpg,1.50,007\n1.jpg,TRUE,8\n", {"caption": ["1.50", "TRUE"], "id": ["007", "8"]}),
        ("image,caption\n0.jpg,\n1.jpg\n2.jpg,b\n", {"image": ["0.jpg", "1.jpg", "2.jpg"], "caption": ["", None, "b"]}),
    ],
)
def test_dialects_of_delimited_text(text: str, expected: Mapping[str, Any], tmp_path: Path) -> None:
    found = columns_of(reader_of(tmp_path / "pairs.csv", text))
    assert {name: found[name] for name, values in expected.items() if values is not None} == {
        name: values for name, values in expected.items() if values is not None
    }
    assert set(found) >= set(expected)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1"]
)
@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv", "pairs.csv.gz"])
def test_encodings(encoding: str, name: str, tmp_path: Path) -> None:
    separator = "\t" if "tsv" in name else ";"
    text = "\r\n".join(separator.join(cells) for cells in [("image", "caption"), *PAIRS] * 1)
    data = text.encode(encoding)
    found = columns_of(reader_of(tmp_path / name, gzip.compress(data) if name.endswith("gz") else data))
    assert found == {"image": [image for image, _ in PAIRS], "caption": [caption for _, caption in PAIRS]}


def test_lines_of_several_encodings_in_one_file(tmp_path: Path) -> None:
    data = "image,caption\n0.jpg,café\n".encode() + "1.jpg,café “x”\n".encode("cp1252")
    assert columns_of(reader_of(tmp_path / "pairs.csv", data))["caption"] == ["café", "café “x”"]


def test_what_is_said_is_not_guessed(tmp_path: Path) -> None:
    text = "0.jpg~犬".encode("shift_jis")
    reader = reader_of(tmp_path / "pairs.csv", text, separator="~", encoding="shift_jis", header=False)
    assert columns_of(reader) == {"image": ["0.jpg"], "caption": ["犬"]}
    assert dialect_of(["a.jpg,b"], header=True).columns == ["a.jpg", "b"]
    assert columns_of(reader_of(tmp_path / "b.csv", "a\tb,c\nd\te,f", separator="tab")) == {"a": ["d"], "b,c": ["e,f"]}


def test_quotes_after_a_backslash_and_comments(tmp_path: Path) -> None:
    text = '# made by hand\n# image,caption\n0.jpg,"a \\"red\\" car, new"\n1.jpg,"b"\n'
    reader = reader_of(tmp_path / "a.csv", text)
    assert columns_of(reader) == {"image": ["0.jpg", "1.jpg"], "caption": ['a "red" car, new', "b"]}
    assert reader.place(1) == "a.csv line 4"
    plain = reader_of(tmp_path / "b.csv", 'image,caption\n0.jpg,"a ""red"" car"\n1.jpg,"C:\\"\n')
    assert columns_of(plain)["caption"] == ['a "red" car', "C:\\"], "a backslash is a character like others"
    tags = reader_of(tmp_path / "c.csv", "#love,0.jpg\n#hate,1.jpg\n")
    assert columns_of(tags) == {"caption": ["#love", "#hate"], "image": ["0.jpg", "1.jpg"]}


def test_rows_are_found_again_by_their_lines(tmp_path: Path) -> None:
    text = 'image,caption\n0.jpg,"one\ntwo"\n\n1.jpg,b\n'
    reader = reader_of(tmp_path / "pairs.csv", text)
    assert [reader.place(k) for k in range(2)] == ["pairs.csv line 2", "pairs.csv line 5"]
    assert [row.place for row in reader.rows(0, 1)] == ["pairs.csv line 5"]
    (tmp_path / "more").mkdir()
    other = tmp_path / "more" / "b.csv"
    other.write_text("Image;Caption;Extra\n2.jpg;c;1\n")
    both = DelimitedReader([str(tmp_path / "pairs.csv"), str(other)], tmp_path)
    assert both.place(2) == "more/b.csv line 2"
    found = columns_of(both)
    assert found["caption"] == ["one\ntwo", "b", "c"]
    assert found["Extra"] == [None, None, 1]


RECORDS = [{"image": "0.jpg", "caption": "a"}, {"image": "1.jpg", "caption": "b"}]
COCO = {
    "info": {},
    "images": [{"id": 7, "file_name": "0.jpg"}, {"id": 8, "file_name": "1.jpg"}],
    "annotations": [{"image_id": 8, "caption": "b"}, {"image_id": 7, "caption": "a"}, {"image_id": 7, "caption": "c"}],
}
KARPATHY = {
    "dataset": "x",
    "images": [
        {
            "filepath": "val",
            "filename": "0.jpg",
            "split": "train",
            "sentences": [{"raw": "a"}, {"raw": "b"}],
            "imgid": 0,
        },
        {"filename": "1.jpg", "split": "test", "sentences": [{"raw": "c", "tokens": ["c"]}], "imgid": 1},
    ],
}
PLAIN = {"image": ["0.jpg", "1.jpg"], "caption": ["a", "b"]}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (RECORDS, PLAIN),
        ([["0.jpg", "a"], ["1.jpg", "b"]], PLAIN),
        ([["a", "0.jpg"], ["b", "1.jpg"]], PLAIN),
        ({"data": RECORDS}, PLAIN),
        ({"version": 1, "annotations": RECORDS}, PLAIN),
        ({"0.jpg": "a", "1.jpg": "b"}, PLAIN),
        ({"0.jpg": ["a", "c"], "1.jpg": "b"}, {**PLAIN, "caption": [["a", "c"], ["b"]]}),
        ({"0.jpg": {"caption": "a"}, "1.jpg": {"caption": "b"}}, PLAIN),
        ({"image": ["0.jpg", "1.jpg"], "caption": ["a", "b"]}, PLAIN),
        ({"image": {"0": "0.jpg", "1": "1.jpg"}, "caption": {"0": "a", "1": "b"}}, PLAIN),
        (COCO, {**PLAIN, "caption": [["a", "c"], ["b"]], "id": [7, 8]}),
        (KARPATHY, {"image": ["val/0.jpg", "1.jpg"], "caption": [["a", "b"], ["c"]], "split": ["train", "test"]}),
        ([{"image": {"path": "0.jpg"}, "caption": 5}], {"image": ["0.jpg"], "caption": ["5"]}),
        ([{"image": "0.jpg", "caption": float("nan")}, RECORDS[1]], {**PLAIN, "caption": [None, "b"]}),
        ([{"image": "0.jpg", "caption": ["a", float("nan")]}, RECORDS[1]], {**PLAIN, "caption": [["a"], ["b"]]}),
        ([{"image": "0.jpg", "caption": None}, {"image": "1.jpg"}], {"image": ["0.jpg", "1.jpg"]}),
        (
            [{"image": "0.jpg", "caption": "a", "n": 1}, {"image": "1.jpg", "caption": 2.5, "n": "x"}],
            {"image": ["0.jpg", "1.jpg"], "caption": ["a", "2.5"], "n": ["1", "x"]},
        ),
        (
            [{"image": "0.jpg", "talk": [{"value": "a"}], "caption": ["a", "b"]}],
            {"talk": ['[{"value": "a"}]'], "caption": [["a", "b"]]},
        ),
    ],
)
def test_shapes_of_json(document: Any, expected: Mapping[str, Any], tmp_path: Path) -> None:
    found = columns_of(reader_of(tmp_path / "pairs.json", json.dumps(document)))
    assert {name: found[name] for name in expected} == expected


def test_json_by_line(tmp_path: Path) -> None:
    lines = "\ufeff" + "\r\n".join(json.dumps(record) for record in RECORDS) + "\n\n{cut\n"
    for name in ("pairs.jsonl", "pairs.json"):
        reader = reader_of(tmp_path / name, lines)
        assert columns_of(reader) == {"image": ["0.jpg", "1.jpg", None], "caption": ["a", "b", None]}
        assert [reader.place(k) for k in range(3)] == [f"{name} line {n}" for n in (1, 2, 4)]
    utf16 = json.dumps(RECORDS, ensure_ascii=False).encode("utf-16")
    assert columns_of(reader_of(tmp_path / "sixteen.json", utf16)) == PLAIN
    assert reader_of(tmp_path / "coco.json", json.dumps(COCO)).place(1) == "coco.json image 8"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.csv",
            "filepath~title\n0.jpg~a\n",
            r"a.csv: line 1: a single column, 'filepath~title', .*data.train.reader=\{separator: …\}",
        ),
        ("a.csv", "image,caption\n", r"there are no rows in a.csv"),
        ("a.csv", "", r"there are no rows in a.csv"),
        ("a.json", "{cut", r"a.json: it is not JSON: Expecting property name .*line 1 column 2"),
        ("a.jsonl", "<html>\n</html>\n", r"a.jsonl: line 1 is not JSON: Expecting value"),
        ("a.json", '"x"', r"a.json: it is a single str, not records"),
        (
            "a.json",
            json.dumps({"a": RECORDS, "b": RECORDS}),
            r"keys a, b, .*name it: data.train.reader=\{records: <key>\}",
        ),
        (
            "a.json",
            json.dumps({**COCO, "annotations": [{"image_id": 7, "bbox": []}]}),
            r"have image_id, bbox but no cap",
        ),
        ("a.json", "[]", r"there are no rows in a.json"),
    ],
)
def test_errors_name_the_file_the_line_and_the_option(name: str, data: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        reader_of(tmp_path / name, data).dataset("train")


def test_options_that_are_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data.train.reader.separator ',;' must be one character, or tab"):
        reader_of(tmp_path / "a.csv", "", separator=",;")
    with pytest.raises(ValueError, match=r"data.train.reader.image_root: /nowhere is not a folder"):
        reader_of(tmp_path / "a.csv", "", image_root="/nowhere")
    with pytest.raises(ValueError, match=r"a.csv: unknown encoding: klingon"):
        reader_of(tmp_path / "a.csv", "image,caption\n", encoding="klingon").dataset("train")
    with pytest.raises(ValueError, match=r"records 'pairs': no key 'pairs' among a, b"):
        reader_of(tmp_path / "a.json", '{"a": 1, "b": 2}', records="pairs").dataset("train")
    assert len(reader_of(tmp_path / "b.json", json.dumps({"a": {"b": RECORDS}}), records="a.b").dataset("train")) == 2


def test_where_relative_paths_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, inner, here = tmp_path / "set", tmp_path / "set" / "inner", tmp_path / "here"
    for folder in (inner / "images", here, tmp_path / "other"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    table = inner / "a.csv"
    table.write_text("image,caption\n0.jpg,a\n/x/1.jpg,b\n")

    def begins(**options: str) -> list[str]:
        return DelimitedReader([str(table)], root, **options).dataset("train")["image"][:]

    assert begins() == [f"{inner}/0.jpg", "/x/1.jpg"], "beside the table, where it is found nowhere"
    places = (here, inner / "images", inner)
    for place in places:
        (place / "0.jpg").write_bytes(b"")
        assert begins() == [f"{place}/0.jpg", "/x/1.jpg"]
    (root / "0.jpg").write_bytes(b"")
    assert begins() == ["0.jpg", "/x/1.jpg"], "below data.path, as they are"
    assert begins(image_root=str(tmp_path / "other")) == [f"{tmp_path}/other/0.jpg", "/x/1.jpg"]
    table.write_text("image,caption\nimages\\0.jpg,a\n")
    assert begins() == [f"{inner}/images/0.jpg"]


def test_the_fingerprint_follows_content_and_options(tmp_path: Path) -> None:
    def of(place: str, text: str, **options: Any) -> str:
        return reader_of(tmp_path / place / "a.csv", text, **options).fingerprint

    text = "image,caption\n0.jpg,a\n"
    assert of("a", text) == of("b", text)
    assert len({of("a", text), of("c", text.replace(",a", ",b")), of("d", text, header=False)}) == 3


def test_a_cell_of_many_lines_ends_somewhere(tmp_path: Path) -> None:
    text = "image\tcaption\n" + '0.jpg\t"open\n' + "".join(f"{k}.jpg\tnumber {k}\n" for k in range(1, 1000))
    (tmp_path / "a.tsv").write_text(text)
    rows = list(read_delimited(tmp_path / "a.tsv").rows)
    assert len(rows) == 1000
    assert rows[0] == (2, ["0.jpg", '"open'])
