"""Usual names of image and caption columns, in lower case, the most common first."""

IMAGE_NAMES = (
    *("image", "img", "filepath", "file_path", "file_name", "filename", "image_path", "image_file", "image_name"),
    *("img_path", "image_id", "path", "file", "picture", "photo", "jpg", "jpeg", "png", "webp", "images"),
    *("url", "image_url", "link"),
)
CAPTION_NAMES = (
    *("caption", "captions", "title", "text", "txt", "alt_text", "sentence", "sentences", "description", "comment"),
    *("prompt", "raw", "texts", "blurb"),
)


def is_caption_name(column: str) -> bool:
    name = column.lower()
    return name in CAPTION_NAMES or (name.startswith("caption_") and name[8:].isdigit())


def is_image_name(column: str) -> bool:
    return column.lower() in IMAGE_NAMES
