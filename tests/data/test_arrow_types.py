"""One type for a column that has several types in several files, and its values as that type."""

from typing import Any

import pyarrow
import pytest

from cliplab.data.tables.arrow_types import common_type, converted

STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
STRING, INT, FLOAT, BINARY = pyarrow.string(), pyarrow.int64(), pyarrow.float64(), pyarrow.binary()
TEXTS = pyarrow.list_(STRING)


@pytest.mark.parametrize(
    ("name", "kinds", "expected"),
    [
        ("caption", [STRING, STRING], STRING),
        ("caption", [pyarrow.null(), STRING], STRING),
        ("caption", [pyarrow.null()], STRING),
        ("caption", [INT, STRING], STRING),
        ("caption", [INT], STRING),
        ("score", [INT], INT),
        ("score", [pyarrow.int32(), INT], INT),
        ("score", [pyarrow.int32(), FLOAT], FLOAT),
        ("score", [INT, STRING], STRING),
        ("score", [pyarrow.bool_(), INT], STRING),
        ("caption", [pyarrow.large_string(), STRING], STRING),
        ("caption", [pyarrow.dictionary(pyarrow.int32(), STRING), STRING], STRING),
        ("caption", [TEXTS, STRING], TEXTS),
        ("caption", [TEXTS, INT, pyarrow.null()], TEXTS),
        ("caption", [pyarrow.large_list(STRING), TEXTS], TEXTS),
        ("image", [BINARY, STRUCT], STRUCT),
        ("image", [STRING, STRUCT], STRUCT),
        ("image", [pyarrow.large_binary(), BINARY], BINARY),
        ("size", [STRUCT, INT], None),
        ("size", [pyarrow.list_(STRUCT), STRING], None),
    ],
)
def test_one_type_for_a_column_of_several(name: str, kinds: list[Any], expected: Any) -> None:
    for given in (kinds, kinds[::-1]):
        assert common_type(name, given) == expected


@pytest.mark.parametrize(
    ("values", "kind", "to", "expected"),
    [
        ([5, None], INT, STRING, ["5", None]),
        (["a", None], STRING, TEXTS, [["a"], None]),
        ([1.5], FLOAT, TEXTS, [["1.5"]]),
        ([None, None], pyarrow.null(), STRING, [None, None]),
        ([b"x", None], BINARY, STRUCT, [{"bytes": b"x", "path": None}, None]),
        (["a.jpg"], STRING, STRUCT, [{"bytes": None, "path": "a.jpg"}]),
        ([1], pyarrow.int32(), FLOAT, [1.0]),
        (["a"], pyarrow.large_string(), STRING, ["a"]),
        ([True], pyarrow.bool_(), STRING, ["True"]),
    ],
)
def test_values_of_another_type(values: list[Any], kind: Any, to: Any, expected: list[Any]) -> None:
    found = converted(pyarrow.array(values, kind), to)
    assert (found.type, found.to_pylist()) == (to, expected)
