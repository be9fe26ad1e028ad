"""A run ends by the first of its two limits, and a typed limit that does not end it is told."""

import math

import pytest

from cliplab.settings.length import length_of, note_on_limits


@pytest.mark.parametrize(
    ("epochs", "most", "steps", "ends_by"),
    [
        (3, -1, 600, "max_epochs=3"),
        (None, 50, 50, "max_steps=50"),
        (3, 50, 50, "max_steps=50"),
        (3, 601, 600, "max_epochs=3"),
    ],
)
def test_the_first_limit_ends_a_run(epochs: int | None, most: int, steps: int, ends_by: str) -> None:
    length = length_of({"max_epochs": epochs, "max_steps": most}, 200)
    assert (length.steps, str(length.first)) == (steps, f"trainer.{ends_by}")


def test_a_stream_without_a_length_ends_by_steps() -> None:
    assert length_of({"max_epochs": 3, "max_steps": 50}, math.inf).steps == 50


def test_a_typed_limit_that_does_not_end_the_run_is_told() -> None:
    length = length_of({"max_epochs": 3, "max_steps": 900}, 200)
    assert note_on_limits(length, ["trainer.max_steps"]) == (
        "trainer.max_steps: the run ends after 600 steps, by trainer.max_epochs=3, the first of two limits: "
        "trainer.max_steps=900 would allow 900"
    )
    assert note_on_limits(length, ["trainer.max_epochs"]) == ""
    assert note_on_limits(length_of({"max_epochs": 3, "max_steps": 600}, 200), ["trainer.max_steps"]) == ""
