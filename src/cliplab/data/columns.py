"""Finds the image and caption columns of a data set by their usual names."""

from collections.abc import Sequence

IMAGE_COLUMNS = (
    *("image", "jpg", "jpeg", "png", "webp", "img", "filepath", "file_name", "image_path", "path"),
    *("file_path", "filename", "image_file", "image_name", "file", "images"),
)
CAPTION_COLUMNS = (
    *("caption", "captions", "text", "txt", "alt_text", "caption_0", "TEXT", "sentences", "sentence", "title"),
    *("description", "comment", "prompt"),
)


def first_present(columns: Sequence[str], wanted: Sequence[str], what: str, where: str) -> str:
    """The first of ``wanted`` that is a column, else the first that is one when case is ignored. Raises ValueError listing
    the columns."""
    for name in wanted:
        if name in columns:
            return name
    lower = {column.lower(): column for column in reversed(columns)}
    for name in wanted:
        if name.lower() in lower:
            return lower[name.lower()]
    hint = f"; name yours: data.train.{what}_columns=[…]" if what in ("image", "caption") else ""
    if what == "caption" and {*columns} <= {"image", "label"}:
        hint = "; put captions beside the pictures in metadata.jsonl or metadata.csv, with the columns file_name and caption"
    if what == "group":
        hint = "; name yours: data.train.group_column=…"
    if what == "image" and any("url" in c.lower() for c in columns if c != "__url__"):
        hint = (
            "; it holds addresses, not images: fetch them with img2dataset (output_format=webdataset) and use "
            "data=webdataset data.path=<folder>"
        )
    raise ValueError(f"{where}: no {what} column among {', '.join(columns)}; looked for {', '.join(wanted)}{hint}")
