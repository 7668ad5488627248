import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfill.encode.hash_encoder import HashEncoder
from vecfill.encode.sample import DOUBTFUL_BELOW, MIN_SAMPLE, OTHER_MODEL_BELOW, Agreement, Verdict, agreement

DIM = 8


def recomputed(n):
    return HashEncoder(DIM).encode([f"text {row}" for row in range(n)]).vectors


def stored(n, foreign, scale=1.0):
    """Vectors of the column, the first ``foreign`` of them of other texts; of any length, as not every model's is 1."""
    others = HashEncoder(DIM).encode([f"other {row}" for row in range(foreign)]).vectors
    return [tuple(map(float, scale * vector)) for vector in (*others, *recomputed(n)[foreign:])]


@given(st.integers(1, 40), st.data(), st.sampled_from([1e-3, 1.0, 50.0]))
def test_the_verdict_follows_the_share_that_agrees(n, data, scale):
    foreign = data.draw(st.integers(0, n))
    found = agreement(stored(n, foreign, scale), recomputed(n))
    share = found.agreeing / n
    assert (found.agreeing, found.n) == (n - foreign, n)
    assert (found.verdict is Verdict.OTHER_MODEL) == (share < OTHER_MODEL_BELOW and n >= MIN_SAMPLE)
    assert (found.verdict is Verdict.SAME) == (share >= DOUBTFUL_BELOW)
    assert -1 <= found.median_cosine <= 1 + 1e-6


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)).map(sorted), min_size=2, max_size=2))
def test_more_agreement_is_never_worse(pair):
    order = [Verdict.OTHER_MODEL, Verdict.DOUBTFUL, Verdict.SAME]
    n = max(total for _, total in pair)
    worse, better = sorted(min(agreeing, n) for agreeing, _ in pair)
    verdicts = [Agreement(agreeing=agreeing, n=n, median_cosine=1.0).verdict for agreeing in (worse, better)]
    assert order.index(verdicts[0]) <= order.index(verdicts[1])


@given(st.floats(0, 6))
def test_rounding_to_half_precision_is_the_same_model(exponent):
    vectors = (recomputed(20) * 10**exponent).astype(np.float32)
    rounded = [tuple(map(float, np.float16(vector / 10**exponent))) for vector in vectors]
    assert agreement(rounded, vectors) == Agreement(agreeing=20, n=20, median_cosine=pytest.approx(1.0, abs=1e-5))


@pytest.mark.parametrize("vector", [(0.0,) * DIM, (1.0, 2.0), (float("nan"),) * DIM, (float("inf"),) * DIM])
def test_vectors_that_cannot_be_compared_do_not_agree(vector):
    found = agreement([vector] * MIN_SAMPLE, recomputed(MIN_SAMPLE))
    assert (found.agreeing, found.median_cosine, found.verdict) == (0, 0.0, Verdict.OTHER_MODEL)


def test_few_vectors_accuse_no_model():
    assert agreement(stored(MIN_SAMPLE - 1, MIN_SAMPLE - 1), recomputed(MIN_SAMPLE - 1)).verdict is Verdict.DOUBTFUL


def test_nothing_to_compare_is_no_accusation():
    assert agreement([], np.zeros((0, DIM), np.float32)).verdict is Verdict.SAME
