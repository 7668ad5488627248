import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tests.tables import wait_until

from vecfill.encode import vector_cache
from vecfill.encode.encoding import Encoding, TokensBy
from vecfill.encode.vector_cache import CACHE_BYTES, VectorCache

DIM = 3
BLOCKS = st.lists(st.lists(st.integers(0, 12), max_size=20), max_size=8)


def hash_of(text):
    return b"%016d" % text


def computed(texts):
    """Vectors of numbers, all that is noted of a row with them; 7 and 11 fail."""
    rows = Encoding.blank(len(texts), DIM)
    for row, text in enumerate(texts):
        if text in (7, 11):
            rows.fail(row, "row", f"cannot take {text}")
        else:
            rows.vectors[row], rows.n_tokens[row], rows.counted[row] = text, text, True
            rows.truncated[row] = text % 2
    return rows


def through(cache, texts, asked=None):
    def compute(positions):
        some = [texts[position] for position in positions]
        if asked is not None:
            asked.extend(some)
        return computed(some)

    return cache.encode([hash_of(text) for text in texts], compute)


def same(one, other):
    pairs = [(getattr(one, name), getattr(other, name)) for name in ("vectors", "n_tokens", "counted", "truncated")]
    return all(np.array_equal(*pair) for pair in pairs) and one.errors == other.errors


@given(BLOCKS, st.sampled_from([4 * DIM, 4 * DIM * 5, CACHE_BYTES]))
def test_the_same_as_computing_everything(blocks, max_bytes):
    cache = VectorCache(DIM, max_bytes)
    for texts in blocks:
        asked = []
        rows, reused = through(cache, texts, asked)
        assert same(rows, computed(texts))
        assert len(asked) == len(set(asked)) == (~reused).sum()
        assert all(texts.index(texts[row]) == row for row in np.flatnonzero(~reused))


@given(BLOCKS, st.integers(1, 6))
def test_cachery_is_bounded(blocks, capacity):
    cache = VectorCache(DIM, 4 * DIM * capacity)
    for texts in blocks:
        through(cache, texts)
        assert len(cache._slots) <= len(cache._owners) <= capacity


def test_the_oldest_make_room():
    cache, asked = VectorCache(DIM, 4 * DIM * 2), []
    for texts in ([1], [2], [3], [2, 3], [1]):
        through(cache, texts, asked)
    assert asked == [1, 2, 3, 1]


def test_short_vectors_are_bounded_in_number_too(monkeypatch):
    monkeypatch.setattr(vector_cache, "MOST_TEXTS", 2)
    cache, asked = VectorCache(DIM), []
    for texts in ([1], [2], [3], [2, 3], [1]):
        through(cache, texts, asked)
    assert asked == [1, 2, 3, 1]


def test_failures_are_tried_again_in_the_next_block():
    cache, asked = VectorCache(DIM), []
    assert through(cache, [7, 7, 1], asked)[0].errors == dict.fromkeys((0, 1), ("row", "cannot take 7"))
    through(cache, [7, 1], asked)
    assert asked == [7, 1, 7]


def test_threads_may_share_it():
    cache, together = VectorCache(DIM, 4 * DIM * 5), threading.Barrier(4)
    blocks = np.random.default_rng(3).integers(0, 12, (4, 50, 20)).tolist()

    def work(mine):
        together.wait()
        return all(same(through(cache, texts)[0], computed(texts)) for texts in mine)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, blocks))


def test_what_another_thread_computes_is_waited_for_and_not_computed_again():
    cache, asked, started, go = VectorCache(DIM), [], threading.Event(), threading.Event()

    def slowly(positions):
        started.set()
        go.wait(60)
        asked.extend(positions)
        return computed(positions)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.encode, [hash_of(text) for text in range(6)], slowly)
        started.wait(60)
        second = pool.submit(through, cache, [3, 4, 8, 3], asked)
        wait_until(lambda: 8 in asked)  # its own text; for the others it waits
        assert not second.done()
        go.set()
        rows, reused = second.result(60)
    assert sorted(asked) == [0, 1, 2, 3, 4, 5, 8]
    assert same(rows, computed([3, 4, 8, 3]))
    assert reused.tolist() == [True, True, False, True]
    assert same(first.result()[0], computed(range(6)))


def test_what_another_thread_fails_to_compute_is_computed_here():
    cache, asked, started, go = VectorCache(DIM), [], threading.Event(), threading.Event()

    def breaks(positions):
        started.set()
        go.wait(60)
        raise OSError

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.encode, [hash_of(1)], breaks)
        started.wait(60)
        second = pool.submit(through, cache, [1, 2], asked)
        wait_until(lambda: asked == [2])
        go.set()
        rows, _ = second.result(60)
    assert isinstance(first.exception(), OSError)
    assert asked == [2, 1]
    assert same(rows, computed([1, 2]))


def test_vectors_of_a_tokenizer_that_lied_are_forgotten():
    cache, asked = VectorCache(DIM), []

    def compute(positions, by):
        asked.extend(positions)
        return Encoding.of(np.ones((len(positions), DIM), np.float32), tokens_by=by)

    for text, by in ((1, TokensBy.FAST), (2, TokensBy.LIBRARY)):
        cache.encode([hash_of(text)], lambda some, by=by: compute(some, by))
    cache.forget(TokensBy.FAST)
    asked.clear()
    found, reused = cache.encode([hash_of(2), hash_of(1)], lambda some: compute(some, TokensBy.CAUGHT))
    assert (asked, reused.tolist()) == ([1], [True, False])
    assert found.tokens_by.tolist() == [TokensBy.LIBRARY, TokensBy.CAUGHT]
