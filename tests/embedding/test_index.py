"""Exact and approximate search over unit vectors."""

import builtins

import numpy as np
import pytest

from cliplab.embedding.index import ApproximateIndex, ExactIndex, recall


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    x = np.random.default_rng(seed).normal(size=(rows, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_exact_index_sorts_all_cosines_and_ties_by_position() -> None:
    vectors = unit(500, 8, 0)
    vectors[400] = vectors[3]
    queries = np.concatenate([vectors[3:4], unit(300, 8, 1)])
    positions, scores = ExactIndex(vectors).search(queries, 7)
    expected = queries @ vectors.T
    assert positions[0, :2].tolist() == [3, 400]
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :7], atol=1e-6)
    assert ExactIndex(vectors[:3]).search(queries[:1], 10)[0].shape == (1, 3)


def test_approximate_index_agrees_with_the_exact_one() -> None:
    vectors, queries = unit(2000, 16, 0), unit(50, 16, 1)
    exact, graph = ExactIndex(vectors), ApproximateIndex(vectors)
    positions, scores = graph.search(queries, 10)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, positions, 1), atol=1e-5)
    assert recall(graph, exact, queries, 10) > 0.9
    assert recall(exact, exact, queries, 10) == 1
    narrow = ApproximateIndex(vectors, connectivity=2, expansion_add=4, expansion_search=1)
    assert recall(narrow, exact, queries, 10) < recall(graph, exact, queries, 10)


def test_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest):
        if name.startswith("usearch"):
            raise ImportError(name)
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install -e \"\.\[search\]\", or use index=exact"):
        ApproximateIndex(unit(3, 4, 0))
