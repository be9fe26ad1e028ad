"""Groups the members of a tar into samples, and finds the image of each, by names alone.

In webdataset the first dot of a name ends the key: ``0.left.jpg``, ``0.right.jpg`` and ``0.txt`` are one sample. The rule
here is the same wherever that loses no pair. But some names contain dots, such as ``img.v1.0001.jpg`` or ``22.05.png``:
where an image and a text share everything before the last dot, the last dot ends the key.
"""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from cliplab.data.tar.members import Member

PICTURES = frozenset(
    (
        *("jpg", "jpeg", "jpe", "jfif", "png", "apng", "webp", "gif", "bmp", "dib", "tif", "tiff", "avif", "heic"),
        *("heif", "jp2", "j2k", "ppm", "pgm", "pbm", "pnm", "tga", "ico"),
    )
)
TEXTS = frozenset(("txt", "text", "caption", "captions", "cap", "transcript"))
JSONS = frozenset(("json", "jsn"))
_NOT_OF_A_SAMPLE = frozenset(("__macosx", "thumbs.db", "desktop.ini", "paxheader", "paxheaders"))


class TarSample(NamedTuple):
    """A sample. ``fields`` maps what follows the key, in lower case (``jpg``, ``txt``, ``left.png``), to members."""

    key: str
    fields: dict[str, Member]


class _Named(NamedTuple):
    """A member with the parts of its name: folder, file name, name up to the first dot and up to the last, and the rest."""

    member: Member
    folder: str
    base: str
    short: str
    stem: str
    extension: str


def last_extension(suffix: str) -> str:
    return suffix.rsplit(".", 1)[-1]


def _named(member: Member) -> _Named | None:
    """The parts of a name. None for files that belong to no sample: hidden ones and those that systems create."""
    parts = [part for part in member.name.split("/") if part not in ("", ".")]
    hidden = any((part.startswith(".") and part != "..") or part.lower() in _NOT_OF_A_SAMPLE for part in parts)
    if not parts or hidden or (parts[-1].startswith("__") and parts[-1].endswith("__")):
        return None
    folder, base = "/".join(parts[:-1]), parts[-1]
    stem, dot, extension = base.rpartition(".")
    stem, extension = (stem, extension.lower()) if dot else (base, "")
    return _Named(member, folder, base, base.split(".", 1)[0], stem, extension)


def _is_picture(named: _Named) -> bool:
    return named.extension in PICTURES


def _companions(group: Sequence[_Named]) -> frozenset[str]:
    """The extensions that form a pair with an image: texts if the group has any, else JSON, else any other."""
    there = {named.extension for named in group if not _is_picture(named)}
    return frozenset(there & TEXTS or there & JSONS or there)


def _pairs(group: Sequence[_Named]) -> list[str]:
    """The stems that have an image and a companion."""
    companions = _companions(group)
    with_picture = {named.stem for named in group if _is_picture(named)}
    return sorted(with_picture & {named.stem for named in group if named.extension in companions})


def _grouped(members: Sequence[_Named]) -> dict[tuple[str, str], list[_Named]]:
    groups: dict[tuple[str, str], list[_Named]] = {}
    for named in members:
        groups.setdefault((named.folder, named.short), []).append(named)
    return groups


def _dots_are_in_names(short: str, group: Sequence[_Named]) -> bool:
    """Whether dots belong to the names in a group of members that share their name up to the first dot. They do when
    several stems are pairs, or when one is and no member has the bare name."""
    pairs = _pairs(group)
    return len(pairs) > 1 or (bool(pairs) and all(named.stem != short for named in group))


def _split(group: Sequence[_Named]) -> list[tuple[str, list[_Named]]]:
    """Split a group by stems, that is by the last dot. A stem that extends another (``a.1.seg`` extends ``a.1``) and is not
    a pair belongs to that one. A stem without an image that others extend is not a sample."""
    stems: dict[str, list[_Named]] = {}
    for named in group:
        stems.setdefault(named.stem, []).append(named)
    pairs = set(_pairs(group))
    parents = {stem: [p for p in stems if stem.startswith(f"{p}.") and p in pairs] for stem in stems}
    for stem in [stem for stem in stems if parents[stem] and stem not in pairs]:
        stems[max(parents[stem], key=len)].extend(stems.pop(stem))
    shared = {s for s in stems if not any(map(_is_picture, stems[s])) and any(o.startswith(f"{s}.") for o in stems)}
    return [(stem, members) for stem, members in stems.items() if stem not in shared]


def _picture_suffixes(suffixes: Sequence[str]) -> list[str]:
    """The suffixes of images, those with the fewest dots first: ``jpg`` before ``seg.png``."""
    found = [suffix for suffix in suffixes if last_extension(suffix) in PICTURES]
    return sorted(found, key=lambda suffix: suffix.count("."))


def _rounds(key: str, members: Sequence[_Named], stem: str) -> list[TarSample]:
    """One sample, or several where names are repeated. A repetition that is not a pair replaces the members it repeats, as
    it would when the tar is unpacked."""
    samples: list[dict[str, Member]] = []
    seen = Counter[str]()
    for named in members:
        suffix = named.base[len(stem) + 1 :].lower()
        if seen[suffix] == len(samples):
            samples.append({})
        samples[seen[suffix]][suffix] = named.member
        seen[suffix] += 1
    whole = [samples[0]]
    for further in samples[1:]:
        if _picture_suffixes([*further]) and len(further) > 1:
            whole.append(further)
        else:
            whole[-1].update(further)
    return [TarSample(key if not k else f"{key} (again, {k + 1})", fields) for k, fields in enumerate(whole)]


def picture_field(fields: Sequence[str]) -> str | None:
    """The field that is the sample's image by its name. None when no name shows it."""
    return next(iter(_picture_suffixes(fields)), None)


def _across_folders(members: Sequence[_Named]) -> list[_Named]:
    """Ignore the folders where images and texts have separate ones (``images/7.jpg``, ``texts/7.txt``)."""
    with_picture = {named.folder for named in members if _is_picture(named)}
    without = {named.folder for named in members if not _is_picture(named)}
    if not with_picture or not without or with_picture & without:
        return [*members]
    return [named._replace(folder="") for named in members]


def tar_samples(members: Sequence[Member]) -> list[TarSample]:
    """The samples of one tar, in the order of their first members. The members of a sample need not be adjacent."""
    named = _across_folders([found for found in map(_named, members) if found is not None])
    groups = _grouped(named)
    dotted = any(_dots_are_in_names(short, group) for (_, short), group in groups.items())
    samples: list[TarSample] = []
    for (folder, short), group in groups.items():
        stems = {one.stem for one in group}
        if dotted and len(stems) > 1 and (short not in stems or len(_pairs(group)) > 1):
            parts = _split(group)
        else:
            parts = [(stems.pop() if len(stems) == 1 else short, [*group])]
        for stem, of_sample in parts:
            samples += _rounds(f"{folder}/{stem}" if folder else stem, of_sample, stem)
    return samples
