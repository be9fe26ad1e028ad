"""A batch from which nothing can be learned is told, in a sentence that names the key."""

import pytest
import torch

from cliplab.training.callbacks.batches import WatchFirstBatch, batch_problem, file_problem, picture_problem


def captions(*counts: int) -> list[str]:
    return [f"caption {i}" for i, count in enumerate(counts) for _ in range(count)]


@pytest.mark.parametrize(
    ("counts", "key", "words"),
    [
        ((1,), "data.batch_size is 1:", "nothing to tell apart"),
        ((7,), "data.train:", "same caption"),
        ((11, 11, 11), "data.batch_size:", "only 3 different ones, one of them 11 times"),
        ((30, 1, 1), "data.batch_size:", "at most 9% of a batch can come out right; lower it to 3, "),
        ((25,) * 10, "data.batch_size:", "objective=clip_grouped"),
    ],
)
def test_repeats_are_told(counts: tuple[int, ...], key: str, words: str) -> None:
    texts = captions(*counts)
    told = batch_problem(texts, list(range(len(texts))), grouped=False)
    assert told.startswith(key)
    assert words in told
    assert "\n" not in told


@pytest.mark.parametrize("counts", [(1,) * 8, (2,) * 8, (1, 1, 2, 4), (1, 1)])
def test_a_few_repeats_are_what_real_captions_have(counts: tuple[int, ...]) -> None:
    texts = captions(*counts)
    assert batch_problem(texts, list(range(len(texts))), grouped=False) == ""


def test_groups_take_repeats_in() -> None:
    texts = captions(11, 11, 11)
    of_caption = [hash(text) for text in texts]
    assert batch_problem(texts, of_caption, grouped=True) == ""
    assert "Equal captions of different groups" in batch_problem(texts, list(range(33)), grouped=True)
    assert batch_problem(captions(*[1] * 9), [4] * 9, grouped=True).startswith(
        "data.train.group_column: all 9 pictures"
    )


def test_pictures_that_are_all_the_same_are_told() -> None:
    noise = torch.rand(1, 3, 4, 4).expand(5, 3, 4, 4)
    assert picture_problem(noise).startswith("data.train: all 5 pictures of the first batch are the same picture")
    black = torch.zeros(5, 3, 4, 4, dtype=torch.uint8)
    assert "are of one and the same colour" in picture_problem(black)
    black[3, 0, 0, 0] = 1
    assert picture_problem(black) == ""
    assert picture_problem(noise[:1]) == ""


def test_augmented_pictures_of_one_file_are_told_and_reading_ends_at_another() -> None:
    read = list[int]()

    def file_of(index: int) -> bytes | None:
        read.append(index)
        return {7: b"other", 9: None}.get(index, b"same")

    assert file_problem([3, 1, 2], file_of).startswith(
        "data.train: all 3 pictures of the first batch are the same file"
    )
    read.clear()
    assert file_problem([3, 7, 1, 2], file_of) == ""
    assert read == [3, 7]
    assert file_problem([9, 9], file_of) == ""
    assert file_problem([3], file_of) == ""


def test_a_resumed_run_still_reports_its_first_batch() -> None:
    first, resumed = WatchFirstBatch(), WatchFirstBatch()
    first.problem = "data.train: all 7 pictures …"
    resumed.load_state_dict(first.state_dict())
    assert resumed.facts() == {"first_batch": first.problem}
    assert WatchFirstBatch().facts() == {}
