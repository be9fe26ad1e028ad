"""What a table of embeddings says of itself, read without its rows and without torch."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FACTS = b"cliplab"  # the key of a Parquet file's metadata


def is_table(path: Path) -> bool:
    """Whether a file is a table of embeddings and not of images."""
    if not path.is_file() or path.suffix not in (".parquet", ".npz"):
        return False
    try:
        return path.suffix == ".npz" or "embedding" in pq.read_schema(path).names
    except (OSError, pa.ArrowException):  # reported when it is read as data
        return False


def read_facts(path: Path) -> dict[str, Any]:
    """Raises ValueError for a file that ``write_table`` did not write."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return json.loads(str(file["facts"]))
        return json.loads((pq.read_schema(path).metadata or {})[FACTS])
    except (KeyError, OSError, ValueError, pa.ArrowException) as error:
        raise not_ours(path, error) from error


def not_ours(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is not a table of embeddings that task=embed wrote: {error}")


def maker_of(path: Path) -> str | None:
    """The model that made a table of embeddings; None for anything else. Raises ValueError as ``read_facts``."""
    return str(read_facts(path)["source"]) if is_table(path) else None
