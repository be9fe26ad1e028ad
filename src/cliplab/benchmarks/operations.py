"""Floating-point operations that a model needs, forward and backward."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from cliplab.benchmarks.contenders import Contender
from cliplab.benchmarks.setting import Setting
from cliplab.models.text_transformer import TextTransformer

ATTENTION = ("bmm", "baddbmm", "scaled_dot_product", "flash_attention", "efficient_attention", "varlen_attn")


def counted(tower: Callable[[Any], Tensor], inputs: Any, setting: Setting) -> dict[str, int]:
    """Operations by name of a tower and of the gradient of its output: matrix products, convolutions, attention."""
    with FlopCounterMode(display=False) as counter:
        with setting.autocast():
            out = tower(inputs)
        out.float().sum().backward()
    return {str(name): count for name, count in counter.get_flop_counts()["Global"].items()}


def image_operations(contender: Contender, setting: Setting) -> int:
    found = counted(contender.image, contender.load().images, setting)
    contender.optimizer.zero_grad(set_to_none=True)
    return sum(found.values())


def text_operations(contender: Contender, setting: Setting, lengths: Tensor) -> int:
    """Of our text tower.

    For CLIP's own tower, attention is counted by the real length of each text, whatever was padded for it: two products of
    ``length**2 * width`` multiplications in each layer, thrice with the gradient.
    """
    tower: Any = contender.model.text_encoder
    found = counted(contender.text, contender.load().texts, setting)
    contender.optimizer.zero_grad(set_to_none=True)
    if not isinstance(tower, TextTransformer):
        return sum(found.values())
    rest = sum(count for name, count in found.items() if not any(part in name for part in ATTENTION))
    return rest + attention_operations(len(tower.blocks), tower.state_width, lengths)


def attention_operations(layers: int, width: int, lengths: Tensor) -> int:
    """Of attention over texts of these lengths, with the gradient."""
    return 3 * layers * 4 * width * int(lengths.double().square().sum())


def logit_operations(batch: int, width: int) -> int:
    """Of one product of all images and all texts, with the gradient."""
    return 3 * 2 * batch**2 * width
