"""Weights: the result of every reader of foreign files, and the strict load into a model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cliplab.models.encoders import CLIP_MEAN, CLIP_STD
from cliplab.text import listed

VIT = "cliplab.models.vision_transformer.VisionTransformer"
RESNET = "cliplab.models.modified_resnet.ModifiedResNet"
TEXT = "cliplab.models.text_transformer.TextTransformer"
TOKENIZER = "cliplab.data.tokenizers.CLIPTokenizer"
PLAIN_TRANSFORM: dict[str, Any] = {"_target_": "cliplab.data.transforms.EvalTransform"}


@dataclass(frozen=True)
class ObjectiveWeights:
    """The config of an objective, and its parameters under its own names; ``state`` may be empty."""

    config: dict[str, Any]
    state: dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """A model from a file: the configs of model and tokenizer, and the state dict under our names.

    ``assumed`` lists dotted keys of ``model`` that neither the file nor a name states, and that a convention filled in.
    ``transform`` is the config of the evaluation transform without its ``image_size``. ``tower`` names the tower that these
    weights are for, where they are for one only. ``objective`` is the objective of a checkpoint of ours.
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
        """Whether pictures are prepared as in the paper: short side to the tower's size, bicubic, centre crop."""
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
    """The ratio for which ``int(width * ratio)`` is the inner width."""
    ratio = inner / width
    return ratio if int(width * ratio) == inner else (inner + 0.5) / width


def check_sizes(model: Mapping[str, Any], source: str) -> None:
    """Raises ValueError naming the source when a tower's width or image size does not divide evenly."""
    for name in ("image_encoder", "text_encoder"):
        tower = model[name]
        pairs = [("width", "heads"), ("image_size", "patch_size")]
        if tower["_target_"] == RESNET:
            pairs = []
        elif tower["_target_"].endswith("SiglipVisionTransformer"):
            pairs = pairs[:1]  # this tower cuts off left-over pixels
        for size_key, divisor_key in pairs:
            size, divisor = tower.get(size_key), tower.get(divisor_key)
            if size is not None and divisor is not None and (divisor < 1 or size % divisor):
                raise ValueError(f"{source}: {name}: {size_key} {size} is not a multiple of {divisor_key} {divisor}")


def resized_transform(transform: Mapping[str, Any], old: int | None, new: int | None) -> dict[str, Any]:
    """The transform's config for a tower at another image size. Lengths before the crop are scaled in proportion."""
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
    """The config of CLIP's tokenizer. Raises ValueError for another vocabulary, since weight files do not contain one."""
    if vocab_size != 49_408:
        raise ValueError(
            f"{source}: a vocabulary of {vocab_size} entries is not CLIP's 49408, and the file does not say which "
            "tokenizer belongs to it"
        )
    return {"_target_": TOKENIZER, "context_length": context_length}


def lone_tower(keys: Iterable[str]) -> str | None:
    """What to say of a state dict that has one of the two towers of transformers; None of any other."""
    shown = {tower for key in keys for tower in ("vision_model", "text_model") if key.startswith(f"{tower}.")}
    if len(shown) != 1:
        return None
    (tower,) = shown
    other = "text_model" if tower == "vision_model" else "vision_model"
    return f"it holds one tower alone, {tower}; weights with {other} in them, too, are needed"


def renamed(
    names: Mapping[str, str], theirs: Mapping[str, Tensor], source: str, optional: Callable[[str], bool]
) -> dict[str, Tensor]:
    """``theirs`` under our names; ``names`` maps ours to theirs. Raises ValueError listing missing and extra keys."""
    missing = sorted(name for name in names.values() if name not in theirs and not optional(name))
    extra = sorted(theirs.keys() - set(names.values()))
    if missing and (lone := lone_tower(theirs)):
        raise ValueError(f"{source}: {lone}")
    if missing or extra:
        parts = [f"missing: {listed(missing)}"] if missing else []
        parts += [f"not known: {listed(extra)}"] if extra else []
        raise ValueError(f"{source}: the keys are not those of this architecture; {'; '.join(parts)}")
    return {our_name: theirs[their_name] for our_name, their_name in names.items() if their_name in theirs}


def load_exactly(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load every parameter and buffer. Raises ValueError listing tensors that are missing, extra or of another shape, and
    then loads nothing."""
    wanted = model.state_dict()
    missing, extra = sorted(wanted.keys() - state.keys()), sorted(state.keys() - wanted.keys())
    shapes = [
        f"{key} ({list(state[key].shape)} in the file, {list(wanted[key].shape)} in the model)"
        for key in wanted
        if key in state and wanted[key].shape != state[key].shape
    ]
    kinds = [
        f"{key} ({state[key].dtype} in the file)"
        for key in wanted
        if key in state and wanted[key].is_floating_point() and not state[key].is_floating_point()
    ]
    problems = [("missing", missing), ("not known", extra), ("other shapes", shapes), ("not floating point", kinds)]
    if any(keys for _, keys in problems):
        details = "; ".join(f"{what}: {listed(keys)}" for what, keys in problems if keys)
        raise ValueError(f"{source} does not fit the model; {details}")
    model.load_state_dict(dict(state))
