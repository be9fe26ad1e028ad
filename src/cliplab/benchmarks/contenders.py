"""Our model and its peers with the same weights, each reading the same batch in the form that its own users give it."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from cliplab.benchmarks.batch import MadeBatch
from cliplab.benchmarks.setting import Setting
from cliplab.checkpoints.open_clip import to_model_cfg
from cliplab.checkpoints.openai import to_openai
from cliplab.models.clip import CLIP, EMBEDS, Encoded
from cliplab.objectives.objective import Objective
from cliplab.optim.param_groups import ParameterGroup, build_optimizer, parameter_groups
from cliplab.settings.build import build
from cliplab.settings.config import ConfigError

OURS = "cliplab"
Peer = Literal["open_clip", "transformers"]


class Inputs(NamedTuple):
    """A batch on the device: what the image tower takes, what the text tower takes, and our batch for the objective."""

    images: Tensor
    texts: Any
    batch: MadeBatch


class Contender(NamedTuple):
    """A model, ``load``: its batch to the device, both towers (unit vectors), the loss of embeddings, and the optimizer."""

    model: nn.Module
    load: Callable[[], Inputs]
    image: Callable[[Any], Tensor]
    text: Callable[[Any], Tensor]
    loss: Callable[[Tensor, Tensor, MadeBatch], Tensor]
    optimizer: Optimizer

    def held(self) -> list[Tensor]:
        """What stays in memory between steps: weights, buffers, and the state of the optimizer."""
        states = [x for state in self.optimizer.state.values() for x in state.values() if isinstance(x, Tensor)]
        return [*self.model.parameters(), *self.model.buffers(), *states]


def built_objective(config: Mapping[str, Any], model: CLIP) -> Objective:
    """Raises ConfigError for an objective that reads more than embeddings: its parts cannot be timed apart."""
    objective: Objective = build(config["objective"], "objective")
    if not objective.reads <= EMBEDS:
        raise ConfigError(
            "objective: task=benchmark measures objectives of embeddings; choose objective=clip or siglip"
        )
    objective.build_heads(model)
    return objective


def _sent(x: Tensor, setting: Setting) -> Tensor:
    return x.to(setting.device, non_blocking=setting.device.type == "cuda")


def ours(config: Mapping[str, Any], batch: MadeBatch, setting: Setting, model: CLIP) -> Contender:
    """cliplab: uint8 pixels, and texts without padding."""
    objective = built_objective(config, model)
    for module in (model, objective) if setting.device.type != "cpu" else ():
        module.to(setting.device)
    optimizer = build_optimizer(build(config["optimizer"], "optimizer"), parameter_groups(model, objective))

    def load() -> Inputs:
        there = MadeBatch(_sent(batch.images, setting), batch.tokens.to(setting.device), _sent(batch.groups, setting))
        return Inputs(there.images, there.tokens, there)

    def loss(image_embeds: Tensor, text_embeds: Tensor, there: MadeBatch) -> Tensor:
        encoded = Encoded(image_embeds, text_embeds, model.logit_scale.float().exp(), model.logit_bias)
        return objective(encoded, there).loss

    return Contender(model, load, model.encode_image, model.encode_text, loss, optimizer)


def recipe_groups(model: nn.Module) -> list[ParameterGroup]:
    """A peer's parameters as our optimizers take them: matrices, and what does not decay."""
    vectors = [p for p in model.parameters() if p.ndim < 2]
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    return [
        ParameterGroup(params=matrices, name="matrices", role="outer", lr_scale=1.0),
        ParameterGroup(params=vectors, name="vectors", role="vectors", lr_scale=1.0, weight_decay=0.0),
    ]


def padded(batch: MadeBatch, length: int) -> Tensor:
    """Token ids in ``length`` columns, as open_clip's tokenizer makes them."""
    return F.pad(batch.tokens.ids, (0, length - batch.tokens.ids.shape[1]))


def open_clip_twin(config: Mapping[str, Any], model: CLIP) -> nn.Module:
    """open_clip's own model with the same weights. ``config`` is that of the model."""
    import open_clip

    twin = open_clip.model.CLIP(**to_model_cfg(config))
    twin.load_state_dict(to_openai(config, model.state_dict()))
    return twin


class _Peer(NamedTuple):
    """A peer before it moves to the device: its model, its texts on the CPU, and how to call it."""

    model: nn.Module
    texts: dict[str, Tensor]
    image: Callable[[Tensor], Tensor]
    text: Callable[[dict[str, Tensor]], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]


def _open_clip(config: Mapping[str, Any], batch: MadeBatch, model: CLIP, compiled: bool) -> _Peer:
    """Texts in as many columns as the context is long, as its tokenizer makes them."""
    from open_clip import ClipLoss

    twin: Any = open_clip_twin(config, model)
    image, text = twin.encode_image, twin.encode_text
    if compiled:
        image, text = torch.compile(image), torch.compile(text)
    ids = {"ids": padded(batch, config["text_encoder"]["context_length"])}
    return _Peer(
        twin,
        ids,
        lambda pixels: image(pixels, normalize=True),
        lambda texts: text(texts["ids"], normalize=True),
        lambda image_embeds, text_embeds: ClipLoss()(image_embeds, text_embeds, twin.logit_scale.exp()),
    )


def _transformers(config: Mapping[str, Any], batch: MadeBatch, model: CLIP, compiled: bool) -> _Peer:
    """Texts as long as the longest, with an attention mask, as its processor makes them."""
    from cliplab.checkpoints.huggingface import library_model

    twin: Any = library_model(config, model.state_dict())

    def image(pixels: Tensor) -> Tensor:
        return F.normalize(twin.visual_projection(twin.vision_model(pixels).pooler_output), dim=-1)

    def text(texts: dict[str, Tensor]) -> Tensor:
        return F.normalize(twin.text_projection(twin.text_model(**texts).pooler_output), dim=-1)

    real = torch.arange(batch.tokens.ids.shape[1]) < batch.tokens.lengths.unsqueeze(1)
    texts = {"input_ids": batch.tokens.ids, "attention_mask": real.long()}

    def loss(image_embeds: Tensor, text_embeds: Tensor) -> Tensor:
        logits = twin.logit_scale.exp() * text_embeds @ image_embeds.T
        labels = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2

    if compiled:
        return _Peer(twin, texts, torch.compile(image), torch.compile(text), loss)
    return _Peer(twin, texts, image, text, loss)


PEERS: dict[str, Callable[[Mapping[str, Any], MadeBatch, CLIP, bool], _Peer]] = {
    "open_clip": _open_clip,
    "transformers": _transformers,
}


def peer_of(name: str, config: Mapping[str, Any], batch: MadeBatch, setting: Setting, model: CLIP) -> Contender | None:
    """The peer with the weights of ``model``, which is on the CPU; None where it is not installed, or has no such towers.

    It gets float pixels, normalised beforehand, and our optimizer; its loss is its own, in float32.
    """
    if importlib.util.find_spec(name) is None:
        return None
    try:
        peer = PEERS[name](config["model"], batch, model, bool(config["compile"]))
    except ValueError:  # it cannot express these towers
        return None
    twin = peer.model.to(setting.device).train()
    with torch.no_grad():
        pixels = model.normalised(batch.images)
    if setting.device.type == "cuda":
        pixels = pixels.pin_memory()
    optimizer = build_optimizer(build(config["optimizer"], "optimizer"), recipe_groups(twin))

    def load() -> Inputs:
        texts = {name: _sent(x, setting) for name, x in peer.texts.items()}
        return Inputs(_sent(pixels, setting), texts, batch)

    def loss(image_embeds: Tensor, text_embeds: Tensor, there: MadeBatch) -> Tensor:
        with torch.autocast(setting.device.type, enabled=False):
            return peer.loss(image_embeds.float(), text_embeds.float())

    return Contender(twin, load, peer.image, peer.text, loss, optimizer)
