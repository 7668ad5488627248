"""Quality against brute force in plain Python."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vecfill.bench.api import quality

pytestmark = pytest.mark.slow  # loads scikit-learn

K = 10


ROWS = st.integers(0, 14)


def matrices(rows=ROWS):
    """Vectors of whole numbers: their cosines are not so near to one another that rounding decides."""
    elements = st.integers(-3, 3).map(np.float32)
    return rows.flatmap(lambda n: arrays.arrays(np.float32, (n, 3), elements=elements))


LABELS = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=0, max_size=14)


def cosine(one, other) -> float:
    norms = math.sqrt(sum(float(x) ** 2 for x in one)) * math.sqrt(sum(float(x) ** 2 for x in other))
    return sum(float(x) * float(y) for x, y in zip(one, other, strict=True)) / norms if norms else 0.0


@given(vectors=matrices(), k=st.integers(1, 12))
def test_neighbours_are_those_of_brute_force(vectors, k):
    found = quality.nearest(vectors, None, k)
    for row, places in enumerate(found):
        others = [other for other in range(len(vectors)) if other != row]
        assert len(places) == len(set(places)) == min(k, len(others))
        assert row not in places
        given_ = [cosine(vectors[row], vectors[other]) for other in places]
        best = sorted((cosine(vectors[row], vectors[other]) for other in others), reverse=True)[:k]
        assert given_ == pytest.approx(best, abs=1e-5)


@given(scale=st.floats(1e-12, 1e12))
def test_a_vector_s_length_does_not_matter(scale):
    vectors = np.random.default_rng(2).normal(size=(30, 8)).astype(np.float32)
    lengths = np.where(np.arange(30) % 2, 1.0, scale)[:, None].astype(np.float32)
    np.testing.assert_array_equal(quality.nearest(vectors * lengths, None, 5), quality.nearest(vectors, None, 5))


def test_many_queries_are_as_one_alone():
    vectors = np.random.default_rng(1).normal(size=(1_100, 8)).astype(np.float32)
    found = quality.nearest(vectors, None, 3)
    alone = [quality.nearest(vectors[row : row + 1], vectors, 4)[0][1:] for row in (0, 1_099)]
    np.testing.assert_array_equal(found[[0, 1_099]], alone)


def test_vectors_that_are_not_finite_are_like_nothing():
    vectors = np.array([[1, 0], [np.nan, np.inf], [1, 0.1]], np.float32)
    assert quality.nearest(vectors, None, 1)[0].tolist() == [2]


@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 8), k=st.integers(1, 6))
def test_overlap_is_that_of_sets(seed, rows, k):
    rng = np.random.default_rng(seed)
    one, other = (np.array([rng.permutation(9)[:k] for _ in range(rows)]) for _ in range(2))
    wanted = [len(set(left) & set(right)) / k for left, right in zip(one.tolist(), other.tolist(), strict=True)]
    assert quality.overlap(one, other).tolist() == pytest.approx(wanted)
    assert quality.overlap(one, one[:, ::-1]).tolist() == [1.0] * rows


def reference_ndcg(hits: list[bool], relevant: int, k: int) -> float:
    gained = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(hits[:k], start=1) if hit)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(relevant, k) + 1))
    return gained / best if best else math.nan


@given(hits=st.lists(st.booleans(), max_size=15), more=st.integers(0, 20), k=st.integers(1, 12))
def test_ndcg_and_precision_are_those_of_their_definitions(hits, more, k):
    relevant = sum(hits) + more
    row = np.array([hits], bool).reshape(1, -1)
    assert quality.ndcg(row, np.array([relevant]), k)[0] == pytest.approx(
        reference_ndcg(hits, relevant, k), nan_ok=True
    )
    assert quality.precision(row, k)[0] == pytest.approx(sum(hits[:k]) / k)


@given(labels=st.lists(st.booleans(), min_size=2, max_size=30).filter(any), seed=st.integers(0, 99))
def test_ndcg_is_that_of_scikit_learn(labels, seed):
    from sklearn.metrics import ndcg_score  # takes seconds to import

    scores = np.random.default_rng(seed).permutation(len(labels)).astype(np.float64)
    hits = np.array(labels)[np.argsort(-scores)][None, :]
    wanted = ndcg_score([labels], [scores], k=K)
    assert quality.ndcg(hits, np.array([sum(labels)]), K)[0] == pytest.approx(wanted)


@given(hits=st.lists(st.booleans(), min_size=2, max_size=K), at=st.integers(0, K - 2))
def test_a_hit_that_moves_up_never_lowers_ndcg(hits, at):
    at %= len(hits) - 1
    better = hits.copy()
    better[at], better[at + 1] = max(hits[at : at + 2]), min(hits[at : at + 2])
    count = np.array([sum(hits)])
    low, high = (quality.ndcg(np.array([one], bool), count, K)[0] for one in (hits, better))
    assert math.isnan(low) or high >= low - 1e-12


@given(vectors=matrices(st.just(14)), labels=LABELS)
def test_labels_are_compared_as_by_hand(vectors, labels):
    vectors = vectors[: len(labels)]
    precision, ndcg = quality.by_label(vectors, labels, K)
    rows = [row for row, label in enumerate(labels) if label is not None]
    if not rows:
        assert np.isnan(precision).all()
        return
    places = quality.nearest(vectors[rows], None, K)
    for at, row in enumerate(rows):
        hits = [labels[rows[place]] == labels[row] for place in places[at]]
        relevant = sum(labels[other] == labels[row] for other in rows) - 1
        wanted = reference_ndcg(hits, relevant, K)
        assert ndcg[row] == pytest.approx(wanted, nan_ok=True)
        assert precision[row] == pytest.approx(sum(hits) / K if relevant else math.nan, nan_ok=True)
    unlabelled = [row for row, label in enumerate(labels) if label is None]
    assert np.isnan(precision[unlabelled]).all()


@given(labels=LABELS)
def test_chance_is_what_lots_would_give(labels):
    rows = [label for label in labels if label is not None]
    shares = [(rows.count(label) - 1) / (len(rows) - 1) for label in rows if rows.count(label) > 1]
    assert quality.label_chance(*quality.label_codes(labels)) == (
        pytest.approx(sum(shares) / len(shares)) if shares else None
    )


@given(scores=st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=20))
def test_a_mean_leaves_out_what_is_not_known(scores):
    found, known = quality.mean_of(np.array(scores, np.float64)), [one for one in scores if not math.isnan(one)]
    if not known:
        assert found is None
        return
    assert found["n"] == len(known)
    assert found["mean"] == pytest.approx(sum(known) / len(known))
    assert found["low"] <= found["mean"] <= found["high"]
