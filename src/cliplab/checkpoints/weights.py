"""What every reader of foreign weights returns, and the strict load."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cliplab.models.encoders import CLIP_MEAN, CLIP_STD

VIT = "cliplab.models.vision_transformer.VisionTransformer"
RESNET = "cliplab.models.modified_resnet.ModifiedResNet"
TEXT = "cliplab.models.text_transformer.TextTransformer"
TOKENIZER = "cliplab.data.tokenizers.CLIPTokenizer"
PLAIN_TRANSFORM = {"_target_": "cliplab.data.transforms.EvalTransform"}
MOST_LISTED = 12


@dataclass(frozen=True)
class ObjectiveWeights:
    """The config of an objective, and its own parameters under its own names; none for one that has none."""

    config: dict[str, Any]
    state: dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """A model out of a file: the configs to build it and its tokenizer from, and the state dict under our names.

    ``assumed`` are the dotted keys of ``model`` that neither the file nor a name states; a convention filled them in.
    ``transform`` is the config of the evaluation transform without its ``image_size``. ``tower`` names the one tower whose
    weights these are, of a model that has another beside it. ``objective`` is what a checkpoint of ours was trained for.
    """

    model: dict[str, Any]
    tokenizer: dict[str, Any]
    state: dict[str, Tensor]
    source: str
    assumed: tuple[str, ...] = ()
    transform: dict[str, Any] = field(default_factory=lambda: dict(PLAIN_TRANSFORM))
    tower: str | None = None
    objective: ObjectiveWeights | None = None

    def sized_transform(self, image_size: Any) -> dict[str, Any]:
        """The whole config of the evaluation transform; ``image_size`` may be an interpolation."""
        return {**self.transform, "image_size": image_size}

    @property
    def plain(self) -> bool:
        """Whether pictures are prepared as the paper does: short side to the tower's size, bicubic, centre crop."""
        return {key: value for key, value in self.transform.items() if key != "crop_rounding"} == PLAIN_TRANSFORM


def clip_config(
    *,
    image_encoder: dict[str, Any],
    text_encoder: dict[str, Any],
    embed_dim: int,
    mean: Sequence[float] = CLIP_MEAN,
    std: Sequence[float] = CLIP_STD,
    init_logit_bias: float | None = None,
) -> dict[str, Any]:
    """The config of a CLIP around two tower configs, as configs/model would hold it."""
    return {
        "_target_": "cliplab.models.clip.CLIP",
        "embed_dim": embed_dim,
        "init_temperature": 0.07,
        "max_logit_scale": 100.0,
        "init_logit_bias": init_logit_bias,
        "image_mean": list(mean),
        "image_std": list(std),
        "image_encoder": image_encoder,
        "text_encoder": text_encoder,
    }


def mlp_ratio(inner: int, width: int) -> float:
    """The ratio whose product with the width, cut to an integer, is the inner width again."""
    ratio = inner / width
    return ratio if int(width * ratio) == inner else (inner + 0.5) / width


def check_sizes(model: Mapping[str, Any], source: str) -> None:
    """Raises ValueError naming the source for sizes of a tower that do not divide, which the file has as they are."""
    for name in ("image_encoder", "text_encoder"):
        tower = model[name]
        for whole, part in (("width", "heads"), ("image_size", "patch_size")):
            a, b = tower.get(whole), tower.get(part)
            cut = (
                tower["_target_"].endswith("SiglipVisionTransformer") and whole == "image_size"
            )  # the rest is left out
            if tower["_target_"] != RESNET and a is not None and b is not None and not cut and (b < 1 or a % b):
                raise ValueError(f"{source}: {name}: {whole} {a} is not a multiple of {part} {b}")


def resized_transform(transform: Mapping[str, Any], old: int | None, new: int | None) -> dict[str, Any]:
    """The transform's config for a tower at another image size: lengths before the crop grow along."""
    scaled = dict(transform)
    if not old or not new:
        return scaled
    if "short_side" in scaled:
        scaled["short_side"] = round(scaled["short_side"] * new / old)
    if "size" in scaled:
        scaled["size"] = [round(side * new / old) for side in scaled["size"]]
    return scaled


def statistics(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The buffers of mean and standard deviation, which foreign state dicts lack."""
    mean, std = config.get("image_mean", CLIP_MEAN), config.get("image_std", CLIP_STD)
    return {"image_mean": torch.tensor(mean).view(3, 1, 1), "image_std": torch.tensor(std).view(3, 1, 1)}


def tokenizer_config(vocab_size: int, context_length: int, source: str) -> dict[str, Any]:
    """CLIP's tokenizer. Raises ValueError for another vocabulary, which a weight file does not carry."""
    if vocab_size != 49_408:
        raise ValueError(
            f"{source}: a vocabulary of {vocab_size} entries is not CLIP's 49408, and the file does not say which "
            "tokenizer belongs to it"
        )
    return {"_target_": TOKENIZER, "context_length": context_length}


def listed(words: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(words) - MOST_LISTED} more" if len(words) > MOST_LISTED else ""
    return ", ".join(words[:MOST_LISTED]) + more


def renamed(
    names: Mapping[str, str], theirs: Mapping[str, Tensor], source: str, optional: Callable[[str], bool]
) -> dict[str, Tensor]:
    """``theirs`` under our names; ``names`` maps ours to theirs. Raises ValueError listing missing and extra keys."""
    missing = sorted(other for other in names.values() if other not in theirs and not optional(other))
    extra = sorted(theirs.keys() - set(names.values()))
    if missing or extra:
        parts = [f"missing: {listed(missing)}"] if missing else []
        parts += [f"not known: {listed(extra)}"] if extra else []
        raise ValueError(f"{source}: the keys are not those of this architecture; {'; '.join(parts)}")
    return {own: theirs[other] for own, other in names.items() if other in theirs}


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load every parameter and buffer. Raises ValueError listing what is missing, extra or of another shape; nothing is
    loaded then."""
    own = model.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    shapes = [
        f"{key} ({list(state[key].shape)} in the file, {list(own[key].shape)} in the model)"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    kinds = [
        f"{key} ({state[key].dtype} in the file)"
        for key in own
        if key in state and own[key].is_floating_point() and not state[key].is_floating_point()
    ]
    problems = [("missing", missing), ("not known", extra), ("other shapes", shapes), ("no floating point", kinds)]
    if any(words for _, words in problems):
        told = "; ".join(f"{what}: {listed(words)}" for what, words in problems if words)
        raise ValueError(f"{source} does not fit the model; {told}")
    model.load_state_dict(dict(state))
