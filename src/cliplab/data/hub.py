"""Data sets of the Hugging Face hub."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
from huggingface_hub.errors import HfHubHTTPError

from cliplab.data.local import DataFiles, local_path
from cliplab.models.hub import hub_silence

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request


class UnreachableData(ValueError):
    """The data set cannot be opened."""


def hub_arguments(name: str | None, revision: str | None, data_files: DataFiles) -> dict[str, Any]:
    """The arguments of ``datasets.load_dataset`` beside the path."""
    arguments: dict[str, Any] = {"name": name, "revision": revision}
    if isinstance(data_files, Mapping):
        plain = {split: files if isinstance(files, str) else [*files] for split, files in data_files.items()}
        return {**arguments, "data_files": plain}
    if data_files is None:
        return arguments
    return {**arguments, "data_files": data_files if isinstance(data_files, str) else [*data_files]}


def hub_fingerprint(path: str, split: str, arguments: Mapping[str, Any]) -> str:
    """A hash of the addresses of the files. They contain the commit."""
    config = datasets.load_dataset_builder(path, **arguments).config
    files = [str(file) for file in (config.data_files or {}).get(split, ())]
    return hashlib.sha256("\n".join([path, *files]).encode()).hexdigest()


def reach_hub(path: str) -> None:
    """Ask the hub once for a sign of life: the libraries try for minutes. Raises ConnectionError with the ways on."""
    hub = huggingface_hub.constants
    if hub.HF_HUB_OFFLINE or "/" not in path or "://" in path or path.startswith(("/", ".", "~")):
        return
    silence = hub_silence()
    if silence:
        raise ConnectionError(
            f"{silence}; name a local copy with data.path=<folder or file> (of a "
            "zero-shot set with zeroshot.<set>.dataset.path=…), or type HF_HUB_OFFLINE=1 before the command for what was "
            "fetched before"
        )


def side_file(path: str, file_name: str) -> Path | None:
    """A small file beside a data set, in the local folder or in the hub's repository. None when there is no such file,
    or none can be reached."""
    local = local_path(path)
    if local is not None:
        return local / file_name if (local / file_name).is_file() else None
    try:
        return Path(huggingface_hub.hf_hub_download(path, file_name, repo_type="dataset"))
    except (OSError, ValueError, HfHubHTTPError):  # what is not there, not reachable, or no hub id at all
        return None
