"""Ways to choose the next job that need no more than the space: all combinations, or draws at random."""

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from cliplab.rules import Count
from cliplab.sweeps.space import Choices, Numbers, Parameter, Space, SpaceError

Known = Callable[[str], str | None]  # the value of a key that is not varied


@dataclass(frozen=True)
class Draw:
    """One job as it was chosen: the values of what is varied, as they stand in overrides. ``folder`` is the name of its
    folder where it has one already. ``token`` is the method's own."""

    values: Mapping[str, str]
    folder: str | None = None
    token: object = None


@dataclass(frozen=True)
class Ended:
    """What a job ended with: a status of its manifest, and the metrics by which jobs are compared, or None without them."""

    status: str
    figures: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Setting:
    """What a method is told of its sweep."""

    space: Space
    folder: Path
    seed: int
    directions: tuple[str, ...]
    known: Known
    study: Mapping[str, str | None] = field(default_factory=dict)


class Method(Protocol):
    """Chooses the jobs of a sweep one after the other. It may be asked for several before it is told of any."""

    @property
    def total(self) -> int:
        """How many jobs there will be."""

    def next(self) -> Draw | None:
        """The next job, or None when there are no more."""

    def started(self, draw: Draw, folder: Path) -> None:
        """Called before a job begins to work in its folder."""

    def tell(self, draw: Draw, ended: Ended) -> None:
        """What a job ended with."""


class Listed:
    """Jobs that are known from the start."""

    def __init__(self, values: Sequence[Mapping[str, str]]) -> None:
        self.draws = [Draw(one) for one in values]
        self.total, self.left = len(self.draws), iter(self.draws)

    def next(self) -> Draw | None:
        return next(self.left, None)

    def started(self, draw: Draw, folder: Path) -> None:
        pass

    def tell(self, draw: Draw, ended: Ended) -> None:
        pass


class Grid:
    """Every combination of the values, the last parameter fastest."""

    def __call__(self, setting: Setting) -> Method:
        return Listed(list(combinations(setting.space, setting.known)))


class Seeds:
    """Every combination with each of the seeds 1 to ``trials``, unless seeds are typed."""

    def __init__(self, trials: Count) -> None:
        self.trials = trials

    def __call__(self, setting: Setting) -> Method:
        space = setting.space
        if "seed" not in space.keys:
            seeds = Parameter(
                "seed", Choices(tuple(str(1 + i) for i in range(self.trials))), f"range(1,{self.trials + 1})"
            )
            space = replace(space, parameters=(*space.parameters, seeds))
        return Listed(list(combinations(space, setting.known)))


class Random:
    """``trials`` draws at random. A draw depends on the seed and its number alone."""

    def __init__(self, trials: Count) -> None:
        self.trials = trials

    def __call__(self, setting: Setting) -> Method:
        space, known = setting.space, setting.known
        check_not_empty(space, "random")
        return Listed([drawn(space, known, random.Random(f"{setting.seed} {i}")) for i in range(self.trials)])


def check_not_empty(space: Space, method: str) -> None:
    """Raises SpaceError when nothing is varied."""
    if not space.parameters:
        raise SpaceError(
            f"sweep={method}: nothing is varied; type a range, as 'optimizer.lr=tag(log,interval(1e-4,1e-2))'"
        )


def combinations(space: Space, known: Known) -> Iterator[dict[str, str]]:
    """Every combination once: where a condition does not hold, its parameter is left out."""
    lists = [parameter.listed() for parameter in space.parameters]
    seen = set()
    for row in itertools.product(*lists):
        values: dict[str, str] = {}
        for parameter, value in zip(space.parameters, row, strict=True):
            if space.active(parameter, values, known):
                values[parameter.key] = value
        key = tuple(values.items())
        if key not in seen:
            seen.add(key)
            yield values


def drawn(space: Space, known: Known, source: random.Random) -> dict[str, str]:
    """Values at random, one parameter after the other."""
    values: dict[str, str] = {}
    for parameter in space.parameters:
        value = _random_value(parameter, source)  # drawn in any case, so that what follows does not hang on it
        if space.active(parameter, values, known):
            values[parameter.key] = value
    return values


def _random_value(parameter: Parameter, source: random.Random) -> str:
    domain = parameter.domain
    if isinstance(domain, Choices):
        return source.choice(domain.values)
    if domain.log:
        low, high = (domain.low - 0.5, domain.high + 0.5) if domain.whole else (domain.low, domain.high)
        value = math.exp(source.uniform(math.log(low), math.log(high)))
        return domain.text(min(max(round(value) if domain.whole else _short(value, domain), domain.low), domain.high))
    if domain.step is not None:
        return source.choice(parameter.listed())
    return domain.text(_short(source.uniform(domain.low, domain.high), domain))


def _short(value: float, domain: Numbers) -> float:
    """Six digits, which are read more easily, where they stay within the range."""
    short = float(f"{value:.6g}")
    return short if domain.low <= short <= domain.high else value
