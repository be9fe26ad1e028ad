"""Captions for a dictionary: always the same, from any kind of source, without a picture."""

from pathlib import Path

import pytest

from cliplab.data.reading import training_captions
from cliplab.data.sources import caption_source, own_mixture

from .conftest import ROWS

CAPTIONS = 2 * ROWS  # each picture has two
STREAM = {"streaming": True, "shuffle_buffer": 4, "parts": 2, "samples_per_epoch": 8}


@pytest.mark.parametrize("layout", ["arrow", "webdataset", "parquet_of_images"])
@pytest.mark.parametrize("options", [{}, STREAM], ids=["rows", "stream"])
def test_every_caption_once_in_one_order(layouts: dict[str, Path], layout: str, options: dict) -> None:
    source = caption_source(path=str(layouts[layout]), **options)
    captions = list(training_captions(source, 1000))
    assert captions == list(training_captions(source, 1000))
    assert len(captions) == len(set(captions)) == CAPTIONS
    few = list(training_captions(source, 3))
    assert len(few) == 3
    assert set(few) < set(captions)


def test_a_mixture_gives_an_equal_share_of_each_source(layouts: dict[str, Path]) -> None:
    paths = {"a": str(layouts["arrow"]), "b": str(layouts["webdataset"])}
    for streaming in (False, True):
        source = own_mixture(sources=paths, streaming=streaming, samples_per_epoch=8)
        assert len(list(training_captions(source, 6))) == 6
        assert len(list(training_captions(source, 1000))) == 2 * CAPTIONS
