"""How much written captions are like references: BLEU, ROUGE-L and CIDEr-D, from the words alone."""

import functools
import math
import operator
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

LONGEST = 4  # words of a phrase
WITHOUT_SPACES = re.compile("([\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff])")  # Thai, Japanese and Chinese letters

Words = Sequence[str]
Phrases = Counter[tuple[str, ...]]


def words_of(text: str) -> list[str]:
    """Words in lower case, without punctuation. In scripts without spaces each letter is a word."""
    kept = (letter if unicodedata.category(letter)[0] in "LMN" else " " for letter in text.lower())
    return WITHOUT_SPACES.sub(r" \1 ", "".join(kept)).split()


def _phrases(words: Words, length: int) -> Phrases:
    return Counter(zip(*(words[start:] for start in range(length)), strict=False))


def bleu(written: Sequence[Words], references: Sequence[Sequence[Words]]) -> list[float]:
    """BLEU-1 to BLEU-4 of the whole corpus, without smoothing (Papineni et al. 2002). The length of the closest reference
    counts, of two equally close ones the shorter."""
    hits, phrases, length, wanted = [0] * LONGEST, [0] * LONGEST, 0, 0
    for words, known in zip(written, references, strict=True):
        length += len(words)
        wanted += min((abs(len(one) - len(words)), len(one)) for one in known)[1]
        for n in range(LONGEST):
            found = _phrases(words, n + 1)
            allowed = functools.reduce(operator.or_, (_phrases(one, n + 1) for one in known))
            hits[n] += (found & allowed).total()
            phrases[n] += found.total()
    penalty = math.exp(min(0.0, 1 - wanted / length)) if length else 0.0
    logs = [math.log(hit / of) if hit else -math.inf for hit, of in zip(hits, phrases, strict=True)]
    return [penalty * math.exp(sum(logs[:n]) / n) for n in range(1, LONGEST + 1)]


def _longest_common(left: Words, right: Words) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(right) + 1)
    for word in left:
        before = 0
        for place, other in enumerate(right, start=1):
            before, row[place] = row[place], before + 1 if word == other else max(row[place], row[place - 1])
    return row[-1]


def rouge_l(words: Words, references: Sequence[Words], beta: float = 1.2) -> float:
    """ROUGE-L of one caption (Lin 2004): the F measure of the longest common subsequence, from the best precision and the
    best recall over the references, as the evaluation of COCO computes it."""
    common = [_longest_common(words, one) for one in references]
    if not any(common):
        return 0.0
    precision = max(common) / len(words)
    recall = max(n / len(one) for n, one in zip(common, references, strict=True) if one)
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def cider(written: Sequence[Words], references: Sequence[Sequence[Words]], sigma: float = 6.0) -> list[float]:
    """CIDEr-D of each caption, from 0 to 10 (Vedantam et al. 2015), without stemming. The rarity of phrases is that among
    the references."""
    images = Counter[tuple[str, ...]]()
    for known in references:
        images.update({phrase for one in known for n in range(LONGEST) for phrase in _phrases(one, n + 1)})

    @functools.cache
    def vectors(words: tuple[str, ...]) -> list[dict[tuple[str, ...], float]]:
        counts = [_phrases(words, n + 1) for n in range(LONGEST)]
        return [{p: k * math.log(len(references) / max(1, images[p])) for p, k in of_n.items()} for of_n in counts]

    def likeness(words: tuple[str, ...], known: tuple[str, ...]) -> float:
        cosines = map(_clipped_cosine, vectors(words), vectors(known))
        return sum(cosines) / LONGEST * math.exp(-((len(words) - len(known)) ** 2) / (2 * sigma**2))

    return [
        10 * sum(likeness(tuple(words), tuple(one)) for one in known) / len(known)
        for words, known in zip(written, references, strict=True)
    ]


def _clipped_cosine(left: Mapping[tuple[str, ...], float], right: Mapping[tuple[str, ...], float]) -> float:
    """The cosine, where no phrase of ``left`` counts for more than in ``right``: repeating a phrase gains nothing."""
    norms = math.hypot(*left.values()) * math.hypot(*right.values())
    return sum(min(value, right[p]) * right[p] for p, value in left.items() if p in right) / norms if norms else 0.0


class CaptionScores(NamedTuple):
    """``metrics`` of the corpus, by the names of COCO's evaluation. ``exact`` is the share of captions that have the words
    of a reference, ``distinct`` the number of different captions. And of each caption: its ROUGE-L, and whether it is exact.
    """

    metrics: dict[str, float]
    rouge_l: list[float]
    exact: list[bool]


def caption_scores(written: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
    """Score the captions, one for each picture, each against its references."""
    words, known = [words_of(text) for text in written], [[words_of(text) for text in of] for of in references]
    each = [rouge_l(one, of) for one, of in zip(words, known, strict=True)]
    exact = [one in of for one, of in zip(words, known, strict=True)]
    metrics = {
        "ROUGE_L": sum(each) / len(each),
        **{f"Bleu_{n}": score for n, score in enumerate(bleu(words, known), start=1)},
        "exact": sum(exact) / len(exact),
        "CIDEr": sum(cider(words, known)) / len(words),
        "distinct": float(len({tuple(one) for one in words})),
    }
    return CaptionScores(metrics, each, exact)
