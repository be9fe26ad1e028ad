"""Class names, prompt templates, and the classifier that is made from them."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cliplab.distributed import gather, rank, world_size
from cliplab.evaluation.batches import LabelledSet
from cliplab.evaluation.imagenet import looks_like_wordnet, open_clip_metadata
from cliplab.evaluation.model import Encoders, Tokenizer
from cliplab.files import lines_of
from cliplab.models.tokens import Tokens
from cliplab.rules import TEMPLATES

SEVEN = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
SCALE = 100  # logits are the cosines times this; it is the limit of CLIP's own scale
TOKENS_PER_BATCH = {"cpu": 4096}  # so many fit into the cache of a core
TOKENS_ELSEWHERE = 32_768
PROMPTS_PER_IMAGE = 20  # in an evaluation of a part: about as many as cost as much as the image in ViT-B/32


def load_templates(source: str | Sequence[str]) -> list[str]:
    """Templates with one ``{}`` each (or CLIP_benchmark's ``{c}``): ``plain``, ``simple``, ``openai_7``, ``openai_80``, a
    file with one template a line, or a list.

    Raises ValueError on an unknown name or a template without a place for the class name.
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
        templates = [t("{}") for t in open_clip_metadata().OPENAI_IMAGENET_TEMPLATES]
    elif Path(source).expanduser().is_file():
        templates = lines_of(Path(source).expanduser())
    else:
        raise ValueError(f"templates {source!r} is neither a file nor one of {', '.join(TEMPLATES)}; set templates")
    templates = [template.replace("{c}", "{}") for template in templates]
    if not templates:
        raise ValueError(
            f"templates {source!r}: there is no template; write one on each line, such as: a photo of a {{}}."
        )
    wrong = next((t for t in templates if t.count("{}") != 1), None)
    if wrong is not None:
        count = wrong.count("{}")
        raise ValueError(
            f"template {wrong!r} has {{}}, the place of the class name, {count} times; write it once: a photo of a {{}}."
        )
    return templates


def chosen_prompts(
    name: str, dataset: LabelledSet, class_names: Sequence[str] | None, templates: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The class names and templates to use: those given, else those of the data set, else the paper's eighty templates.

    Raises ValueError without names, and for another number of names than the data set has classes."""
    set_names = dataset.class_names
    names = set_names if class_names is None else list(class_names)
    for place, label in enumerate(names or ()):
        if not isinstance(label, str):
            raise ValueError(
                f"zeroshot.{name}.class_names: name {place} is {label!r}; names are strings; put it in quotes"
            )
    if names is None:
        raise ValueError(f"zeroshot set {name}: the labels have no names; set zeroshot.{name}.dataset.class_names")
    if class_names is None and looks_like_wordnet(names):
        raise ValueError(
            f"zeroshot set {name}: the classes are called {names[0]}, …, which are WordNet ids; use zeroshot=imagenet with "
            f"zeroshot.imagenet.dataset.path=…, or set zeroshot.{name}.dataset.class_names"
        )
    if set_names is not None and len(names) != len(set_names):
        raise ValueError(
            f"zeroshot set {name}: {len(names)} class names for a data set of {len(set_names)} classes; "
            f"check zeroshot.{name}.dataset.path, its split and class_names"
        )
    return list(names), load_templates(templates or dataset.templates or "openai_80")


class Candidates(NamedTuple):
    """The classes that pictures are scored against, by their numbers in the set, and the templates of their prompts."""

    classes: list[int]
    templates: list[str]


def evenly_spread(rows: int, most: int) -> list[int]:
    """``most`` of so many rows, at equal distances, in ascending order."""
    return [i * rows // most for i in range(most)]


def candidates_for(
    class_names: Sequence[str], templates: Sequence[str], shown: Collection[int] = (), images: int | None = None
) -> Candidates:
    """All candidates, or those of an evaluation of so many ``images``: at most ``PROMPTS_PER_IMAGE`` prompts for each.

    First templates are left out, evenly spread, down to one; then classes, evenly spread, but none that is ``shown``.
    """
    every, names = list(range(len(class_names))), len(set(class_names))
    most = names * len(templates) if images is None else images * PROMPTS_PER_IMAGE
    kept = [templates[i] for i in evenly_spread(len(templates), min(len(templates), max(1, most // names)))]
    if names <= most:
        return Candidates(every, kept)
    needed = set(shown)
    others = [number for number in every if number not in needed]
    free = max(0, most - len(needed))
    return Candidates(sorted([*needed, *(others[i] for i in evenly_spread(len(others), min(free, len(others))))]), kept)


def candidates_in_words(chosen: Candidates, class_names: Sequence[str], templates: Sequence[str]) -> list[str]:
    """What of the names and the templates was used, where that is not all."""
    told = []
    if len(chosen.classes) < len(class_names):
        told.append(f"against {len(chosen.classes):,} of the {len(class_names):,} names")
    if len(chosen.templates) < len(templates):
        told.append(f"in {len(chosen.templates)} of the {len(templates)} templates")
    return told


def few_names(names: Sequence[str]) -> list[str]:
    """A sentence when there is only one name to choose from."""
    if len(set(names)) > 1:
        return []
    return [
        f"{names[0]!r} is the only candidate, so every picture counts as right; an accuracy needs two or more names"
    ]


def _names_with_equal_tokens(names: Sequence[str], tokens: Tokens, rows: Tensor) -> list[list[str]]:
    """Groups of different names that have the same tokens."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for name, row in zip(names, rows.tolist(), strict=True):
        groups.setdefault(tuple(tokens.ids[row, : int(tokens.lengths[row])].tolist()), []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def same_tokens_note(groups: Sequence[Sequence[str]]) -> list[str]:
    """A sentence when a tokenizer gives the same tokens to different names."""
    if not groups:
        return []
    shown = "; ".join(", ".join(map(repr, group[:4])) for group in groups[:3])
    return [
        f"{sum(map(len, groups))} names get the same tokens from the tokenizer as another name: {shown}"
        f"{' and others' if len(groups) > 3 else ''}; the model answers the first of them in label order"
    ]


def text_batches(lengths: Tensor, most: int) -> list[Tensor]:
    """The rows of each batch. Texts of similar length are together, and a batch has at most ``most`` tokens, padding
    included. Every rank makes the same batches."""
    order, batches, start = lengths.argsort(stable=True), [], 0
    while start < len(order):
        rows = order[start : start + max(1, most // int(lengths[order[start]]))]
        rows = rows[: max(1, most // int(lengths[rows].max()))]
        batches.append(rows)
        start += len(rows)
    return batches


def embed_texts(model: Encoders, tokens: Tokens, device: torch.device) -> Float[Tensor, "texts dim"]:
    """Embeddings of many texts. The ranks share the batches, which hold texts of similar length, so that little is padded.

    The batches are the same for any number of ranks, and so are the embeddings. Every rank calls the model equally often.
    """
    most = TOKENS_PER_BATCH.get(device.type, TOKENS_ELSEWHERE)
    batches, world = text_batches(tokens.lengths, most), world_size()
    parts = []
    for turn in range(0, len(batches), world):
        rows = batches[min(turn + rank(), len(batches) - 1)]
        longest = int(tokens.lengths[rows].max())
        local = model.encode_text(Tokens(tokens.ids[rows, :longest], tokens.lengths[rows]).to(device)).float()
        if world == 1:
            parts.append(local)
            continue
        round_batches = batches[turn : turn + world]
        largest = max(len(batch) for batch in round_batches)
        padded = torch.cat([local, local.new_zeros(max(0, largest - len(local)), local.shape[1])])[:largest]
        by_rank = gather(padded).view(world, largest, -1)
        parts += [by_rank[i, : len(batch)] for i, batch in enumerate(round_batches)]
    embeds = torch.cat(parts)
    return torch.empty_like(embeds).index_copy_(0, torch.cat(batches).to(device), embeds)


def ensemble(weights: Float[Tensor, "names templates dim"]) -> Float[Tensor, "names dim"]:
    """The mean of the unit vectors of all templates, normalised again (Radford et al. 2021, section 3.1.4)."""
    return F.normalize(weights.mean(1), dim=-1)


class Prompts:
    """The prompts of a classification set, tokenised once. Equal names and equal prompts are encoded once.

    ``classes``, int64 ``[classes]``, is the position of the name of each class among the distinct names.
    """

    def __init__(self, class_names: Sequence[str], templates: Sequence[str], tokenizer: Tokenizer) -> None:
        names = list(dict.fromkeys(class_names))
        filled = [template.replace("{}", name) for name in names for template in templates]
        distinct = {text: i for i, text in enumerate(dict.fromkeys(filled))}
        self.tokens = tokenizer(list(distinct))
        self.rows = torch.tensor([distinct[text] for text in filled]).view(len(names), len(templates))
        self.equal_names = _names_with_equal_tokens(names, self.tokens, self.rows[:, 0])
        place = {name: i for i, name in enumerate(names)}
        self.classes = torch.tensor([place[name] for name in class_names])
        self._kept: Tensor | None = None

    def template_weights(self, model: Encoders, device: torch.device) -> Float[Tensor, "names templates dim"]:
        """A unit vector for each distinct name in each template. They are kept while the text tower does not train
        (``text_fixed``)."""
        if self._kept is not None and model.text_fixed:
            return self._kept
        weights = F.normalize(embed_texts(model, self.tokens, device), dim=-1)[self.rows.to(device)]
        self._kept = weights if model.text_fixed else None
        return weights

    def weights(self, model: Encoders, device: torch.device) -> Float[Tensor, "names dim"]:
        """A unit vector for each distinct name; see ``ensemble``."""
        return ensemble(self.template_weights(model, device))

    def logits(self, image_embeds: Float[Tensor, "batch dim"], weights: Tensor) -> Float[Tensor, "batch classes"]:
        """``SCALE`` times the cosines, in float32 without autocast. Classes with the same name tie exactly, because their
        product is computed once."""
        with torch.autocast(image_embeds.device.type, enabled=False):
            return (SCALE * image_embeds.float() @ weights.T)[:, self.classes.to(weights.device)]
