import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecfill.bisection import SHARED_FAULT_AFTER, SLOW_SHARED_AFTER, SharedFaultError, isolate


class Batch:
    """Work that fails where a slice holds a faulty row, and that remembers what was tried."""

    def __init__(self, faulty):
        self.faulty = faulty
        self.tried = []

    def __call__(self, rows):
        self.tried.append(rows)
        bad = [row for row in range(rows.start, rows.stop) if row in self.faulty]
        if bad:
            raise ValueError(f"rows {bad}")
        return list(range(rows.start, rows.stop))


def value_error(exc):
    return isinstance(exc, ValueError)


@st.composite
def batches(draw):
    n = draw(st.integers(0, 300))
    some = st.sets(st.integers(0, max(n - 1, 0)), max_size=min(n, SHARED_FAULT_AFTER - 1))
    return n, draw(some) if n else set()


@given(batches())
def test_every_row_is_covered_once_and_only_the_faulty_fail(case):
    n, faulty = case
    work = Batch(faulty)
    covered, failed = [], set()
    for rows, outcome in isolate(n, work, value_error):
        covered += range(rows.start, rows.stop)
        if isinstance(outcome, Exception):
            assert rows.stop - rows.start == 1
            failed.add(rows.start)
        else:
            assert outcome == list(range(rows.start, rows.stop))
    assert sorted(covered) == list(range(n))
    assert failed == faulty
    assert len(work.tried) <= 2 * len(faulty) * math.ceil(math.log2(max(n, 2))) + 1


def test_a_clean_batch_is_one_attempt():
    work = Batch(set())
    assert [rows for rows, _ in isolate(5000, work, value_error)] == [slice(0, 5000)]


def test_nothing_is_attempted_without_rows():
    work = Batch(set())
    assert list(isolate(0, work, value_error)) == []
    assert work.tried == []


def test_other_exceptions_propagate_from_the_first_attempt():
    def attempt(rows):
        raise KeyError("no such column")

    with pytest.raises(KeyError):
        list(isolate(100, attempt, value_error))


@pytest.mark.parametrize("n", [SHARED_FAULT_AFTER, 5000])
def test_a_fault_shared_by_all_rows_is_given_up(n):
    work = Batch(set(range(n)))
    with pytest.raises(SharedFaultError, match=r"the first 20 rows failed individually.*ValueError: rows \[") as caught:
        list(isolate(n, work, value_error))
    assert isinstance(caught.value.__cause__, ValueError)
    assert len(work.tried) < 100


def test_a_cluster_of_faulty_rows_does_not_pass_for_a_shared_fault():
    """Twenty bad rows in front, at the end or in between: the others land."""
    for start in (0, 1000, 1960):
        faulty = set(range(start, start + 2 * SHARED_FAULT_AFTER))
        outcomes = list(isolate(2000, Batch(faulty), value_error))
        assert {rows.start for rows, outcome in outcomes if isinstance(outcome, ValueError)} == faulty


def is_slow(exc):
    return True


@given(batches())
def test_slow_rows_are_found_with_few_slow_attempts(case):
    n, faulty = case
    work, outcomes = Batch(faulty), []
    try:
        outcomes = list(isolate(n, work, value_error, slow=is_slow))
    except SharedFaultError:
        assert len(work.tried) <= 1 + SLOW_SHARED_AFTER
        assert len(faulty) >= SLOW_SHARED_AFTER
        return
    assert sorted(row for rows, _ in outcomes for row in range(rows.start, rows.stop)) == list(range(n))
    assert {rows.start for rows, outcome in outcomes if isinstance(outcome, ValueError)} == faulty
    failed = [rows for rows in work.tried if faulty & {*range(rows.start, rows.stop)}]
    assert len(failed) <= 5 * len(faulty)


def test_rows_that_are_all_slow_cost_a_few_attempts():
    work = Batch(set(range(2000)))
    with pytest.raises(SharedFaultError, match="the first 3 rows failed individually"):
        list(isolate(2000, work, value_error, slow=is_slow))
    assert len(work.tried) == 1 + SLOW_SHARED_AFTER
    assert {rows.start // 500 for rows in work.tried[1:]} == {0, 2, 3}  # all over the batch


def test_few_rows_that_all_fail_are_set_aside_one_by_one():
    outcomes = list(isolate(SHARED_FAULT_AFTER - 1, Batch(set(range(SHARED_FAULT_AFTER))), value_error))
    assert len(outcomes) == SHARED_FAULT_AFTER - 1
    assert all(isinstance(outcome, ValueError) for _, outcome in outcomes)


def test_many_faulty_rows_after_a_success_are_all_set_aside():
    outcomes = list(isolate(200, Batch(set(range(199))), value_error))
    assert sum(isinstance(outcome, ValueError) for _, outcome in outcomes) == 199


def test_the_shared_fault_survives_pickling():
    error = pickle.loads(pickle.dumps(SharedFaultError("all of them")))
    assert str(error) == "all of them"
    assert error.exit_code == 1
