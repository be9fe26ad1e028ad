"""JSON: one record a line, a list of records, and the caption files of COCO and Karpathy."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pyarrow

from cliplab.data.tables.columns import from_json
from cliplab.data.tables.json_records import read_json
from cliplab.data.tables.reader import ReadTable, TableReader


class JsonReader(TableReader):
    """Rows of JSON, one for each record. ``records``, such as ``data.pairs``, names the list in a document with several."""

    suffixes: ClassVar[Sequence[str]] = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".json.gz")
    precedence: ClassVar[int] = 50

    def __init__(
        self,
        files: Sequence[str],
        root: Path,
        *,
        image_root: str | None = None,
        encoding: str | None = None,
        records: str | None = None,
    ) -> None:
        super().__init__(files, root, image_root=image_root, options=(encoding, records))
        self.encoding, self.records = encoding, records

    def read(self, file: Path) -> ReadTable:
        found = list(read_json(file, encoding=self.encoding, records=self.records))
        columns = dict.fromkeys(name for _, values in found for name in values)
        arrays = {name: from_json(name, [values.get(name) for _, values in found]) for name in columns}
        return ReadTable(pyarrow.table(arrays), [place for place, _ in found])


READER = JsonReader
