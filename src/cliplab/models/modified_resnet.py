"""The modified ResNet of CLIP (Radford et al. 2021, section 2.4)."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cliplab.models.encoders import ImageEncoder, ImageStates, check_image_size
from cliplab.models.layers import attend
from cliplab.rules import Count


class Bottleneck(nn.Module):
    """Bottleneck with an anti-aliased stride: every convolution has stride one, an average pool does the rest."""

    expansion = 4

    def __init__(self, inputs: int, width: Count, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        nn.init.zeros_(self.bn3.weight)  # each residual branch starts at zero
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride) if stride > 1 else nn.Identity(),
                nn.Conv2d(inputs, outputs, 1, bias=False),
                nn.BatchNorm2d(outputs),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.pool(F.relu(self.bn2(self.conv2(y))))
        return F.relu(self.bn3(self.conv3(y)) + self.shortcut(x))


class AttentionPool(nn.Module):
    """One attention layer with a single query: the mean of the feature map."""

    def __init__(self, grid: int, width: Count, heads: Count, output_dim: Count) -> None:
        super().__init__()
        self.heads = heads
        self.positional_embedding = nn.Parameter(torch.randn(grid**2 + 1, width) * width**-0.5)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, output_dim)
        for layer in (self.query, self.key, self.value, self.out):
            nn.init.normal_(layer.weight, std=width**-0.5)

    def forward(self, features: Float[Tensor, "batch width grid grid"]) -> Float[Tensor, "batch output_dim"]:
        x = features.flatten(2).mT  # [B, grid * grid, width]
        x = torch.cat([x.mean(1, keepdim=True), x], dim=1) + self.positional_embedding.to(x.dtype)
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, width / heads]
            for layer, y in ((self.query, x[:, :1]), (self.key, x), (self.value, x))
        )
        return self.out(attend(q, k, v, causal=False).transpose(1, 2).flatten(1))


class ModifiedResNet(ImageEncoder):
    """ResNet with a three-convolution stem, anti-aliased strides and attention pooling.

    ``forward`` maps normalised images ``[batch, 3, image_size, image_size]`` to ``[batch, output_dim]``. ``layers`` are
    the blocks of the four stages. The states are the grid before pooling; each covers 32 pixels. Raises ValueError when
    ``image_size`` is not a multiple of 32, or for images of another size.
    """

    def __init__(
        self, *, image_size: Count, layers: Sequence[Count], width: Count, heads: Count, output_dim: Count
    ) -> None:
        super().__init__()
        if image_size % 32:
            fitting = max(32, image_size // 32 * 32)
            raise ValueError(
                f"image_size {image_size} is not a multiple of 32; set model.image_encoder.image_size to {fitting}"
            )
        if len(layers) != 4:
            raise ValueError(f"layers {list(layers)} must name four stages, such as [3, 4, 6, 3]")
        self.image_size, self.output_dim = image_size, output_dim
        half = width // 2
        self.stem = nn.Sequential(
            *self._conv(3, half, 2), *self._conv(half, half, 1), *self._conv(half, width, 1), nn.AvgPool2d(2)
        )
        stages, inputs = [], width
        for i, blocks in enumerate(layers):
            stage = []
            for j in range(blocks):
                stage.append(Bottleneck(inputs, width * 2**i, stride=2 if i > 0 and j == 0 else 1))
                inputs = width * 2**i * Bottleneck.expansion
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.pool = AttentionPool(image_size // 32, inputs, heads, output_dim)
        self.state_width = inputs

    @staticmethod
    def _conv(inputs: int, outputs: int, stride: int) -> tuple[nn.Module, ...]:
        conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        return conv, nn.BatchNorm2d(outputs), nn.ReLU()

    def layers(self) -> list[nn.Module]:
        """The bottlenecks of all stages."""
        return [block for stage in self.stages for block in stage]  # type: ignore[attr-defined]

    def layer_groups(self) -> list[list[nn.Parameter]]:
        """Parameters from input to output: stem, each stage, attention pooling with its projection."""
        return [list(part.parameters()) for part in (self.stem, *self.stages, self.pool)]

    def _features(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch channels rows columns"]:
        check_image_size(images, self.image_size)
        if images.device.type == "cuda":  # its convolutions in half precision are made for channels that vary fastest
            images = images.contiguous(memory_format=torch.channels_last)
        return self.stages(self.stem(images))

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch output_dim"]:
        return self.pool(self._features(images))

    def forward_states(self, images: Float[Tensor, "batch 3 height width"]) -> ImageStates:
        features = self._features(images)
        return ImageStates(features.permute(0, 2, 3, 1), self.pool(features))
