"""Activation checkpointing: layers keep their input and compute the rest again for the backward pass."""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cliplab.models.clip import CLIP


def checkpoint_layers(layers: Sequence[nn.Module], every: int) -> None:
    """Let the first of every ``every`` layers keep only its input for the backward pass, which computes it again.

    Values and gradients stay the same. Dropout draws the same numbers again, and running statistics are updated once.
    The names of parameters and the classes of modules stay as they are. A layer is computed as before where no gradient
    can reach it: without gradients, and where the layer and all that comes before it are frozen. Source: Chen et al.
    2016, "Training deep nets with sublinear memory cost".
    """
    for layer in layers[::every]:
        layer.forward = functools.partial(checkpointed, layer, layer.forward)  # type: ignore[method-assign]


def checkpoint_towers(model: CLIP, every: int) -> None:
    """``checkpoint_layers`` in both towers; 0 does nothing. Raises ValueError when no tower tells its layers."""
    towers = (model.image_encoder.layers(), model.text_encoder.layers())
    if every and not any(towers):
        raise ValueError("trainer.activation_checkpointing: neither tower tells its blocks; set it to none")
    for layers in towers if every else ():
        checkpoint_layers(layers, every)


def checkpointed(layer: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """``forward(*args, **kwargs)``, computed again for the backward pass. ``layer`` holds all of its parameters and buffers
    that change. See ``checkpoint_layers``."""
    if not (torch.is_grad_enabled() and _has_gradient(layer, args, kwargs)):
        return forward(*args, **kwargs)
    if any(True for _ in layer.buffers()):
        kwargs["context_fn"] = lambda: (nullcontext(), _buffers_left_alone(layer))
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def _has_gradient(layer: nn.Module, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    inputs = (value for value in (*args, *kwargs.values()) if isinstance(value, Tensor))
    return any(tensor.requires_grad for tensor in (*inputs, *layer.parameters()))


@contextmanager
def _buffers_left_alone(layer: nn.Module) -> Iterator[None]:
    """Give the layer copies of its buffers, so that batch norm does not count a batch twice."""
    kept = [(module, dict(module._buffers)) for module in layer.modules() if module._buffers]
    for module, buffers in kept:
        module._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
    try:
        yield
    finally:
        for module, buffers in kept:
            module._buffers.update(buffers)
