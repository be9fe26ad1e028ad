"""What a sweep varies: Hydra's grammar of sweeps, from the command line and from config files, as a space to draw from.

``1e-3,3e-3`` and ``choice(…)`` are choices, ``range(start, stop, step)`` are numbers in steps, ``interval(low, high)`` any
number between, ``int(interval(…))`` whole ones. ``tag(log, …)`` draws on a logarithmic scale. A tag ``'key=value'`` is a
condition: the parameter is varied only where ``key`` has that value, or one of ``'key=one|two'``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, IntervalSweep, Override, RangeSweep
from hydra.errors import HydraException

from cliplab.program import hydra_unquoted
from cliplab.text import one_line

LOG = "log"


class SpaceError(HydraException):
    """A space that cannot be searched, told in one line with its key."""


@dataclass(frozen=True)
class Choices:
    """Values as they stand in an override."""

    values: tuple[str, ...]


@dataclass(frozen=True)
class Numbers:
    """Numbers from ``low`` to ``high``, both included. ``step`` is None for any number between, and 1 or more where
    ``whole``."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False

    def text(self, value: float) -> str:
        """A value of this parameter as it stands in an override."""
        return str(int(value)) if self.whole else repr(float(value))


@dataclass(frozen=True)
class Parameter:
    """One key that is varied. ``conditions`` are (key, values) that must all hold; ``written`` is what was typed."""

    key: str
    domain: Choices | Numbers
    written: str
    conditions: tuple[tuple[str, tuple[str, ...]], ...] = ()

    def listed(self) -> tuple[str, ...]:
        """Its values one by one. Raises SpaceError for an interval."""
        if isinstance(self.domain, Choices):
            return self.domain.values
        low, high, step = self.domain.low, self.domain.high, self.domain.step
        if step is None:
            raise SpaceError(
                f"{self.key}: an interval is for a search, as sweep=tpe; a grid takes values, as {self.key}=1e-3,3e-3"
            )
        return tuple(self.domain.text(_plain(low + step * i)) for i in range(round((high - low) / step) + 1))


@dataclass(frozen=True)
class Space:
    """``parameters`` in the order of drawing: one comes after those that its conditions name. ``fixed`` are the overrides
    that every job has."""

    parameters: tuple[Parameter, ...]
    fixed: tuple[str, ...]

    def overrides(self, values: Mapping[str, str]) -> list[str]:
        """What one job gets: the fixed words, then the drawn ones."""
        return [*self.fixed, *(f"{key}={value}" for key, value in values.items())]

    def active(self, parameter: Parameter, values: Mapping[str, str], known: Callable[[str], str | None]) -> bool:
        """Whether its conditions hold. ``known`` tells the value of a key that is not varied."""
        for key, wanted in parameter.conditions:
            value = values[key] if key in values else None if key in self.keys else known(key)
            if value is None or hydra_unquoted(value) not in wanted:
                return False
        return True

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(p.key for p in self.parameters)


def read_space(typed: Sequence[str], from_files: Mapping[str, Any], loader: Any = None) -> Space:
    """The space of what was typed and of ``sweep.space``. What was typed for a key wins. ``loader`` is Hydra's config
    loader, which ``glob`` needs. Raises SpaceError."""
    parser = OverridesParser.create(config_loader=loader)
    typed_overrides = parser.parse_overrides(list(typed))
    taken = {o.get_key_element().lstrip("+~") for o in typed_overrides}
    files = [
        f"{key}={value}" for key, value in from_files.items() if key.lstrip("+") not in taken and value is not None
    ]
    try:
        filed = parser.parse_overrides(files)
    except HydraException as error:
        raise SpaceError(f"sweep.space: {one_line(error)}") from error
    words = [*filed, *typed_overrides]
    last = {o.get_key_element().lstrip("+~"): o for o in words}  # of a key that is typed twice
    swept = [o for o in last.values() if o.is_sweep_override() and not _one_value(o)]
    varied = {o.get_key_element().lstrip("+~") for o in swept}
    kept = [o for o in words if o.get_key_element().lstrip("+~") not in varied]
    fixed = [_word(o) for o in kept if not o.is_sweep_override() or last[o.get_key_element().lstrip("+~")] is o]
    return Space(_ordered(map(_parameter, swept)), tuple(fixed))


def _one_value(override: Override) -> bool:
    """Whether it is ``choice(0.9)``: a value that Hydra leaves to the jobs, and that does not vary."""
    sweep = override.value()
    return isinstance(sweep, ChoiceSweep) and not sweep.tags and len(sweep.list) == 1


def _word(override: Override) -> str:
    """A word that every job has."""
    if not override.is_sweep_override():
        return str(override.input_line)
    (value,) = override.sweep_string_iterator()
    return f"{override.get_key_element()}={value}"


def _parameter(override: Override) -> Parameter:
    key = override.get_key_element()
    sweep: Any = override.value()
    tags = sorted(getattr(sweep, "tags", ()))  # glob(…) has none
    conditions = tuple(_condition(key, tag) for tag in tags if tag != LOG)
    log = LOG in tags
    written = str(override.input_line).partition("=")[2]
    domain: Choices | Numbers
    if isinstance(sweep, IntervalSweep):
        assert sweep.start is not None
        assert sweep.end is not None
        whole = isinstance(sweep.start, int) and isinstance(sweep.end, int)
        domain = Numbers(sweep.start, sweep.end, step=1 if whole else None, log=log, whole=whole)
    elif isinstance(sweep, RangeSweep) and not sweep.shuffle:
        domain = _steps(key, [_plain(value) for value in override.sweep_iterator()], sweep, log)  # type: ignore[misc]
    else:
        values = tuple(dict.fromkeys(override.sweep_string_iterator()))
        if not values:
            raise SpaceError(f"{key}: {written} names no value")
        domain = Choices(values)
    if isinstance(domain, Numbers):
        _check_numbers(key, domain, written)
    elif log:
        raise SpaceError(f"{key}: choices have no scale; leave out log, or use tag(log, interval(…))")
    return Parameter(key, domain, written, conditions)


def _condition(key: str, tag: str) -> tuple[str, tuple[str, ...]]:
    name, equals, values = tag.partition("=")
    if not equals or not name.strip() or not values:
        raise SpaceError(
            f"{key}: the tag {tag!r} means nothing; there are log and conditions, as tag('optimizer=sgd',interval(0.8,0.9))"
        )
    return name.strip(), tuple(value.strip() for value in values.split("|"))


def _steps(key: str, values: list[float], sweep: RangeSweep, log: bool) -> Numbers:
    if not values:
        raise SpaceError(f"{key}: range({sweep.start}, {sweep.stop}, {sweep.step}) names no value; its end is left out")
    if len(values) == 1 and not all(float(end or 0).is_integer() for end in (sweep.start, sweep.stop)):
        raise SpaceError(
            f"{key}: range({sweep.start}, {sweep.stop}) goes in steps of {_plain(sweep.step)} and names {values[0]} alone; "
            f"for any number between write interval({sweep.start}, {sweep.stop})"
        )
    whole = all(isinstance(value, int) for value in values)
    return Numbers(min(values), max(values), step=abs(_plain(sweep.step)), log=log, whole=whole)


def _check_numbers(key: str, domain: Numbers, written: str) -> None:
    if domain.low > domain.high:
        raise SpaceError(f"{key}: {written} begins above its end; write the smaller number first")
    if domain.log and domain.low <= 0:
        raise SpaceError(f"{key}: {written} begins at {domain.low:g}, and a logarithm needs numbers above 0")
    if domain.log and domain.step is not None and not (domain.whole and domain.step == 1):
        raise SpaceError(
            f"{key}: {written}: log and steps exclude each other; use tag(log, interval(…)) or a list of values"
        )


def _plain(value: Any) -> Any:
    """A number without the noise of adding steps: 0.3 for 0.30000000000000004."""
    return value if isinstance(value, int) else float(f"{float(value):.12g}")


def _ordered(parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
    """Those that conditions name before those that have the conditions, else in the order given. Raises SpaceError when
    conditions go round in a circle."""
    waiting, found = list(parameters), list[Parameter]()
    while waiting:
        keys = {p.key for p in waiting}
        ready = [p for p in waiting if not any(key in keys for key, _ in p.conditions)]
        if not ready:
            raise SpaceError(f"{waiting[0].key}: its conditions depend on each other in a circle; leave one out")
        found += ready
        waiting = [p for p in waiting if p not in ready]
    return tuple(found)
