"""Data modules over a source, the batches they give, and their comparison."""

from typing import Any

import torch

from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.loader import Batch
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform, TrainTransform


def data_module(source: Any, **options: Any) -> CaptionDataModule:
    settings = {"batch_size": 4, "seed": 7, "tokenizer": CLIPTokenizer(32), "validation": None, **options}
    transforms = {"train_transform": TrainTransform(16, scale=(0.5, 1.0)), "eval_transform": EvalTransform(16)}
    return CaptionDataModule(train=source, **transforms, **settings)


def epochs(source: Any, count: int = 1, **options: Any) -> list[Batch]:
    loader = data_module(source, **options).train_dataloader()
    return [batch for _ in range(count) for batch in loader]


def same(a: list[Batch], b: list[Batch]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert torch.equal(x.images, y.images)
        assert torch.equal(x.tokens.ids, y.tokens.ids)
        assert torch.equal(x.indices, y.indices)
