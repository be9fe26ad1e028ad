"""What is typed, and what stands in config files, becomes the space that is varied."""

import random

import pytest

from cliplab.sweeps.drawing import combinations, drawn
from cliplab.sweeps.space import Choices, Numbers, SpaceError, read_space


def unknown(key: str) -> str | None:
    return None


@pytest.mark.parametrize(
    ("typed", "domain"),
    [
        ("lr=1e-3,3e-4", Choices(("0.001", "0.0003"))),
        ("tower=choice(vit_tiny,rn50)", Choices(("vit_tiny", "rn50"))),
        ("model/image_encoder=vit_tiny,rn50", Choices(("vit_tiny", "rn50"))),
        ("betas=[0.9,0.98],[0.9,0.999]", Choices(("[0.9,0.98]", "[0.9,0.999]"))),
        ("path='a,b',c", Choices(("'a,b'", "c"))),
        ("seed=4,4", Choices(("4",))),
        ("lr=interval(1e-4,1e-2)", Numbers(1e-4, 1e-2)),
        ("lr=tag(log,interval(1e-4,1e-2))", Numbers(1e-4, 1e-2, log=True)),
        ("width=int(interval(8,64))", Numbers(8, 64, step=1, whole=True)),
        ("width=tag(log,int(interval(8,64)))", Numbers(8, 64, step=1, log=True, whole=True)),
        ("width=range(8,65,8)", Numbers(8, 64, step=8, whole=True)),
        ("width=range(3,0,-1)", Numbers(1, 3, step=1, whole=True)),
        ("rate=range(0.1,0.5,0.1)", Numbers(0.1, 0.4, step=0.1)),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_hydra_sweeps_are_parameters(typed: str, domain: Choices | Numbers) -> None:
    (parameter,) = read_space([typed], {}).parameters
    assert parameter.domain == domain
    assert (parameter.key, parameter.written) == tuple(typed.split("=", 1))


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("lr=tag(log,interval(0,1))", "lr: tag(log,interval(0,1)) begins at 0, and a logarithm needs numbers above 0"),
        ("lr=interval(2,1)", "lr: interval(2,1) begins above its end"),
        ("lr=tag(log,range(0.1,1,0.1))", "log and steps exclude each other"),
        ("lr=tag(log,choice(1,2))", "choices have no scale"),
        ("lr=tag(fast,interval(0,1))", "the tag 'fast' means nothing"),
        ("seed=range(5,5)", "range(5, 5, 1) names no value"),
    ],
)
def test_a_space_that_cannot_be_is_told_with_its_key(typed: str, told: str) -> None:
    with pytest.raises(SpaceError, match=typed.split("=")[0]) as error:
        read_space([typed], {})
    assert told in str(error.value)


def test_a_grid_needs_values() -> None:
    with pytest.raises(SpaceError, match=r"lr: an interval is for a search, as sweep=tpe"):
        list(combinations(read_space(["lr=interval(0,1)"], {}), unknown))


def test_what_is_typed_beats_the_file_and_the_last_word_counts() -> None:
    space = read_space(["lr=3", "seed=1,2", "width=4", "width=8,16"], {"lr": "interval(0,1)", "depth": "choice(1,2)"})
    assert space.keys == ("depth", "seed", "width")
    assert space.overrides({"depth": "1", "seed": "2", "width": "8"}) == ["lr=3", "depth=1", "seed=2", "width=8"]
    assert read_space(["seed=1,2", "seed=3"], {}).parameters == ()


def test_a_grid_has_every_combination_the_last_parameter_fastest() -> None:
    rows = [tuple(c.values()) for c in combinations(read_space(["a=1,2", "b=range(0,3)"], {}), unknown)]
    assert rows == [("1", "0"), ("1", "1"), ("1", "2"), ("2", "0"), ("2", "1"), ("2", "2")]


def test_a_parameter_with_a_condition_is_varied_only_where_it_holds() -> None:
    typed = [
        "momentum=tag('optimizer=sgd',choice(0.8,0.9))",
        "optimizer=adamw,sgd",
        "beta=tag('optimizer=adamw|lion',choice(1,2))",
    ]
    space = read_space(typed, {})
    found = [" ".join(map("=".join, c.items())) for c in combinations(space, unknown)]
    assert sorted(found) == [
        "optimizer=adamw beta=1",
        "optimizer=adamw beta=2",
        "optimizer=sgd momentum=0.8",
        "optimizer=sgd momentum=0.9",
    ]
    for number in range(20):
        values = drawn(space, unknown, random.Random(number))
        assert ("momentum" in values) == (values["optimizer"] == "sgd")
    fixed = read_space(typed[:1], {})
    assert list(combinations(fixed, {"optimizer": "sgd"}.get)) == [{"momentum": "0.8"}, {"momentum": "0.9"}]
    assert list(combinations(fixed, {"optimizer": "adamw"}.get)) == [{}]
    with pytest.raises(SpaceError, match="in a circle"):
        read_space(["a=tag('b=1',choice(1,2))", "b=tag('a=1',choice(1,2))"], {})


def test_draws_stay_in_the_space_and_depend_on_the_seed_and_the_number_alone() -> None:
    typed = [
        "lr=tag(log,interval(1e-4,1e-2))",
        "w=int(interval(1,3))",
        "s=range(0.1,0.5,0.1)",
        "c=x,y",
        "l=tag(log,int(interval(1,100)))",
    ]
    space = read_space(typed, {})
    rows = [drawn(space, unknown, random.Random(f"1 {i}")) for i in range(200)]
    assert rows == [drawn(space, unknown, random.Random(f"1 {i}")) for i in range(200)]
    assert all(1e-4 <= float(row["lr"]) <= 1e-2 for row in rows)
    assert 60 < sum(float(row["lr"]) < 1e-3 for row in rows) < 140, "as many in each decade"
    assert {row["w"] for row in rows} == {"1", "2", "3"}
    assert {row["s"] for row in rows} == {"0.1", "0.2", "0.3", "0.4"}
    assert {row["c"] for row in rows} == {"x", "y"}
    assert 1 <= min(int(row["l"]) for row in rows) <= max(int(row["l"]) for row in rows) <= 100


def test_a_value_that_is_left_to_the_jobs_does_not_vary() -> None:
    space = read_space(["optimizer=sgd,muon", "optimizer.momentum=choice(0.9)"], {})
    assert (space.keys, space.fixed) == (("optimizer",), ("optimizer.momentum=0.9",))
    assert read_space(["a=choice(1)", "a=2"], {}).fixed == ("a=2",)


def test_values_stay_as_they_are_typed() -> None:
    typed = ["note=null,'null'", "callbacks.stop=null", "data.filters={min_side:10}", "data.filters={max_side:99}"]
    space = read_space(typed, {})
    rows = [space.overrides(values) for values in combinations(space, unknown)]
    assert [row[-1] for row in rows] == ["note=null", "note='null'"], "nothing and a text"
    assert all(row[:-1] == typed[1:] for row in rows), "both parts of what is merged"
