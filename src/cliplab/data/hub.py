"""Opening Hugging Face data sets, local or from the hub, with errors that say what to do."""

import glob
import hashlib
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
from datasets.packaged_modules.webdataset.webdataset import WebDataset
from huggingface_hub.errors import HfHubHTTPError

from cliplab.data.parquet import stream_parquet

SCRIPTS = "it needs a loading script, which the datasets library no longer runs; use a Parquet or webdataset copy"

SPLIT_FOLDERS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing", "eval")
SPLIT_NAMES = [
    {"train", "training"},
    {"val", "valid", "validation"},
    {"test", "testing"},
]  # as they stand in file names

# The first that is there: img2dataset writes a table of what it fetched beside each tar.
BUILDERS = {".tar": "webdataset", ".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".tsv": "csv"}


def _as_text(data: bytes) -> str:
    return data.decode("utf8", errors="replace")


# Names or patterns of files, for all splits or by split.
DataFiles = str | Sequence[str] | Mapping[str, str | Sequence[str]] | None

# The library's own decoders end a whole run at one caption that is no UTF-8, and read JSON as what the first five samples
# held. Text stays text here; JSON is read by whoever asks for a value in it.
WebDataset.DECODERS = {**WebDataset.DECODERS, **dict.fromkeys(("txt", "text", "transcript", "json", "jsn"), _as_text)}
_samples_of_tar = WebDataset._get_pipeline_from_tar.__func__


def _samples_of_named_tar(cls: Any, tar_path: str, tar_iterator: Any) -> Iterator[dict[str, Any]]:
    """The library's, but an error tells which of many files is cut short or damaged."""
    try:
        yield from _samples_of_tar(cls, tar_path, tar_iterator)
    except (tarfile.TarError, EOFError) as error:
        raise tarfile.ReadError(
            f"{tar_path}: {str(error).rstrip('.')}; it is cut short or damaged: fetch it again, or remove it"
        ) from error


WebDataset._get_pipeline_from_tar = classmethod(_samples_of_named_tar)


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


def _names_in(file: str) -> set[str]:
    return set(re.split(r"[^a-z]+", file.lower()))


def _of_split(files: Sequence[str], root: Path, split: str) -> list[str]:
    """The files that name the split, else those that name none. Raises ValueError when all are of other splits."""
    inner = {file: str(Path(file).relative_to(root)) for file in files}
    same = next((names for names in SPLIT_NAMES if split in names), None)
    found = [file for file in files if (same & _names_in(inner[file]) if same else split in inner[file])]
    others = set().union(*SPLIT_NAMES) - (same or set())
    found = found or [file for file in files if not others & _names_in(inner[file])]
    if not found:
        there = sorted(others & set().union(*(_names_in(name) for name in inner.values())))
        raise ValueError(f"its files are of other splits: {', '.join(there)}; name one, or the files: data_files=…")
    return found


def _named_files(path: Path, split: str, data_files: DataFiles) -> list[Path]:
    """The files of a local folder that names and patterns choose for a split. Raises ValueError when one chooses none."""
    if isinstance(data_files, Mapping):
        if split not in data_files:
            raise ValueError(f"data_files are given for {', '.join(data_files)}; name split {split} there, or split=…")
        data_files = data_files[split]
    files: set[Path] = set()
    for name in [data_files] if isinstance(data_files, str) else data_files or ():
        pattern = os.path.join(glob.escape(str(path)), name)
        matching = [path / name] if (path / name).is_file() else map(Path, glob.glob(pattern, recursive=True))
        if not (found := {file for file in matching if file.is_file()}):
            raise ValueError(f"data_files: no file there matches {name!r}")
        files |= found
    if not files:
        raise ValueError("data_files: no file is named; null means all")
    return sorted(files)


def _local_builder(path: Path, split: str, data_files: DataFiles) -> tuple[str, dict[str, Any]]:
    """Which reader fits a local folder or file, and its arguments."""
    if data_files is not None:
        files = _named_files(path, split, data_files)
    elif path.is_file():
        files = [path]
    else:
        files = sorted(p for p in path.rglob("*") if p.suffix in BUILDERS)
    for suffix, builder in BUILDERS.items():
        matching = [str(p) for p in files if p.suffix == suffix and (p.name != "metadata.csv" or data_files)]
        if matching:
            if data_files is None and path.is_dir():
                matching = _of_split(matching, path, split)
            if not all(map(os.path.getsize, matching)):
                empty = [os.path.relpath(f, path) for f in matching if not os.path.getsize(f)]
                raise ValueError(f"nothing is in {', '.join(empty[:10])}; fetch again, or remove them")
            text = {"encoding_errors": "replace"} if builder == "csv" else {}
            tabs = {"sep": "\t"} if suffix == ".tsv" else {}
            return builder, {"data_files": {split: matching}, **text, **tabs}
    if data_files is not None:
        return "imagefolder", {"data_files": {split: list(map(str, files))}, "drop_labels": None}
    if any(p.is_dir() and p.name.lower() in SPLIT_FOLDERS for p in path.iterdir()):
        return "imagefolder", {"data_dir": str(path), "drop_labels": None}
    return "imagefolder", {"data_files": {split: [str(path / "**")]}, "drop_labels": None}  # all of it is the split


def _arguments(
    path: str, split: str, name: str | None, revision: str | None, data_files: DataFiles
) -> tuple[str, dict[str, Any]]:
    """What ``datasets.load_dataset`` is called with."""
    local = Path(path).expanduser()
    if local.exists():
        return _local_builder(local, split, data_files)
    if isinstance(data_files, Mapping):
        data_files = {of: files if isinstance(files, str) else [*files] for of, files in data_files.items()}
    elif data_files is not None and not isinstance(data_files, str):
        data_files = [*data_files]
    return path, {"name": name, "revision": revision, **({} if data_files is None else {"data_files": data_files})}


def _reason(error: BaseException) -> str:
    """In one line, of what lies under an error that says nothing."""
    while type(error) is datasets.exceptions.DatasetGenerationError and error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0].rstrip('.')}"


def _saved(path: str, split: str) -> Any:
    """What ``save_to_disk`` wrote there, or None."""
    local = Path(path).expanduser()
    if (local / "dataset_info.json").is_file():
        return datasets.load_from_disk(str(local))
    if (local / "dataset_dict.json").is_file():
        return datasets.load_from_disk(str(local))[split]
    return None


def _reach_hub(path: str) -> None:
    """Ask the hub once for a sign of life: the libraries try for minutes. Raises ConnectionError with the ways on."""
    hub = huggingface_hub.constants
    if hub.HF_HUB_OFFLINE or "/" not in path or "://" in path or path.startswith(("/", ".", "~")):
        return
    try:
        huggingface_hub.get_session().head(hub.ENDPOINT, timeout=8)
    except Exception as error:
        raise ConnectionError(
            f"{hub.ENDPOINT} cannot be reached ({error}); give a local folder or file instead, or HF_HUB_OFFLINE=1 before "
            "the command for what was fetched before"
        ) from error


def open_dataset(
    *,
    path: str,
    split: str | Sequence[str],
    name: str | None = None,
    revision: str | None = None,
    data_files: DataFiles = None,
    streaming: bool = False,
) -> Any:
    """A ``datasets.Dataset`` (or its streaming twin) from a hub id, a builder name, or a local folder or file.

    A local folder is read as what it holds: ``save_to_disk`` output, Parquet, webdataset tars, Arrow, CSV, or a folder of
    images (``metadata.jsonl`` or class folders). Several splits make one. Raises UnreachableData with the ways out.
    """
    if not isinstance(split, str):
        place: dict[str, Any] = {"name": name, "revision": revision, "data_files": data_files, "streaming": streaming}
        return datasets.concatenate_datasets([open_dataset(path=path, split=one, **place) for one in split])
    try:
        saved = _saved(path, split)
        if saved is not None:
            return saved.to_iterable_dataset(num_shards=min(64, 1 + len(saved) // 1000)) if streaming else saved
        builder, arguments = _arguments(path, split, name, revision, data_files)
        if builder == path:
            _reach_hub(path)
        if streaming and builder == "parquet":
            return stream_parquet(arguments["data_files"][split])
        return datasets.load_dataset(builder, split=split, streaming=streaming, **arguments)
    except Exception as error:
        if "corresponds to no data" in str(error):
            stream = datasets.load_dataset(builder, split=split, streaming=True, **arguments)
            raise ValueError(
                f"{path}: split {split!r} is empty; its columns are {', '.join(columns_of(stream))}"
            ) from None
        reason = SCRIPTS if "script" in str(error).lower() else _reason(error)
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
    *,
    path: str,
    split: str | Sequence[str],
    name: str | None,
    revision: str | None,
    data_files: DataFiles,
) -> str:
    """Changes with the files a source is read from: their names, sizes and ends, or the hub's commit. It stays when a
    folder is copied to another place."""
    if not isinstance(split, str):
        place: dict[str, Any] = {"path": path, "name": name, "revision": revision, "data_files": data_files}
        return " ".join(files_fingerprint(split=one, **place) for one in split)
    local = Path(path).expanduser()
    if local.exists():
        builder, arguments = _local_builder(local, split, data_files)
        whole = builder == "imagefolder" and data_files is None
        files = [p for p in sorted(local.rglob("*")) if p.is_file()] if whole else []
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
    if what == "image" and any("url" in c.lower() for c in columns if c != "__url__"):
        hint = (
            "; it holds addresses, not pictures: fetch them with img2dataset (output_format=webdataset) and use "
            "data=webdataset data.path=<folder>"
        )
    raise ValueError(f"{where}: no {what} column among {', '.join(columns)}; looked for {', '.join(wanted)}{hint}")
