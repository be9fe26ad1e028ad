"""Opening Hugging Face data sets, local or from the hub, with errors that say what to do."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from cliplab.data.parquet import stream_parquet

SCRIPTS = "it needs a loading script, which the datasets library no longer runs; use a Parquet or webdataset copy"

SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval")


BUILDERS = {".parquet": "parquet", ".tar": "webdataset", ".arrow": "arrow", ".csv": "csv", ".tsv": "csv"}


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


def _local_builder(path: Path, split: str, data_files: str | Sequence[str] | None) -> tuple[str, dict[str, Any]]:
    """Which reader fits a local folder or file, and its arguments."""
    if data_files is not None:
        chosen = [data_files] if isinstance(data_files, str) else list(data_files)
        files = sorted(p for f in chosen for p in (path.glob(f) if "*" in f else [path / f]))
    elif path.is_file():
        files = [path]
    else:
        files = sorted(p for p in path.rglob("*") if p.suffix in BUILDERS)
    for suffix, builder in BUILDERS.items():
        matching = [str(p) for p in files if p.suffix == suffix and (p.name != "metadata.csv" or data_files)]
        if matching:
            of_split = [f for f in matching if split in str(Path(f).relative_to(path) if path.is_dir() else f)]
            tabs = {"sep": "\t"} if suffix == ".tsv" else {}
            return builder, {
                "data_files": {split: matching if data_files is not None else of_split or matching},
                **tabs,
            }
    if any(p.is_dir() and p.name.lower() in SPLIT_FOLDERS for p in path.iterdir()):
        return "imagefolder", {"data_dir": str(path), "drop_labels": None}
    return "imagefolder", {"data_files": {split: [str(path / "**")]}, "drop_labels": None}  # all of it is the split


def _arguments(
    path: str, split: str, name: str | None, revision: str | None, data_files: str | Sequence[str] | None
) -> tuple[str, dict[str, Any]]:
    """What ``datasets.load_dataset`` is called with."""
    local = Path(path).expanduser()
    if local.exists():
        return _local_builder(local, split, data_files)
    chosen = {} if data_files is None else {"data_files": data_files if isinstance(data_files, str) else [*data_files]}
    return path, {"name": name, "revision": revision, **chosen}


def _saved(path: str, split: str) -> Any:
    """What ``save_to_disk`` wrote there, or None."""
    local = Path(path).expanduser()
    if (local / "dataset_info.json").is_file():
        return datasets.load_from_disk(str(local))
    if (local / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(local))[split]
    return None


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
    try:
        saved = _saved(path, split)
        if saved is not None:
            return saved.to_iterable_dataset(num_shards=min(64, 1 + len(saved) // 1000)) if streaming else saved
        builder, arguments = _arguments(path, split, name, revision, data_files)
        if streaming and builder == "parquet":
            return stream_parquet(arguments["data_files"][split])
        return datasets.load_dataset(builder, split=split, streaming=streaming, **arguments)
    except Exception as error:
        if "corresponds to no data" in str(error):
            stream = datasets.load_dataset(builder, split=split, streaming=True, **arguments)
            raise ValueError(
                f"{path}: split {split!r} is empty; its columns are {', '.join(columns_of(stream))}"
            ) from None
        reason = (
            SCRIPTS
            if "script" in str(error).lower()
            else f"{type(error).__name__}: {str(error).splitlines()[0].rstrip('.')}"
        )
        raise UnreachableData(f"data set {path!r} (split {split!r}) cannot be opened: {reason}") from error


def side_file(path: str, file_name: str) -> Path | None:
    """A small file that lies beside a data set, in the local folder or in the hub's repository; None when there is none,
    or none can be reached."""
    local = Path(path).expanduser()
    if local.exists():
        return local / file_name if (local / file_name).is_file() else None
    try:
        return Path(huggingface_hub.hf_hub_download(path, file_name, repo_type="dataset"))
    except (OSError, ValueError, HfHubHTTPError):  # what is not there, not reachable, or no hub id at all
        return None


def folder_of(path: str | None) -> Path | None:
    """The folder that a local source's relative paths begin at; None for a hub id."""
    local = Path(path).expanduser() if path else None
    return None if local is None or not local.exists() else local if local.is_dir() else local.parent


def columns_of(stream: Any) -> list[str]:
    """Of a streaming data set, from its description or else its first row; none when it is empty."""
    return stream.column_names or list(next(iter(stream), {}))


def _file_facts(file: Path, root: Path) -> str:
    """Name, size and, of a large file, both ends: a Parquet file's end holds the place and bounds of every column."""
    size, ends = file.stat().st_size, b""
    if file.suffix in (*BUILDERS, ".jsonl"):
        with file.open("rb") as opened:
            ends = opened.read(4096)
            opened.seek(max(0, size - 4096))
            ends += opened.read()
    return f"{os.path.relpath(file, root)} {size} {hashlib.sha256(ends).hexdigest()}"


def files_fingerprint(
    *, path: str, split: str, name: str | None, revision: str | None, data_files: str | Sequence[str] | None
) -> str:
    """Changes with the files a source is read from: their names, sizes and ends, or the hub's commit. It stays when a
    folder is copied to another place."""
    local = Path(path).expanduser()
    if local.exists():
        builder, arguments = _local_builder(local, split, data_files)
        files = [p for p in sorted(local.rglob("*")) if p.is_file()] if builder == "imagefolder" else []
        files = files or [Path(f) for f in arguments.get("data_files", {}).get(split, ())]
        facts = [_file_facts(file, local) for file in files]
    else:
        builder, arguments = _arguments(path, split, name, revision, data_files)
        config = datasets.load_dataset_builder(builder, **arguments).config
        facts = [str(file) for file in (config.data_files or {}).get(split, ())]  # with the commit in each address
    return hashlib.sha256("\n".join([path if not local.exists() else "", *facts]).encode()).hexdigest()


def first_present(columns: Sequence[str], wanted: Sequence[str], what: str, where: str) -> str:
    """The first of ``wanted`` that is a column. Raises ValueError listing the columns found."""
    for column in wanted:
        if column in columns:
            return column
    hint = f"; name yours: data.train.{what}_columns=[…]" if what in ("image", "caption") else ""
    if what == "image" and any("url" in c.lower() for c in columns):
        hint = (
            "; it holds addresses, not pictures: fetch them with img2dataset (output_format=webdataset) and use "
            "data=webdataset data.path=<folder>"
        )
    raise ValueError(f"{where}: no {what} column among {', '.join(columns)}; looked for {', '.join(wanted)}{hint}")
