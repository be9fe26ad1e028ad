"""The least loss that any model can reach on a batch in which pictures or captions repeat."""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence


def least_cross_entropy(pictures: Sequence[Hashable], captions: Sequence[Hashable], groups: Sequence[int]) -> float:
    """The least symmetric cross-entropy when the samples of one group are joint positives, with equal weight.

    A model tells neither equal pictures nor equal captions apart. Picture x occurs m(x) times, caption t n(t) times; A(x, t)
    is the weight of t as a positive of x, summed over rows. The loss by image is least where x gives t the probability
    A(x, t) / m(x), which the n(t) columns of t share; the loss by text likewise. The logits log(A / (m n)) reach both at
    once, and each is then the mean over rows of log(m n / A). Where every group has one sample, A(x, t) counts how often x
    and t occur together.
    """
    times, repeats = Counter(pictures), Counter(captions)
    members = defaultdict(list)
    for row, group in enumerate(groups):
        members[group].append(row)
    weights: defaultdict[tuple[Hashable, Hashable], float] = defaultdict(float)
    for rows in members.values():
        shown, said = Counter(pictures[row] for row in rows), Counter(captions[row] for row in rows)
        for picture in shown:
            for caption in said:
                weights[picture, caption] += shown[picture] * said[caption] / len(rows)
    summed = math.fsum(a * math.log(times[x] * repeats[t] / a) for (x, t), a in weights.items())
    return summed / len(pictures)


def least_sigmoid(pictures: Sequence[Hashable], captions: Sequence[Hashable]) -> float:
    """The least pairwise sigmoid loss when each caption is the positive of its own picture alone.

    All m n logits between picture x and caption t are equal, and as many of them are positive as x and t occur together.
    Their loss is least where the probability is that share.
    """
    times, repeats = Counter(pictures), Counter(captions)
    summed = 0.0
    for (x, t), together in Counter(zip(pictures, captions, strict=True)).items():
        logits = times[x] * repeats[t]
        apart = logits - together
        summed += together * math.log(logits / together) + (apart * math.log(logits / apart) if apart else 0.0)
    return summed / len(pictures)
