"""Nearest unit vectors: an exact product for small collections, an approximate graph for large ones."""

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float, Int

from cliplab.rules import Count

QUERIES_AT_ONCE = 256


class Index(Protocol):
    """Finds the nearest vectors to queries."""

    def search(
        self, queries: Float[np.ndarray, "queries dim"], top: int
    ) -> tuple[Int[np.ndarray, "queries top"], Float[np.ndarray, "queries top"]]: ...


class ExactIndex:
    """Computes every cosine by matrix product. Ties go to the lower position. ``vectors`` are unit rows, float32."""

    def __init__(self, vectors: Float[np.ndarray, "rows dim"]) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)

    def search(
        self, queries: Float[np.ndarray, "queries dim"], top: int
    ) -> tuple[Int[np.ndarray, "queries top"], Float[np.ndarray, "queries top"]]:
        """Positions and cosines of the ``top`` nearest rows (all rows when there are fewer), best first."""
        top = checked_top(top, len(self.vectors))
        positions, scores = [], []
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            cosines = queries[start : start + QUERIES_AT_ONCE] @ self.vectors.T
            best = np.argsort(-cosines, axis=1, kind="stable")[:, :top]
            positions.append(best)
            scores.append(np.take_along_axis(cosines, best, axis=1))
        return np.concatenate(positions), np.concatenate(scores)


class ApproximateIndex:
    """A navigable graph (HNSW) of usearch: a query visits a small part of the rows.

    ``connectivity`` is the number of neighbours of a row, ``expansion_add`` and ``expansion_search`` are the numbers of
    candidates while building and searching. Higher values improve recall and cost time. Needs
    ``pip install -e ".[search]"``. Source: Malkov & Yashunin 2016.
    """

    needs_package = "usearch"

    def __init__(
        self,
        vectors: Float[np.ndarray, "rows dim"],
        connectivity: Count = 16,
        expansion_add: Count = 128,
        expansion_search: Count = 64,
    ) -> None:
        try:
            from usearch.index import Index as Graph
        except ImportError as error:
            raise ImportError(
                'index=usearch needs usearch; run: pip install -e ".[search]", or use index=exact'
            ) from error
        vectors = np.ascontiguousarray(vectors, np.float32)
        self.rows = len(vectors)
        self.graph: Any = Graph(
            ndim=vectors.shape[1],
            metric="ip",
            dtype="f32",
            connectivity=connectivity,
            expansion_add=expansion_add,
            expansion_search=expansion_search,
        )
        self.graph.add(np.arange(self.rows, dtype=np.uint64), vectors)

    def search(
        self, queries: Float[np.ndarray, "queries dim"], top: int
    ) -> tuple[Int[np.ndarray, "queries top"], Float[np.ndarray, "queries top"]]:
        """Like ``ExactIndex.search``, but may miss some of the nearest rows."""
        found = self.graph.search(np.atleast_2d(queries).astype(np.float32), checked_top(top, self.rows))
        keys, distances = np.atleast_2d(found.keys), np.atleast_2d(found.distances)
        return keys.astype(np.int64), (1 - distances).astype(np.float32)


def checked_top(top: int, rows: int) -> int:
    if isinstance(top, bool) or not isinstance(top, int | np.integer) or top < 1:
        raise ValueError(f"top {top!r} must be a whole number, 1 or more")
    return min(top, rows)


def recall(index: Index, exact: ExactIndex, queries: Float[np.ndarray, "queries dim"], top: int) -> float:
    """The share of the exact ``top`` rows that ``index`` finds too, over the queries."""
    truth, found = exact.search(queries, top)[0], index.search(queries, top)[0]
    return float(np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(truth, found, strict=True)]))
