"""Log-likelihoods of many texts for many pictures, from a decoder over a trie."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from cliplab.models.tokens import Tokens
from cliplab.objectives.trie import Trie
from cliplab.objectives.word_table import OutputLayer, WordTable

MOST_TEXTS = 4096  # in one trie
MOST_VALUES = 2**21  # of an MLP over all nodes; about what fits into the cache of a core
MOST_LOGITS = 2**19


def pieces_of(words: Tokens) -> Iterator[Tokens]:
    """The texts, in tries of a size that fits into memory."""
    for start in range(0, len(words.ids), MOST_TEXTS):
        lengths = words.lengths[start : start + MOST_TEXTS]
        yield Tokens(words.ids[start : start + MOST_TEXTS, : int(lengths.max())], lengths)


def trie_scores(
    memory: Float[Tensor, "images places width"],
    trie: Trie,
    *,
    decode: Callable[[Tensor], Tensor],
    table: WordTable | OutputLayer,
    width: int,
    extra: Float[Tensor, " edges"],
) -> Float[Tensor, "images texts"]:
    """The log-likelihood of each text.

    ``decode`` gives the states of the nodes for some pictures, ``[images, nodes, width]``. ``extra`` is added to each edge.
    So many pictures are decoded at once that the values of an MLP fit into a cache.
    """
    at_once = max(1, MOST_VALUES // (len(trie) * width * 4))
    rows = []
    for piece in memory.split(at_once):
        states = decode(piece)
        sums = _normalisers(table, states)
        of_edges = table.logits_of(states[:, trie.edge_nodes], trie.edge_words) - sums[:, trie.edge_nodes] + extra
        rows.append(trie.totals(of_edges))
    return torch.cat(rows)


def _normalisers(
    table: WordTable | OutputLayer, states: Float[Tensor, "images nodes width"]
) -> Float[Tensor, "images nodes"]:
    """The logarithm of the sum of the exponentials of all logits, a part of the nodes at a time."""
    flat = states.flatten(0, 1)
    sums = [table.logits(part).logsumexp(-1) for part in flat.split(max(1, MOST_LOGITS // table.rows))]
    return torch.cat(sums).view(states.shape[:2])
