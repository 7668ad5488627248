from itertools import chain, repeat

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vecfill.encode.device.token_batches import BatchSizeSearch, packed_batches, padding, token_batches

lengths_of = st.lists(st.integers(0, 600), max_size=200).map(lambda values: np.array(values, np.int32))


def batches_of(lengths, size):
    return list(token_batches(lengths, lambda: size))


@given(lengths_of, st.integers(1, 5_000))
def test_every_position_once_longest_first_and_within_the_size(lengths, size):
    batches = batches_of(lengths, size)
    together = np.concatenate(batches) if batches else np.zeros(0, np.int64)
    assert sorted(together.tolist()) == list(range(len(lengths)))
    assert (np.diff(lengths[together]) <= 0).all()
    for rows in batches:
        assert len(rows) == 1 or len(rows) * lengths[rows].max() <= size or lengths[rows].max() == 0


@given(st.lists(st.integers(1, 512), min_size=1, max_size=200), st.integers(512, 5_000))
def test_full_batches_are_more_than_half_full_and_padding_is_what_lengths_differ_by(values, size):
    lengths = np.array(values, np.int32)
    batches = batches_of(lengths, size)
    for rows in batches[:-1]:
        assert 2 * len(rows) * lengths[rows].max() > size
    wasted = sum(int((lengths[rows].max() - lengths[rows]).sum()) for rows in batches)
    assert padding(lengths, batches) == 1 - lengths.sum() / (lengths.sum() + wasted)
    assert padding(np.sort(lengths), batches_of(np.sort(lengths), size)) == padding(lengths, batches)


@given(lengths_of, st.integers(1, 5_000))
def test_packed_texts_keep_their_order_behind_those_that_exceed_a_batch(lengths, size):
    batches = list(packed_batches(lengths, lambda: size))
    together = np.concatenate(batches) if batches else np.zeros(0, np.int64)
    long, short = np.flatnonzero(lengths > size), np.flatnonzero(lengths <= size)
    assert together.tolist() == [*long, *short]
    for rows, more in zip(batches, [*batches[1:], None], strict=False):
        assert len(rows) == 1 or lengths[rows].sum() <= size
        assert more is None or lengths[rows].sum() + lengths[more[0]] > size


def test_padding_of_real_lengths_is_next_to_nothing():
    lengths = np.random.default_rng(5).integers(8, 512, 4_000).astype(np.int32)
    assert padding(lengths, batches_of(lengths, 2_048)) < 0.01
    unsorted = np.split(np.arange(4_000), 125)
    assert padding(lengths, unsorted) > 0.4


def test_nothing_gives_nothing():
    empty = np.zeros(0, np.int32)
    assert batches_of(empty, 5) == []
    assert padding(empty, []) == 0


def test_the_size_is_asked_before_each_batch():
    sizes = chain([10, 20], repeat(30))
    assert [len(rows) for rows in token_batches(np.full(10, 10, np.int32), lambda: next(sizes))] == [1, 2, 3, 3, 1]


@given(st.lists(st.integers(1, 10**6), min_size=3, max_size=3, unique=True))
def test_the_fastest_batch_size_is_kept(rates):
    search = BatchSizeSearch((1_000, 2_000, 4_000), trials=2)
    assert search.best == 2_000
    asked = []
    while search.searching:
        size = search.next()
        asked.append(size)
        search.record(size, size, size / rates[(1_000, 2_000, 4_000).index(size)])
    assert asked == [1_000, 2_000, 4_000] * 2
    assert search.next() == search.best == (1_000, 2_000, 4_000)[int(np.argmax(rates))]


def test_a_batch_less_than_half_full_is_ignored():
    search = BatchSizeSearch((1_000,), trials=1)
    search.record(1_000, 400, 1.0)
    assert search.searching
    search.record(1_000, 900, 1.0)
    assert not search.searching
