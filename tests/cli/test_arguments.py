"""What is typed reaches Hydra as it was meant."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from cliplab.cli.arguments import Arguments, UsageError, read_arguments
from cliplab.cli.grammar import parses
from cliplab.program import hydra_quoted, hydra_unquoted, shell_quoted


@pytest.mark.parametrize(
    "path",
    [
        "/d/{00000..00099}.tar",
        "/d/{a,b}/{0..9}.tar",
        "d/{0..9}.tar::e/{0..3}.tar",
        "./[ab]?.tar",
        "../x/*.tar",
        "~/x/{0..1}.tar",
        "/d/x=1/a.tar",
        "/d/caf\N{LATIN SMALL LETTER E WITH ACUTE} (1)/a.tar",
        "/d/a&b#c.tar",
        "/d/plain.tar",
    ],
)
def test_paths_are_read_as_they_are_typed(path: str) -> None:
    (override,) = read_arguments([f"data.path={path}"]).overrides
    assert OverridesParser.create().parse_override(override).value() == path


@pytest.mark.parametrize(
    "override",
    [
        "data.path='/d/{0..9}.tar'",
        'data.path="/d/{0..9}.tar"',
        "data.path=/d/a,/d/b(1)",
        "data.train.sources={a: /d/x, b: {path: /d/y}}",
        "ckpt=[/d/a,/d/b]",
        "data.path=${paths.data}/{0..9}.tar",
        "optimizer.betas=[0.9,0.98]",
        "data.path=/d/plain.tar",
        "~callbacks.progress",
        "model/image_encoder=rn50",
    ],
)
def test_whatever_else_stays_as_it_is(override: str) -> None:
    assert read_arguments([override]).overrides == (override,)


def test_braces_that_the_shell_expanded_are_told() -> None:
    words = [f"data.path=/d/{k}.tar" for k in range(3)]
    with pytest.raises(
        UsageError, match=r"data.path: it is typed 3 times, /d/0.tar, /d/1.tar, …; did the shell expand"
    ):
        read_arguments(words)
    assert read_arguments(["data.path=/d/0.tar", "data.path=/d/0.tar", "seed=1", "seed=2"]).overrides


@pytest.mark.parametrize(
    "text",
    ["/a b/c=d,e", "it's", "back\\", "q'\\'x", "é", "null", "12", "{x}", "[0]", "${x}", 'a"b', "a:b", "#", "", "a/b"],
)
def test_quoted_text_is_read_back_by_hydra_and_by_us(text: str) -> None:
    value = OverridesParser.create().parse_override(f"k={hydra_quoted(text)}").value()
    assert OmegaConf.create({"k": value}).k == text
    assert hydra_unquoted(hydra_quoted(text)) == text


def test_shells_read_a_quoted_word_back() -> None:
    for word in ("a=b", "k='a b'", "$x", 'k="', "a'b\"c", "k='${x}'"):
        assert shlex.split(shell_quoted(word)) == [word]


def test_flags_may_stand_anywhere() -> None:
    assert read_arguments(["a=1", "-m", "b=2"]) == Arguments({"multirun": True}, ("a=1", "b=2"))
    assert read_arguments(["a=1", "--cfg", "job"]).argv() == ["--cfg=job", "a=1"]
    assert read_arguments(["-sc", "install=bash"]).argv() == ["--shell-completion", "install=bash"]
    assert parses("a=1")
