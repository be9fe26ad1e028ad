"""Signatures read from source files are those of the imported classes, and nothing is imported for them."""

import inspect
import subprocess
import sys
import textwrap
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import hydra
import pytest
import yaml
from annotated_types import Ge

from cliplab.cli.places import config_dir
from cliplab.rules import Count, Share
from cliplab.settings.annotations import fits, problem
from cliplab.settings.check_targets import check_package
from cliplab.settings.config import ConfigError
from cliplab.settings.signatures import NotThere, imported_signature, read_signature


def configured_targets() -> list[str]:
    def walk(node: Any) -> typing.Iterator[str]:
        if isinstance(node, dict):
            if "_target_" in node:
                yield node["_target_"]
            for value in node.values():
                yield from walk(value)

    files = [yaml.safe_load(path.read_text(encoding="utf8")) for path in config_dir().rglob("*.yaml")]
    return sorted({target for file in files for target in walk(file)})


OTHERS = ["torch.optim.SGD", "torch.nn.Linear", "timm.optim.Lamb", "lightning.pytorch.strategies.FSDPStrategy"]


@pytest.mark.parametrize("target", [*configured_targets(), *OTHERS])
def test_what_is_read_is_what_is_imported(target: str) -> None:
    read = read_signature(target)
    if read is None:
        pytest.skip("its source is not simple")
    imported = imported_signature(hydra.utils.get_object(target))
    assert list(read.parameters) == list(imported.parameters)
    for name, parameter in read.parameters.items():
        assert parameter.required == imported.parameters[name].required, name
        for value in (0, 1, 2.5, -1, "x", True, None, [1], ["a", 2]):
            hint = imported.parameters[name].annotation
            if hint is not Any and fits(value, hint):
                assert fits(value, parameter.annotation), (name, value)


def test_ours_are_all_read() -> None:
    unread = [
        t for t in configured_targets() if t.startswith(("cliplab.", "torch.", "lightning.")) and not read_signature(t)
    ]
    assert unread == []


def test_nothing_is_imported() -> None:
    program = f"""
        import sys
        from cliplab.settings.signatures import read_signature
        for target in {configured_targets()!r}:
            for parameter in getattr(read_signature(target), "parameters", {{}}).values():
                parameter.annotation
        assert not {{"torch", "lightning", "datasets", "transformers"}} & set(sys.modules), "imported"
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nowhere.X", "there is no package 'nowhere'"),
        ("cliplab.models.clap.CLAP", "there is no 'clap' in cliplab.models"),
        ("cliplab.models.clip.CLAP", "there is no 'CLAP' in cliplab.models.clip"),
        ("torch.optim.AdamZ", "there is no 'AdamZ' in torch.optim"),
    ],
)
def test_what_is_not_there_is_told(target: str, message: str) -> None:
    with pytest.raises(NotThere, match=message):
        read_signature(target)


SOURCE = '''
from dataclasses import dataclass
from typing import NamedTuple
from pathlib import Path as P
import typing as t
from annotated_types import Ge
from cliplab.rules import Count
from .other import Kind, Base, decorated, SIDES, takes_fields

Alias = t.Optional[Count]

class Ours(Base):
    """Takes what its base takes."""

class Named(NamedTuple):
    side: Alias
    path: P | str = "x"

@dataclass(frozen=True)
class Fields:
    kind: Kind
    side: "t.Annotated[int, Ge(3)]" = 3

@dataclass(kw_only=True)
class More(Fields):
    depth: Count | None = None

@takes_fields(More)
def opened(settings: More) -> int: ...

class Made:
    needs_package = "no_such_package"
    @classmethod
    def of(cls, side: Count, *, sides: SIDES = (1, 2), **more): ...
    def __init__(self, kind: Kind | None = None): ...

@decorated
def hidden(anything): ...

class Meta(metaclass=type):
    def __init__(self, x): ...
'''
OTHER = """
from collections.abc import Sequence
from typing import Literal
from cliplab.rules import Share
Kind = Literal["a", "b"]
SIDES = Sequence[Share]
class Base:
    def __init__(self, *, side: int, unknown: "Missing" = 3): ...
def decorated(function):
    return lambda: function(1)
def takes_fields(settings): ...
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"p{abs(hash(tmp_path))}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("from .things import *\nfrom .things import Ours as Renamed\n")
    (tmp_path / name / "things.py").write_text(SOURCE)
    (tmp_path / name / "other.py").write_text(OTHER)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def taken(target: str) -> dict[str, tuple[Any, bool]]:
    signature = read_signature(target)
    assert signature is not None
    return {name: (p.annotation, p.required) for name, p in signature.parameters.items()}


def test_a_users_own_classes_are_read(package: str) -> None:
    base = {"side": (int, True), "unknown": (Any, False)}
    assert taken(f"{package}.things.Ours") == taken(f"{package}.Ours") == taken(f"{package}.Renamed") == base
    assert taken(f"{package}.things.Named") == {"side": (Count | None, True), "path": (Path | str, False)}
    fields = {"kind": (Literal["a", "b"], True), "side": (Annotated[int, Ge(3)], False)}
    assert taken(f"{package}.things.Fields") == fields
    more = {**fields, "depth": (Count | None, False)}
    assert taken(f"{package}.things.More") == taken(f"{package}.things.opened") == more
    assert taken(f"{package}.things.Made") == {"kind": (Literal["a", "b"] | None, False)}
    assert taken(f"{package}.things.Made.of") == {"side": (Count, True), "sides": (Sequence[Share], False)}
    assert read_signature(f"{package}.things.Made.of").open_ended  # type: ignore[union-attr]
    assert not any(name.startswith(package) for name in sys.modules)


@pytest.mark.parametrize("name", ["hidden", "Meta", "Made.nothing", "Alias"])
def test_what_is_not_simple_is_left_to_the_import(name: str, package: str) -> None:
    assert read_signature(f"{package}.things.{name}") is None


def test_a_package_that_is_missing_is_told_with_its_pip_line(package: str) -> None:
    needed = read_signature(f"{package}.things.Made").needs_package  # type: ignore[union-attr]
    with pytest.raises(
        ConfigError, match=r"^index: Made needs the package no_such_package, .*; pip install no_such_package$"
    ):
        check_package("index", needed, "Made")


@pytest.mark.parametrize(
    ("value", "wanted", "message"),
    [
        (0, Count, "0 must be 1 or more"),
        (0, Count | Literal[-1] | None, "0 must be 1 or more, or -1"),
        ("ten", Count | None, "'ten' is not an int; it must be 1 or more"),
        ([1, 0], Sequence[Count], "[1, 0] must be 1 or more"),
        ([0.5, 2], tuple[Share, Share], "[0.5, 2] must be between 0 and 1, 2 of them"),
        (True, int, "True is not an int"),
        ("c", Literal["a", "b"] | None, "'c' is not a choice; the choices are a, b"),
        ("fast", float, "'fast' is not a float, which X asks for"),
        ({"a": "x"}, dict[str, float], "{'a': 'x'} is not a dict[str, float]"),
        ("x", inspect.Signature, "'x' is not a Signature"),
    ],
)
def test_a_value_that_does_not_fit_is_told(value: Any, wanted: Any, message: str) -> None:
    assert str(problem(value, wanted, "X")).startswith(message)


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, Count | None),
        (1, float),
        (-1, Count | Literal[-1]),
        ({}, inspect.Signature),
        ("x", Any),
        (["a"], Sequence[str]),
    ],
)
def test_a_value_that_fits_passes(value: Any, wanted: Any) -> None:
    assert problem(value, wanted) is None
