"""ImageNet's label space: the curated class names, and the class that a folder or a label stands for."""

import functools
import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

WORDNET_ID = re.compile(r"n\d{8}")
LABEL_SPACES = ("imagenet", "imagenet_a", "imagenet_r")


def _package_folder(package: str) -> Path:
    """The folder of an installed package, which is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ImportError(f"ImageNet's names and classes come from the package {package}; run: pip install {package}")
    return Path(spec.origin).parent


@functools.cache
def open_clip_metadata() -> ModuleType:
    """The module of open_clip_torch that lists ImageNet names and templates, loaded without the rest of the package."""
    file = _package_folder("open_clip") / "zero_shot_metadata.py"
    spec = importlib.util.spec_from_file_location("cliplab_open_clip_metadata", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imagenet_class_names() -> list[str]:
    """The 1,000 curated names in label order, which is the order of WordNet ids. Two names occur twice."""
    return list(open_clip_metadata().IMAGENET_CLASSNAMES)


@functools.cache
def _timm_lines(name: str) -> list[str]:
    return (_package_folder("timm") / "data" / "_info" / name).read_text(encoding="utf8").split()


def wordnet_ids() -> list[str]:
    """The 1,000 WordNet ids in label order."""
    return _timm_lines("imagenet_synsets.txt")


def label_space(name: str) -> list[int]:
    """The positions of a set's classes among the 1,000, in the label order of the set. Raises ValueError for a name other
    than ``imagenet``, ``imagenet_a`` and ``imagenet_r``. The last two have 200 classes each."""
    if name not in LABEL_SPACES:
        raise ValueError(f"label_space {name!r} is unknown; choose one of {', '.join(LABEL_SPACES)}")
    return list(range(1000)) if name == "imagenet" else [int(i) for i in _timm_lines(f"{name}_indices.txt")]


def looks_like_wordnet(class_names: Sequence[str] | None) -> bool:
    """Whether these are WordNet ids rather than names."""
    return bool(class_names) and all(WORDNET_ID.fullmatch(name) for name in class_names or ())


def imagenet_places(class_names: Sequence[str] | None, most: int, space: str) -> list[int]:
    """For each label of a data set, the position of its class among the 1,000.

    When class names are WordNet ids, they give the position; any of the classes may be missing. Otherwise the labels are
    taken to be in the order of ``space``, and the number of class names must be the same. ``most`` is the highest label
    that occurs. Raises ValueError for unknown ids and for another number of classes.
    """
    if looks_like_wordnet(class_names):
        place = {wordnet_id: i for i, wordnet_id in enumerate(wordnet_ids())}
        unknown = [name for name in class_names or () if name not in place]
        if unknown:
            raise ValueError(
                f"{unknown[0]} is not a WordNet id of ImageNet's 1,000 classes ({len(unknown)} ids are not)"
            )
        return [place[name] for name in class_names or ()]
    places = label_space(space)
    if class_names is not None and len(class_names) != len(places):
        raise ValueError(f"{len(places)} class names for a data set of {len(class_names)} classes")
    if most >= len(places):
        raise ValueError(f"labels run to {most} but there are {len(places)} classes")
    return places
