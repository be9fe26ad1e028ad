"""Annotations of numbers, for the signatures of the classes that take them.

A command reads the annotations from the source code before it imports anything, and reports a value that does not fit.
"""

from dataclasses import dataclass
from math import inf
from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt


@dataclass(frozen=True)
class Begins:
    """Of a string: how it begins."""

    prefix: str


Count = Annotated[int, Ge(1)]
Natural = Annotated[int, Ge(0)]
Positive = Annotated[float, Gt(0), Lt(inf)]
NonNegative = Annotated[float, Ge(0), Lt(inf)]
Share = Annotated[float, Ge(0), Le(1)]
Decay = Annotated[float, Ge(0), Lt(1)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
TEMPLATES = ("plain", "simple", "openai_7", "openai_80")  # sets of prompts that go by a name
