"""A table of runs in a file, in the form that its extension names."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from cliplab.files import whole_file
from cliplab.settings.config import ConfigError

Columns = Mapping[str, Sequence[Any]]


def _rows(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _csv(columns: Columns, file: IO[Any]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))


def _json(columns: Columns, file: IO[Any]) -> None:
    json.dump(_rows(columns), file, indent=1, ensure_ascii=False)


def _jsonl(columns: Columns, file: IO[Any]) -> None:
    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(columns))


def _parquet(columns: Columns, file: IO[Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), file)


FORMS: Mapping[str, Callable[[Columns, IO[Any]], None]] = {
    ".csv": _csv,
    ".json": _json,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}


def form_of(key: str, path: Path) -> str:
    """The extension of the file. Raises ConfigError for one in which no table is written, and for a folder."""
    form = path.suffix.lower()
    if form not in FORMS:
        raise ConfigError(f"{key}: {path} names no form of a table; it ends with {', '.join(FORMS)}")
    if path.is_dir():
        raise ConfigError(f"{key}: {path} is a folder; name a file in it, as {path / 'runs.csv'}")
    return form


def write_table(path: Path, columns: Columns) -> Path:
    """Write columns of equal length. Raises ConfigError as ``form_of``."""
    form = form_of("out", path)
    options: dict[str, Any] = {"mode": "wb"} if form == ".parquet" else {"newline": ""}
    with whole_file(path, **options) as file:
        FORMS[form](columns, file)
    return path
