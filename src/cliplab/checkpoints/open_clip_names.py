"""The names of models and weights of the installed open_clip. They are read from its files: a command checks them before
torch is imported."""

import difflib
import functools
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

from cliplab.checkpoints.spec import OPEN_CLIP


@functools.cache
def _package() -> Path:
    spec = importlib.util.find_spec("open_clip")
    if spec is None or spec.origin is None:
        raise ImportError("open_clip's model names come from open_clip_torch; run: pip install open_clip_torch")
    return Path(spec.origin).parent


def named_config(name: str) -> dict[str, Any]:
    """The model config of a name. Raises ValueError listing names that look like it."""
    file = _package() / "model_configs" / f"{name.replace('/', '-')}.json"
    if not file.is_file():
        known = [f.stem for f in file.parent.glob("*.json")]
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.3)
        raise ValueError(f"open_clip has no model {name!r}; close to it are {', '.join(close) or 'none'}")
    return json.loads(file.read_text(encoding="utf8"))


def model_and_place(spec: str) -> tuple[str, str]:
    """The model and the file or tag of ``open_clip:<model>:<file or tag>``. Raises ValueError for a model that open_clip
    does not have, and for what is neither a file nor a tag of any of its weights."""
    name, _, where = spec.removeprefix(OPEN_CLIP).partition(":")
    if not name or not where:
        raise ValueError(f"{spec}: write open_clip:<model name>:<file or tag>, such as open_clip:ViT-B-32:openai")
    named_config(name)
    text = (_package() / "pretrained.py").read_text(encoding="utf8")
    tag = re.escape(where.lower().replace("-", "_"))
    if not Path(where).expanduser().is_file() and not re.search(rf"\b{tag}\b", text):
        raise ValueError(
            f"{where!r} is neither a file nor a tag of open_clip's {name}; its tags are {_tags(text, name)}"
        )
    return name, where


def _tags(text: str, name: str) -> str:
    """Those that the table of weights gives a model in so many words."""
    variable = re.search(rf'"{re.escape(name)}": (\w+)', text)
    body = variable and re.search(rf"^{variable[1]} = dict\((.*?)^\)", text, re.DOTALL | re.MULTILINE)
    return ", ".join(re.findall(r"^    (\w+)=", body[1], re.MULTILINE)) if body else "in open_clip/pretrained.py"
