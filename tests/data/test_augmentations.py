"""Augmentation by torchvision's transforms: a function of (seed, epoch, index), and nothing else moves."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from cliplab.data.augmentations import Augmentations, BatchAugmentations
from cliplab.data.datamodule import CaptionDataModule
from cliplab.data.sources import caption_source
from cliplab.data.tokenizers import CLIPTokenizer
from cliplab.data.transforms import EvalTransform, TrainTransform

from .conftest import captions, picture

TRANSFORMS = {
    "colour": v2.ColorJitter(0.4, 0.4, 0.4, 0.1),
    "grey": v2.RandomGrayscale(0.5),
    "blur": v2.RandomApply([v2.GaussianBlur(5, (0.1, 2.0))], 0.5),
    "randaugment": v2.RandAugment(num_ops=2, magnitude=9),
    "flip": v2.RandomHorizontalFlip(),
}


def noise(size: int = 16) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, size, size), dtype=np.uint8))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_seed_alone_decides_and_the_global_state_stays(name: str) -> None:
    augment, image = Augmentations([TRANSFORMS[name]]), noise()
    before = torch.get_rng_state()
    first = [augment(image, seed) for seed in range(12)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    again = [augment(image, seed) for seed in reversed(range(12))]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert len({a.numpy().tobytes() for a in first}) > 1
    torch.manual_seed(5)
    assert torch.equal(TRANSFORMS[name](image), first[5]), "the same as torchvision's own under this seed"


def module(**options: Any) -> CaptionDataModule:
    rows = {"image": [picture(i) for i in range(12)], "text": [captions(i)[0] for i in range(12)]}
    source = caption_source(dataset=datasets.Dataset.from_dict(rows), cache_images=options.pop("cache_images", False))
    settings = {"batch_size": 4, "seed": 7, "tokenizer": CLIPTokenizer(32), "validation": None}
    transforms = {"train_transform": TrainTransform(16), "eval_transform": EvalTransform(16)}
    return CaptionDataModule(train=source, **{**settings, **transforms, **options})


def batches(**options: Any) -> list[torch.Tensor]:
    modules = module(**options)
    return [modules.on_after_batch_transfer(batch, 0).images for batch in modules.train_dataloader()]


def test_workers_and_device_do_not_change_it() -> None:
    strong = TrainTransform(16, flip=0.5, augmentations=list(TRANSFORMS.values()))
    reference, plain = batches(train_transform=strong), batches()
    for workers in (1, 2):
        assert all(map(torch.equal, batches(train_transform=strong, num_workers=workers), reference))
    assert not any(map(torch.equal, plain, reference))
    assert all(map(torch.equal, batches(train_transform=TrainTransform(16, augmentations=[])), plain))

    on_device = {"colour": BatchAugmentations(list(TRANSFORMS.values()))}
    whole = batches(augment=on_device, cache_images=True)
    halves = batches(augment=on_device, cache_images=True, batch_size=2)
    assert torch.equal(torch.cat(whole), torch.cat(halves)), "the others of a batch do not matter"
    assert not torch.equal(torch.cat(whole), torch.cat(batches(cache_images=True)))


def test_epochs_and_seeds_differ_on_the_device() -> None:
    augment, images = BatchAugmentations([v2.ColorJitter(0.5)]), noise()[None].repeat(3, 1, 1, 1)
    draws = [(1, 0), (1, 1), (2, 0)]
    out = [augment(images, seed=s, epochs=np.full(3, e), indices=np.arange(3)) for s, e in draws]
    assert len({x.numpy().tobytes() for batch in out for x in batch}) == 9


def test_mistakes_are_told() -> None:
    with pytest.raises(
        ValueError, match=r"augmentation Resize makes torch.uint8 \[3, 8, 8\] out of torch.uint8 \[3, 16"
    ):
        Augmentations([v2.Resize(8)])(noise(), 0)
    with pytest.raises(ValueError, match="cache_images keeps images unchanged"):
        module(cache_images=True, train_transform=TrainTransform(16, augmentations=[TRANSFORMS["grey"]]))


def test_contact_sheet_holds_what_the_towers_see() -> None:
    from cliplab.assembly.first_samples import Shown, page, picture_of, sheet

    image = noise()
    assert np.array_equal(np.asarray(picture_of(image)).transpose(2, 0, 1), image)
    assert np.array_equal(np.asarray(picture_of(image / 255)).transpose(2, 0, 1), image)
    samples = [Shown(picture_of(image), f"a <b> & {i} " + "long " * 60, i, 9) for i in range(9)]
    drawn = np.asarray(sheet(samples))
    assert np.array_equal(drawn[8 : 8 + 144 : 9, 8 : 8 + 144 : 9], np.asarray(samples[0].image))
    assert (drawn[160:180, 8:150] < 128).any(), "a caption stands below"
    written = page(samples, "t")
    assert written.count("<figure>") == 9
    assert "a &lt;b&gt; &amp; 3" in written


def test_command_writes_the_first_batch(tmp_path: Path) -> None:
    from cliplab.assembly.first_samples import first_samples

    rows = {"image": [picture(i) for i in range(12)], "text": [captions(i)[0] for i in range(12)]}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    transform = {"image_size": 16, "flip": 1.0}
    data = {
        "_target_": "cliplab.data.datamodule.CaptionDataModule",
        "train": {"_target_": "cliplab.data.sources.caption_source", "path": str(tmp_path)},
        "tokenizer": {"_target_": "cliplab.data.tokenizers.CLIPTokenizer", "context_length": 32},
        "train_transform": {"_target_": "cliplab.data.transforms.TrainTransform", **transform},
        "eval_transform": {"_target_": "cliplab.data.transforms.EvalTransform", "image_size": 16},
        "batch_size": 4096,
        "seed": 7,
    }
    shown = first_samples({"data": data}, 5)
    (expected, *_) = batches(batch_size=5, train_transform=TrainTransform(16, flip=1.0))
    assert len(shown) == 5
    for sample, image in zip(shown, expected, strict=True):
        assert np.array_equal(np.asarray(sample.image).transpose(2, 0, 1), image)
        assert sample.caption == captions(sample.number)[0]
