"""Opening Hugging Face data sets, local or from the hub, with errors that say what to do."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets

SCRIPTS = "it needs a loading script, which the datasets library no longer runs; use a Parquet or webdataset copy"


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Hide the bars of small local work."""
    shown = not datasets.utils.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            datasets.enable_progress_bars()


class UnreachableData(ValueError):
    """The data set cannot be opened."""


def _local_builder(path: Path, split: str) -> tuple[str, dict[str, Any]]:
    """Which reader fits a local folder or file."""
    if path.is_file():
        files = [path]
    else:
        files = sorted(p for p in path.rglob("*") if p.suffix in (".parquet", ".tar", ".arrow", ".csv"))
    for suffix, builder in ((".parquet", "parquet"), (".tar", "webdataset"), (".arrow", "arrow"), (".csv", "csv")):
        matching = [str(p) for p in files if p.suffix == suffix and p.name != "metadata.csv"]
        if matching:
            of_split = [f for f in matching if split in str(Path(f).relative_to(path) if path.is_dir() else f)]
            return builder, {"data_files": {split: of_split or matching}}
    return "imagefolder", {"data_dir": str(path), "drop_labels": None}


def open_dataset(
    *,
    path: str,
    split: str,
    name: str | None = None,
    revision: str | None = None,
    data_files: str | Sequence[str] | None = None,
    streaming: bool = False,
) -> Any:
    """A ``datasets.Dataset`` (or its streaming twin) from a hub id, a builder name, or a local folder or file.

    A local folder is read as what it holds: ``save_to_disk`` output, Parquet, webdataset tars, Arrow, CSV, or a folder of
    images (``metadata.jsonl`` or class folders). Raises UnreachableData with the ways out.
    """
    local = Path(path).expanduser()
    extra: dict[str, Any] = {"name": name, "revision": revision}
    try:
        if (local / "dataset_info.json").is_file():
            return datasets.load_from_disk(str(local))
        if (local / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(local))[split]
        if local.exists():
            builder, arguments = _local_builder(local, split)
            if data_files is not None:
                chosen = [data_files] if isinstance(data_files, str) else list(data_files)
                arguments = {"data_files": {split: [str(local / f) for f in chosen]}}
            return datasets.load_dataset(builder, split=split, streaming=streaming, **arguments)
        if data_files is not None:
            extra["data_files"] = data_files if isinstance(data_files, str) else list(data_files)
        return datasets.load_dataset(path, split=split, streaming=streaming, **extra)
    except Exception as error:
        reason = (
            SCRIPTS
            if "script" in str(error).lower()
            else f"{type(error).__name__}: {str(error).splitlines()[0].rstrip('.')}"
        )
        raise UnreachableData(f"data set {path!r} (split {split!r}) cannot be opened: {reason}") from error


def first_present(columns: Sequence[str], wanted: Sequence[str], what: str, where: str) -> str:
    """The first of ``wanted`` that is a column. Raises ValueError listing the columns found."""
    for column in wanted:
        if column in columns:
            return column
    hint = ""
    if what == "image" and any("url" in c.lower() for c in columns):
        hint = (
            "; it holds addresses, not pictures: fetch them with img2dataset and use data=webdataset data.path=<folder>"
        )
    raise ValueError(f"{where}: no {what} column among {', '.join(columns)}; looked for {', '.join(wanted)}{hint}")
