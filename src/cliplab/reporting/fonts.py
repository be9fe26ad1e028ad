"""Names in any script on plots: fonts that are installed for them, and no warning for what none of them has."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from matplotlib import font_manager

# With outlines that matplotlib can draw, which emoji in colour have not
BEYOND_LATIN = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "Droid Sans Fallback", "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo"),
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Hebrew"),
    *("Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji", "Symbola", "Segoe UI Symbol"),
)


def families() -> list[str]:
    """Matplotlib's own font, then those installed for other scripts; a character is looked for in each in turn."""
    installed = set(font_manager.fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in BEYOND_LATIN if name in installed)]


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """A box stands for a character that no font has, and that is enough: a warning for each would bury what else is
    printed. In SVG the text stays text, which the browser draws with its own fonts."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
        warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support .* natively")
        yield
