"""Texts that begin alike share the work of a decoder."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cliplab.models.caption_decoder import by_head
from cliplab.models.layers import Packing, SelfAttention, attend, pack_shared
from cliplab.models.tokens import Tokens


class _Group(NamedTuple):
    """Texts of similar length: the nodes of each, int64 ``[texts, length]``, and which nodes take their state from which of
    these places, both int64 ``[owned]``."""

    nodes: Tensor
    owned: Tensor
    places: Tensor


def _groups(node_of: Int[Tensor, "texts length"], first: Int[Tensor, " nodes"], lengths: Tensor) -> list[_Group]:
    """Groups of the texts that some node takes its state from: those that are the ``first`` to have it. A group's texts are
    more than two thirds as long as its longest one."""
    owner, column = first // node_of.shape[1], first % node_of.shape[1]
    wanted = torch.zeros_like(lengths, dtype=torch.bool)
    wanted[owner] = True
    groups, longest = [], node_of.shape[1]
    while longest >= 1:
        shorter = longest * 2 // 3
        texts = (wanted & (lengths <= longest) & (lengths > shorter)).nonzero()[:, 0]
        if len(texts):
            place = torch.full_like(lengths, -1)
            place[texts] = torch.arange(len(texts), device=texts.device)
            owned = (place[owner] >= 0).nonzero()[:, 0]
            groups.append(_Group(node_of[texts, :longest], owned, place[owner[owned]] * longest + column[owned]))
        longest = shorter
    return groups


class Trie:
    """The beginnings of texts, each once, as nodes of a tree; it is also their ``Layout``.

    ``inputs`` are what a decoder reads and ``words`` what it writes after them. ``rows`` and ``positions`` are the word that
    each node reads and its place, int64 ``[nodes]``; ``first`` is where it stands in the texts, joined. A node attends to
    itself and to the nodes that lead to it. An edge is a word that some text has after a node: ``edge_nodes`` and
    ``edge_words``, int64 ``[edges]``.
    """

    packing: Packing | None = None

    def __init__(self, inputs: Tokens, words: Tokens) -> None:
        shared = pack_shared(inputs.ids, inputs.lengths)
        assert shared.rows is not None
        texts, length = inputs.ids.shape
        self.first = shared.index
        self.rows, self.positions = inputs.ids.flatten()[shared.index], shared.index % length
        columns = torch.arange(length, device=inputs.ids.device)
        node_of = shared.rows.view(texts, length)
        self.groups = _groups(node_of, shared.index, inputs.lengths)
        real = columns < words.lengths.unsqueeze(1)
        vocabulary = int(words.ids.max()) + 1
        edges, edge_of = torch.unique(node_of[real] * vocabulary + words.ids[real], return_inverse=True)
        self.edge_nodes, self.edge_words = edges // vocabulary, edges % vocabulary
        self.texts, self.text_of, self.edge_of = texts, real.nonzero()[:, 0], edge_of

    def attend(self, attention: SelfAttention, x: Float[Tensor, "pictures nodes width"]) -> Tensor:
        """Self-attention of each node to those that lead to it: of whole texts, of which each node keeps what one gave."""
        qkv = attention.qkv(x)
        mixed = torch.empty_like(x)
        for group in self.groups:
            texts, length = group.nodes.shape
            rows = qkv[:, group.nodes.flatten()].view(
                -1, length, qkv.shape[-1]
            )  # [pictures * texts, length, 3 * width]
            q, k, v = (by_head(part, attention.heads) for part in rows.chunk(3, dim=-1))
            whole = attend(q, k, v, causal=True).transpose(1, 2).reshape(len(qkv), texts * length, -1)
            mixed[:, group.owned] = whole[:, group.places]
        return attention.out(mixed)

    def totals(self, of_edges: Float[Tensor, "pictures edges"]) -> Float[Tensor, "pictures texts"]:
        """The sum over the edges of each text."""
        sums = of_edges.new_zeros(len(of_edges), self.texts)
        return sums.index_add_(1, self.text_of, of_edges[:, self.edge_of])

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def lengths(self) -> Int[Tensor, " texts"]:
        """The number of words of each text."""
        return torch.bincount(self.text_of, minlength=self.texts)
