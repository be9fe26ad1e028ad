"""Render templates as pages. A page is one file with its style and script, and loads nothing else."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2

from cliplab.evaluation.words import count, percent
from cliplab.reporting.plots import calibration, curve
from cliplab.text import one_line

TEMPLATES = Path(__file__).parent / "templates"


def seconds(value: float) -> str:
    """``850 ms``, ``12.3 s``, ``4 min 10 s``, ``2 h 5 min``."""
    if value < 1:
        return f"{1000 * value:.0f} ms"
    if value < 60:
        return f"{value:.1f} s"
    if value < 3600:
        return f"{value // 60:.0f} min {value % 60:.0f} s"
    return f"{value // 3600:.0f} h {value % 3600 // 60:.0f} min"


def picture(data: bytes | None) -> str:
    """A PNG as a data URL; "" for None."""
    return "" if data is None else "data:image/png;base64," + base64.b64encode(data).decode()


def hue(text: Any) -> int:
    """The angle of a colour for a text, so that a changed hash is easy to see."""
    return hashlib.sha256(str(text).encode()).digest()[0] * 360 // 256


def cell(text: Any) -> str:
    """Escape a text for a cell of a Markdown table."""
    return one_line(text).replace("|", "\\|").replace("<", "&lt;")


def render(template: str, **values: Any) -> str:
    """Render a template. An undefined value counts as empty, because reports leave out what is missing."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda name: not str(name).endswith(".md.jinja"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    filters = (percent, count, seconds, picture, hue, cell, curve, calibration)
    environment.filters |= {function.__name__: function for function in filters}
    return environment.get_template(template).render(**values)
