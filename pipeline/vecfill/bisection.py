"""Bisection: finds the rows that make a batch fail, so that all others still land.

Pure control flow without I/O. The encode room isolates texts with it, the write room rows (DESIGN 7, class *row*).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from vecfill.errors import VecfillError

R = TypeVar("R")

SHARED_FAULT_AFTER = 20
"""Single rows that may fail before any success: then the fault is not a row's but one they share (a broken model, a
trigger that refuses everything), and going on would try each row of the table alone. A batch of fewer rows has too
little evidence for that: its rows are set aside one by one."""


class SharedFaultError(VecfillError):
    """Every row that was tried failed alone: the fault belongs to no single row. ``__cause__`` is the last one's."""


BREADTH_FIRST_PARTS = 16
"""Parts of a batch that are tried before any is pursued to its single rows. Faulty rows come in clusters: the twenty
that lie in front must not pass for a fault that all share."""


def isolate(
    n: int, attempt: Callable[[slice], R], row_fault: Callable[[Exception], bool]
) -> Iterator[tuple[slice, R | Exception]]:
    """Calls ``attempt`` on all ``n`` rows and, where that fails, on halves, down to the rows at fault.

    Args:
        n: number of rows; with 0 nothing is attempted.
        attempt: does the work for the rows of a slice of [0, n); it must leave no trace when it raises.
        row_fault: whether an exception may be the fault of some row of the slice. All others propagate at once.

    Yields:
        (slice, result) or (slice of one row, exception), in no order; together they cover [0, n) exactly once. With
        ``f`` rows at fault ``attempt`` is called about ``2 f log2(n) + 1`` times at most.

    Raises:
        SharedFaultError: SHARED_FAULT_AFTER rows all over the batch failed one by one and nothing has succeeded. The
            failures yielded up to then mean nothing and are to be dropped.
    """
    pending = deque([slice(0, n)] if n > 0 else [])
    failures = 0
    succeeded = False
    while pending:
        wide = not succeeded and pending[0].stop - pending[0].start > max(1, n // BREADTH_FIRST_PARTS)
        rows = pending.popleft() if wide else pending.pop()
        try:
            result = attempt(rows)
        except Exception as exc:
            if not row_fault(exc):
                raise
            if rows.stop - rows.start > 1:
                pending.extend(_halves(rows))
                continue
            failures += 1
            if not succeeded and failures >= SHARED_FAULT_AFTER:
                raise SharedFaultError(_shared_message(failures, exc)) from exc
            yield rows, exc
        else:
            succeeded = True
            yield rows, result


def _halves(rows: slice) -> tuple[slice, slice]:
    """Splits a slice of two rows or more."""
    middle = (rows.start + rows.stop) // 2
    return slice(rows.start, middle), slice(middle, rows.stop)


def _shared_message(failures: int, exc: Exception) -> str:
    reason = str(exc).strip().split("\n", 1)[0]  # what follows in a server's message may quote the row
    return f"{failures} rows failed, each alone, and none succeeded, the last with {type(exc).__name__}: {reason}"
