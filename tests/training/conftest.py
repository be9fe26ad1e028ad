"""Lightning's words about itself are left out."""

import logging

import pytest


@pytest.fixture(autouse=True)
def _quiet(recwarn: pytest.WarningsRecorder) -> None:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
