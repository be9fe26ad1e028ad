"""The embedded data: splits by the stated rule, built whole or not at all."""

import io
import itertools
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cliplab.data import emoji
from cliplab.data.labelled import emoji_labelled


@pytest.fixture(scope="module")
def built() -> Path:
    """Built once, in the cache of the tests. One SVG of sixteen is drawn, since all take ten seconds; the others are
    blank. Whoever runs the command for the first time draws all."""
    blank, draw, svgs = io.BytesIO(), emoji._png, itertools.count()
    Image.new("RGBA", (72, 72)).save(blank, "PNG")

    def few(file: Any) -> bytes:
        return draw(file) if file.name.endswith(".png") or next(svgs) % 16 == 0 else blank.getvalue()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(emoji, "_png", few)
        return emoji.build_emoji()


def test_code_points_leave_variation_selectors_out() -> None:
    assert emoji.code_points("❤️") == "2764"
    assert emoji.code_points("👩‍🚒") == "1f469-200d-1f692"


def test_splits_follow_the_rule_on_a_small_dictionary() -> None:
    points = [f"{i:x}" for i in range(400)]
    names = {p: f"common {'rare' + p if i % 9 == 0 else 'word'}" for i, p in enumerate(points)}
    splits = emoji.assign_splits(names)
    for point, split in splits.items():
        share = emoji.held_out_share(point)
        if share >= 0.23:
            assert split == "train"
        elif share >= 0.20:
            assert split == "validation"
        else:
            assert split == ("unseen_words" if "rare" in names[point] else "compositions")
    assert emoji.held_out_share("1f600") == emoji.held_out_share("1f600")
    assert Counter(splits.values())["compositions"] > 40


@pytest.mark.slow
def test_splits_of_the_real_data(built: Path) -> None:
    rows = {split: emoji.load_emoji(split=split) for split in emoji.SPLITS}
    groups = {split: set(data["group"][:]) for split, data in rows.items()}
    assert sum(len(g) for g in groups.values()) == len(set().union(*groups.values())) > 3900
    for data in rows.values():  # both drawings of one emoji are on the same side
        styles = Counter(data["style"][:])
        assert styles["twemoji"] == styles["openmoji"] == len(set(data["group"][:]))
    words = Counter(
        w for name in set(zip(rows["train"]["group"][:], rows["train"]["name_en"][:])) for w in set(name[1].split())
    )
    assert all(words[w] >= 3 for name in rows["compositions"]["name_en"][:] for w in name.split())
    assert all(any(words[w] < 3 for w in name.split()) for name in rows["unseen_words"]["name_en"][:])
    assert 470 <= len(set(rows["compositions"]["name_en"][:])) <= 520
    held_out = len(groups["compositions"]) + len(groups["unseen_words"])
    assert held_out / sum(len(g) for g in groups.values()) == pytest.approx(0.20, abs=0.02)


@pytest.mark.slow
def test_rows_are_complete(built: Path) -> None:
    train = emoji.load_emoji(split="train")
    assert train.features["image"].decode
    assert all(any(train[f"name_{language}"][:]) for language in emoji.LANGUAGES)
    assert all(train["name_en"][:])
    row = next(r for r in train if "woman" in r["name_en"] and r["skin_tones"] == ["dark"])
    assert isinstance(row["image"], Image.Image)
    assert row["image"].size == (72, 72)
    assert "dark skin tone" in row["name_en"]
    assert row["name_de"] != row["name_en"]
    assert np.asarray(row["image"].convert("RGBA"))[..., 3].any()
    drawn = [train[i]["image"] for i in np.flatnonzero(np.asarray(train["style"][:]) == "openmoji")[:200]]
    assert {picture.size for picture in drawn} == {(72, 72)}
    assert sum(np.asarray(picture.convert("RGBA"))[..., 3].any() for picture in drawn) >= 200 // 16 - 4


@pytest.mark.slow
def test_zero_shot_set_has_its_own_names_as_candidates(built: Path) -> None:
    data = emoji_labelled(split="compositions")
    rows = emoji.load_emoji(split="compositions")
    assert data.class_names == sorted(set(rows["name_en"][:]))
    assert [data.class_names[label] for label in data.labels] == list(rows["name_en"][:])
    assert (data.groups["twemoji"] ^ data.groups["openmoji"]).all()
    assert (data.groups["skin_tone"] == [bool(t) for t in rows["skin_tones"][:]]).all()
    assert len(data.credits) == 3
    one = emoji_labelled(split="compositions", styles=["openmoji"])
    assert len(one) == len(data) / 2
    assert data.fingerprint != one.fingerprint
    assert data.fingerprint == emoji_labelled(split="compositions").fingerprint


def test_interrupted_build_leaves_nothing_and_builds_at_once_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLIPLAB_CACHE", str(tmp_path))
    few, builds = list(range(3)), []

    def rows(stop: bool):
        builds.append(stop)
        for i in few:
            if stop and i == 2:
                raise KeyboardInterrupt
            names = {f"name_{language}": f"n{i}" for language in emoji.LANGUAGES}
            picture = {"bytes": b"x", "path": None}
            facts = {"style": "twemoji", "emoji": "e", "code_points": "p", "split": "train", "skin_tones": []}
            yield {"image": picture, "group": i, **facts, **names}

    monkeypatch.setattr(emoji, "_rows", lambda: rows(True))
    with pytest.raises(KeyboardInterrupt):
        emoji.build_emoji()
    assert not emoji.cache_folder().exists()
    monkeypatch.setattr(emoji, "_rows", lambda: rows(False))
    threads = [threading.Thread(target=emoji.build_emoji) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert builds == [True, False]
    assert len(emoji.load_emoji(split="train")) == 3
    assert [p.name for p in tmp_path.iterdir() if ".part" in p.name] == []


@pytest.mark.parametrize("options", [{"split": "test"}, {"split": "train", "styles": ["noto"]}])
def test_unknown_split_or_style_is_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="does not exist; choose"):
        emoji.load_emoji(**options)
