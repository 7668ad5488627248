"""Bisection: finds the rows that make a batch fail, so that all others succeed.

Pure control flow without I/O. ``encode`` isolates texts with it, ``write`` isolates rows (DESIGN 7, class *row*).
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import TypeVar

from vecfill.errors import VecfillError

R = TypeVar("R")

SHARED_FAULT_AFTER = 20
"""Limit of single rows that fail before any success. At the limit the rows share one cause (a broken model, a trigger
that rejects everything), and continuing would try every row of the table individually. A smaller batch is too little
evidence: its rows are reported one by one."""

SLOW_SHARED_AFTER = 3
"""The same limit for rows that each took all of a time limit: twenty would take twenty minutes."""

SLOW_PARTS = 8
"""Parts of a slice that took too long. Each level costs a time limit, so there are few: four for 2,000 rows."""


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
    slow: Callable[[Exception], bool] = lambda _: False,
) -> Iterator[tuple[slice, R | Exception]]:
    """Calls ``attempt`` on all ``n`` rows and, after a failure, on halves, down to the faulty rows.

    Args:
        n: number of rows; 0 attempts nothing.
        attempt: processes the rows of a slice of [0, n); it must have no effect if it raises.
        row_fault: whether a row of the slice may have caused an exception. All others propagate at once.
        proves: whether a result proves that not every row fails; one of an empty slice may not.
        succeeded: other rows are known to succeed.
        slow: whether the attempt that raised an exception took so long that few more may fail like it. Then single rows
            all over the slice come first, which tell one slow row from many.

    Yields:
        (slice, result) or (slice of one row, exception), in no particular order; together they cover [0, n) exactly
        once. With ``f`` faulty rows it calls ``attempt`` at most about ``2 f log2(n) + 1`` times.

    Raises:
        SharedFaultError: SHARED_FAULT_AFTER rows across the batch, or SLOW_SHARED_AFTER slow ones, failed individually
            and none succeeded. Discard the failures yielded before.
    """
    pending = deque([slice(0, n)] if n > 0 else [])
    failures, slowed = Counter[bool](), False
    while pending:
        is_large = pending[0].stop - pending[0].start > max(1, n // BREADTH_FIRST_PARTS)
        rows = pending.popleft() if is_large and not (succeeded or slowed) else pending.pop()
        try:
            result = attempt(rows)
        except Exception as exc:
            if not row_fault(exc):
                raise
            slowed = slow(exc)
            if rows.stop - rows.start > 1:
                pending.extend(_divided(rows, slow=slowed, succeeded=succeeded))
                continue
            failures[slowed] += 1
            if not succeeded and failures[slowed] >= (SLOW_SHARED_AFTER if slowed else SHARED_FAULT_AFTER):
                raise SharedFaultError(_shared_message(failures.total(), exc)) from exc
            yield rows, exc
        else:
            succeeded = succeeded or proves(result)
            yield rows, result


def _divided(rows: slice, *, slow: bool, succeeded: bool) -> list[slice]:
    """Splits a slice that failed; the last part is tried next."""
    if slow and not succeeded:
        return _sample(rows)
    return _parts(rows, SLOW_PARTS if slow else 2)


def _parts(rows: slice, most: int) -> list[slice]:
    """Splits a slice of at least two rows into ``most`` parts of equal size, or fewer."""
    size = rows.stop - rows.start
    return _cut(rows, [rows.start + size * part // most for part in range(1, most)])


def _sample(rows: slice) -> list[slice]:
    """Splits a slice of at least two rows into a few single rows all over it, which come last, and those between."""
    size = rows.stop - rows.start
    tried = {rows.start + size * (2 * part + 1) // (2 * SLOW_SHARED_AFTER) for part in range(SLOW_SHARED_AFTER)}
    parts = _cut(rows, [bound for row in tried for bound in (row, row + 1)])
    return sorted(parts, key=lambda part: part.start in tried)


def _cut(rows: slice, bounds: Iterable[int]) -> list[slice]:
    """Splits a slice at the bounds; no part is empty."""
    cuts = sorted({rows.start, *bounds, rows.stop})
    return [slice(start, stop) for start, stop in pairwise(cuts)]


def _shared_message(failures: int, exc: Exception) -> str:
    reason = str(exc).strip().split("\n", 1)[0]  # later lines of a server's message may quote the row
    return (
        f"the first {failures} rows failed individually, so the cause is not one row; last error: "
        f"{type(exc).__name__}: {reason}"
    )
