"""The evaluation transform to the bit; the training crop next to Pillow's; augmentation by (seed, epoch, sample) alone."""

import numpy as np
import open_clip
import pytest
import torch
from matplotlib import cbook
from PIL import Image

from cliplab.data.images import decode_image
from cliplab.data.order import epoch_permutation, uniforms
from cliplab.data.transforms import BatchAffine, EvalTransform, FitTransform, TrainTransform

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def photograph(width: int, height: int) -> Image.Image:
    """Smooth shapes with noise on top."""
    rng = np.random.default_rng(width * height)
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / (5 + 9 * c) + y / (17 - 4 * c)) for c in range(3)]
    pixels = 127 + 90 * np.stack(waves, -1) + rng.normal(0, 20, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    "size", [(500, 375), (375, 500), (224, 224), (225, 224), (31, 700), (1, 1), (301, 223)], ids=str
)
def test_evaluation_transform_is_open_clips_to_the_bit(size: tuple[int, int]) -> None:
    image = photograph(*size)
    theirs = open_clip.image_transform(224, is_train=False, mean=MEAN, std=STD)(image)
    ours = EvalTransform(224)(image)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    assert ours.dtype == torch.uint8
    assert torch.equal((ours.float() / 255 - mean) / std, theirs)


@pytest.mark.parametrize("size", [64, 224, 336])
@pytest.mark.parametrize("file", ["grace_hopper.jpg", "Minduka_Present_Blue_Pack.png"])
def test_evaluation_transform_is_open_clips_on_real_pictures(file: str, size: int) -> None:
    """The photograph and the drawing that matplotlib brings along, from the file to the normalised tensor."""
    path = cbook.get_sample_data(file, asfileobj=False)
    image = decode_image(path)
    theirs = open_clip.image_transform(size, is_train=False, mean=MEAN, std=STD)(image)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    assert torch.equal((EvalTransform(size)(image).float() / 255 - mean) / std, theirs)
    if file.endswith(".jpg"):  # no transparency: the whole way is open_clip's
        assert torch.equal(
            open_clip.image_transform(size, is_train=False, mean=MEAN, std=STD)(Image.open(path)), theirs
        )


@pytest.mark.parametrize("size", [(500, 375), (120, 90), (40, 40)], ids=str)
def test_training_crop_is_within_one_grey_level_of_pillows_but_for_rare_pixels(size: tuple[int, int]) -> None:
    image, transform = photograph(*size), TrainTransform(64, scale=(0.3, 1.0))
    for seed in range(5):
        left, top, width, height = transform._crop(*size, np.random.default_rng(seed))
        assert 0 <= left <= size[0] - width
        assert 0 <= top <= size[1] - height
        box = (left, top, left + width, top + height)
        expected = np.asarray(image.crop(box).resize((64, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        got = transform(np.asarray(image), np.random.default_rng(seed)).numpy()
        difference = np.abs(got.astype(int) - expected.astype(int))
        assert (difference <= 1).mean() > 0.998
        assert difference.max() <= 4  # noise at full contrast, where the two round between their passes otherwise


def test_crop_area_and_aspect_lie_in_their_ranges() -> None:
    transform = TrainTransform(8, scale=(0.5, 0.8), ratio=(0.8, 1.25))
    for seed in range(200):
        _, _, width, height = transform._crop(400, 300, np.random.default_rng(seed))
        assert 0.49 < width * height / 120_000 < 0.81
        assert 0.78 < width / height < 1.28


def test_flip_is_certain_or_never() -> None:
    image = np.asarray(photograph(20, 20))
    plain, flipped = (
        TrainTransform(20, scale=(1, 1), ratio=(1, 1), flip=chance)(image, np.random.default_rng(0))
        for chance in (0, 1)
    )
    assert torch.equal(plain.flip(2), flipped)
    assert not torch.equal(plain, flipped)


def test_scale_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scale \[0.9, 1.2\] must be two shares"):
        TrainTransform(8, scale=(0.9, 1.2))


def batch() -> torch.Tensor:
    return torch.stack([EvalTransform(24)(photograph(30 + i, 30)) for i in range(4)])


def test_affine_without_strength_changes_nothing() -> None:
    images = batch()
    out = BatchAffine()(images, seed=1, epochs=np.zeros(4, int), indices=np.arange(4))
    torch.testing.assert_close(out, images.float() / 255, rtol=0, atol=1e-5)


def test_affine_brings_in_white_and_depends_on_the_sample_alone() -> None:
    affine, images, indices = BatchAffine(shift=0.4, zoom=0.2, rotation=20), batch(), np.array([5, 9, 2, 7])
    black = affine(torch.zeros_like(images), seed=1, epochs=np.zeros(4, int), indices=indices)
    assert float(black.max()) == pytest.approx(1)
    out = affine(images, seed=1, epochs=np.zeros(4, int), indices=indices)
    order = [2, 0, 3, 1]
    torch.testing.assert_close(
        affine(images[order], seed=1, epochs=np.zeros(4, int), indices=indices[order]), out[order]
    )
    for seed, epochs in ((2, np.zeros(4, int)), (1, np.ones(4, int))):
        assert (affine(images, seed=seed, epochs=epochs, indices=indices) - out).abs().max() > 0.1


def test_draws_are_uniform_and_keyed() -> None:
    drawn = uniforms(3, 1, np.arange(20_000), 2)
    assert drawn.min() >= 0
    assert drawn.max() < 1
    assert drawn.mean(0) == pytest.approx([0.5, 0.5], abs=0.01)
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.03
    assert np.array_equal(uniforms(3, 1, np.array([17]), 2)[0], drawn[17])
    assert sorted(epoch_permutation(50, 3, 1)) == list(range(50))
    assert not np.array_equal(epoch_permutation(50, 3, 1), epoch_permutation(50, 3, 2))


@pytest.mark.parametrize("size", [(1, 300), (300, 1)])
def test_a_picture_one_pixel_thin_is_a_line_between_borders(size: tuple[int, int]) -> None:
    pixels = FitTransform(32, fill=7)(Image.new("RGB", size, "white"))
    assert (pixels == 255).sum() == 3 * 32
    assert (pixels == 7).sum() == 3 * 31 * 32
