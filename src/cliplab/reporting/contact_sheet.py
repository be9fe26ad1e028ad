"""The contact sheet of a search: one self-contained page of thumbnails, the best first."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from cliplab.data.images import BadImage, decode_image

TEMPLATES = Path(__file__).parent / "templates"
PIXELS = 240


def thumbnail(image: Any) -> str:
    """A JPEG as a data URL; "" when there is no image, or when it cannot be read."""
    if image is None:
        return ""
    try:
        picture = decode_image(image)
    except BadImage:
        return ""
    picture.thumbnail((PIXELS, PIXELS))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def contact_sheet(
    path: Path, *, query: str, query_image: Any, hits: Sequence[tuple[str, float, Any]], facts: Sequence[str]
) -> None:
    """Write the page. ``hits`` are (id, cosine, image or None), the best first. ``facts`` are lines below the title."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True)
    cards = [{"rank": i + 1, "id": name, "score": s, "picture": thumbnail(x)} for i, (name, s, x) in enumerate(hits)]
    page = environment.get_template("contact_sheet.html.jinja").render(
        query=query, picture=thumbnail(query_image), cards=cards, facts=facts
    )
    path.write_text(page, encoding="utf8")
