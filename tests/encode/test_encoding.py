import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from vecfill.encode.encoding import Encoding, one_line

DIM = 3


def encoding(rows):
    """Vectors that name their row; some rows fail, some were not sent."""
    vectors = np.repeat(np.arange(1, len(rows) + 1, dtype=np.float32)[:, None], DIM, axis=1)
    found = Encoding.of(vectors, n_tokens=np.arange(len(rows), dtype=np.int32), truncated=np.ones(len(rows), np.bool_))
    for row, kind in enumerate(rows):
        if kind == "fails":
            found.fail(row, "row", f"cannot\n take {row}")
        found.unasked[row] = kind == "unasked"
    return found


@given(st.lists(st.sampled_from(["fine", "fails", "unasked"]), min_size=1, max_size=20), st.data())
def test_rows_keep_all_that_is_known_of_them_wherever_they_are_copied(rows, data):
    whole = encoding(rows)
    taken = np.array(data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=30)), np.int64)
    some = whole.take(taken)
    for name in ("vectors", "n_tokens", "counted", "truncated", "windows", "unasked"):
        assert np.array_equal(getattr(some, name), getattr(whole, name)[taken])
        assert getattr(some, name).dtype == getattr(whole, name).dtype
    assert np.array_equal(some.failed(), whole.failed()[taken])
    assert some.errors == {to: whole.errors[row] for to, row in enumerate(taken.tolist()) if row in whole.errors}


def test_a_row_that_fails_has_no_vector_and_no_count():
    found = encoding(["fine", "fails"])
    assert found.errors == {1: ("row", "cannot take 1")}
    assert found.failed().tolist() == [False, True]
    assert (found.vectors[1] == 0).all()
    assert (found.counted.tolist(), found.truncated.tolist()) == ([True, False], [True, False])


def test_without_counts_nothing_is_counted():
    found = Encoding.of(np.ones((2, DIM), np.float32))
    assert not (found.counted | found.truncated | found.unasked | found.failed()).any()


@given(st.text(), st.integers(1, 50))
def test_a_message_is_one_short_line(text, length):
    line = one_line(text, length)
    assert len(line) <= length
    assert len(line.splitlines()) <= 1
