"""Class names, prompt templates, and the classifier made from them."""

import functools
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cliplab.evaluation.result import Encoders
from cliplab.models.tokens import Tokens

SEVEN = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
TOKENS_PER_BATCH = 16_384


@functools.cache
def _open_clip_metadata() -> ModuleType:
    """The file of the installed open_clip_torch that lists ImageNet names and templates, loaded on its own."""
    package = importlib.util.find_spec("open_clip")
    if package is None or package.origin is None:
        raise ImportError("ImageNet names and templates come from open_clip_torch; run: pip install open_clip_torch")
    file = Path(package.origin).parent / "zero_shot_metadata.py"
    spec = importlib.util.spec_from_file_location("cliplab_open_clip_metadata", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imagenet_class_names() -> list[str]:
    """The 1,000 curated names in label order (sorted WordNet id); two occur twice."""
    return list(_open_clip_metadata().IMAGENET_CLASSNAMES)


def load_templates(source: str | Sequence[str]) -> list[str]:
    """Templates with one ``{}`` each: ``plain``, ``simple``, ``openai_7``, ``openai_80``, a file (one a line), a list.

    Raises ValueError on an unknown name or a template without ``{}``.
    """
    if not isinstance(source, str):
        templates = list(source)
    elif source == "plain":
        templates = ["{}"]
    elif source == "simple":
        templates = ["a photo of a {}."]
    elif source == "openai_7":
        templates = list(SEVEN)
    elif source == "openai_80":
        templates = [t("{}") for t in _open_clip_metadata().OPENAI_IMAGENET_TEMPLATES]
    elif Path(source).is_file():
        templates = [line for line in Path(source).read_text(encoding="utf8").splitlines() if line.strip()]
    else:
        raise ValueError(
            f"templates {source!r} is neither a file nor one of plain, simple, openai_7, openai_80; set templates"
        )
    wrong = [t for t in templates if t.count("{}") != 1]
    if wrong or not templates:
        raise ValueError(f"template {wrong[0] if wrong else ''!r} must contain {{}} once, where the class name goes")
    return templates


def embed_texts(model: Encoders, tokens: Tokens, device: torch.device) -> Float[Tensor, "texts dim"]:
    """Unit embeddings of many texts, shortest first so that nothing is padded much, in bounded batches."""
    order = tokens.lengths.argsort(stable=True)
    parts, start = [], 0
    while start < len(order):
        rows = order[start : start + max(1, TOKENS_PER_BATCH // int(tokens.lengths[order[start]]))]
        longest = int(tokens.lengths[rows].max())
        rows = rows[: max(1, TOKENS_PER_BATCH // longest)]
        longest = int(tokens.lengths[rows].max())
        parts.append(model.encode_text(Tokens(tokens.ids[rows, :longest], tokens.lengths[rows]).to(device)).float())
        start += len(rows)
    embeds = torch.cat(parts)
    return torch.empty_like(embeds).index_copy_(0, order.to(device), embeds)


def ensemble(weights: Float[Tensor, "names templates dim"]) -> Float[Tensor, "names dim"]:
    """The mean of every template's unit vector, normalised again (Radford et al. 2021, section 3.1.4)."""
    return F.normalize(weights.mean(1), dim=-1)


class Prompts:
    """The prompts of a classification set, tokenised once; distinct names and distinct prompts are encoded once.

    ``classes`` int64 ``[classes]`` says which distinct name a class has.
    """

    def __init__(
        self, class_names: Sequence[str], templates: Sequence[str], tokenizer: Callable[[Sequence[str]], Tokens]
    ) -> None:
        names = list(dict.fromkeys(class_names))
        filled = [template.replace("{}", name) for name in names for template in templates]
        distinct = {text: i for i, text in enumerate(dict.fromkeys(filled))}
        self.tokens = tokenizer(list(distinct))
        self.rows = torch.tensor([distinct[text] for text in filled]).view(len(names), len(templates))
        place = {name: i for i, name in enumerate(names)}
        self.classes = torch.tensor([place[name] for name in class_names])

    def template_weights(self, model: Encoders, device: torch.device) -> Float[Tensor, "names templates dim"]:
        """A unit vector for each distinct name in each template."""
        return F.normalize(embed_texts(model, self.tokens, device), dim=-1)[self.rows.to(device)]

    def weights(self, model: Encoders, device: torch.device) -> Float[Tensor, "names dim"]:
        """One unit vector for each distinct name; see ``ensemble``."""
        return ensemble(self.template_weights(model, device))

    def logits(self, image_embeds: Float[Tensor, "batch dim"], weights: Tensor) -> Float[Tensor, "batch classes"]:
        """Float32 outside autocast; classes of one name tie exactly, since their product is computed once."""
        with torch.autocast(image_embeds.device.type, enabled=False):
            return (100 * image_embeds.float() @ weights.T)[:, self.classes.to(weights.device)]
