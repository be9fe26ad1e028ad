"""Whatever a part raises while it is built is that part's config error, with its key."""

import pytest

from cliplab.settings.build import build
from cliplab.settings.config import ConfigError


class OwnError(Exception):
    """An error of a library of its own."""


RAISED = (TypeError, KeyError, AttributeError, AssertionError, ValueError, OSError, OwnError, SystemExit)


def fail(kind: str) -> None:
    raise next(error for error in RAISED if error.__name__ == kind)("the reason")


@pytest.mark.parametrize("kind", [error.__name__ for error in RAISED])
@pytest.mark.parametrize("inner", ["", "part"])
def test_any_error_while_building_names_its_key(kind: str, inner: str) -> None:
    failing = {"_target_": f"{__name__}.fail", "kind": kind}
    node = {"_target_": "builtins.dict", inner: failing} if inner else failing
    with pytest.raises(ConfigError, match="the reason") as told:
        build(node, "logger.own")
    passes_hydra = kind == "SystemExit"  # which then tells no part
    assert str(told.value).startswith("logger.own.part: " if inner and not passes_hydra else "logger.own: ")


def test_an_interrupt_is_none() -> None:
    with pytest.raises(KeyboardInterrupt):
        build({"_target_": f"{__name__}.interrupted"}, "logger.own")


def interrupted() -> None:
    raise KeyboardInterrupt
