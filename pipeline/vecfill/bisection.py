"""Bisection: finds the rows that make a batch fail, so that all others succeed.

Pure control flow without I/O. ``encode`` isolates texts with it, ``write`` isolates rows (DESIGN 7, class *row*).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

from vecfill.errors import VecfillError

R = TypeVar("R")

SHARED_FAULT_AFTER = 20
"""Limit of single rows that fail before any success. At the limit the rows share one cause (a broken model, a trigger
that rejects everything), and continuing would try every row of the table individually. A smaller batch is too little
evidence: its rows are reported one by one."""


class SharedFaultError(VecfillError):
    """Every tried row failed individually, so the cause is not a single row. ``__cause__`` is the last error."""


BREADTH_FIRST_PARTS = 16
"""Parts of a batch that are tried before any is split into single rows. Faulty rows occur in clusters: twenty at the
start of a batch must not count as a shared fault."""


def isolate(
    n: int,
    attempt: Callable[[slice], R],
    row_fault: Callable[[Exception], bool],
    *,
    proves: Callable[[R], bool] = lambda _: True,
    succeeded: bool = False,
) -> Iterator[tuple[slice, R | Exception]]:
    """Calls ``attempt`` on all ``n`` rows and, after a failure, on halves, down to the faulty rows.

    Args:
        n: number of rows; 0 attempts nothing.
        attempt: processes the rows of a slice of [0, n); it must have no effect if it raises.
        row_fault: whether a row of the slice may have caused an exception. All others propagate at once.
        proves: whether a result proves that not every row fails; one of an empty slice may not.
        succeeded: other rows are known to succeed.

    Yields:
        (slice, result) or (slice of one row, exception), in no particular order; together they cover [0, n) exactly
        once. With ``f`` faulty rows it calls ``attempt`` at most about ``2 f log2(n) + 1`` times.

    Raises:
        SharedFaultError: SHARED_FAULT_AFTER rows across the batch failed individually and none succeeded. Discard the
            failures yielded before.
    """
    pending = deque([slice(0, n)] if n > 0 else [])
    failures = 0
    while pending:
        breadth_first = not succeeded and pending[0].stop - pending[0].start > max(1, n // BREADTH_FIRST_PARTS)
        rows = pending.popleft() if breadth_first else pending.pop()
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
            succeeded = succeeded or proves(result)
            yield rows, result


def _halves(rows: slice) -> tuple[slice, slice]:
    """Splits a slice of at least two rows."""
    middle = (rows.start + rows.stop) // 2
    return slice(rows.start, middle), slice(middle, rows.stop)


def _shared_message(failures: int, exc: Exception) -> str:
    reason = str(exc).strip().split("\n", 1)[0]  # later lines of a server's message may quote the row
    return (
        f"the first {failures} rows failed individually, so the cause is not one row; last error: "
        f"{type(exc).__name__}: {reason}"
    )
