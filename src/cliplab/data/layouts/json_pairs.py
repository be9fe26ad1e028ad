"""JSON: a record a line, a list of records, COCO's and Karpathy's files of captions."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pyarrow

from cliplab.data.tables.columns import from_json
from cliplab.data.tables.json_records import read_json
from cliplab.data.tables.reader import ReadTable, TableReader


class JsonReader(TableReader):
    """A row for each record. Of a document with several lists ``records`` names the one, as ``data.pairs``."""

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
        super().__init__(files, root, image_root=image_root, said=(encoding, records))
        self.encoding, self.records = encoding, records

    def read(self, file: Path) -> ReadTable:
        found = list(read_json(file, encoding=self.encoding, records=self.records))
        columns = dict.fromkeys(name for _, values in found for name in values)
        arrays = {name: from_json(name, [values.get(name) for _, values in found]) for name in columns}
        return ReadTable(pyarrow.table(arrays), [place for place, _ in found])


READER = JsonReader
