"""Fonts for names in any script on plots, without a warning for each character that no font has."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import font_manager

# Fonts with outlines that matplotlib can draw, unlike fonts of coloured emoji
BEYOND_LATIN = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Hebrew"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "Symbola", "Segoe UI Symbol"),
)


def families() -> list[str]:
    """Matplotlib's own font, then the installed fonts for other scripts. Each character is looked up in this order."""
    installed = set(font_manager.fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in BEYOND_LATIN if name in installed)]


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Silence the warning for each character that no font has: it is drawn as a box. In SVG, text stays text, which the
    browser draws with its own fonts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support .* natively")
        yield
