"""Units of a queue table: numbers of entries to claim. Pure; the counts come from the survey."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, kw_only=True)
class NextEntries:
    """A number of entries, whichever are next when the unit is read; so several workers never plan the same.

    Attributes:
        leaf: position of the queue table among the target's leaves.
        entries: entries to claim.
        rows: rows that they are expected to name.
        limited: read no more rows than that.
        excluded: keys to exclude, as text from the server.
    """

    leaf: int
    entries: int
    rows: int
    limited: bool = False
    excluded: tuple[str, ...] = ()


def next_entries(
    leaf: int, *, entries: int, rows: int, wanted: int, limited: bool, aim: int, excluded: tuple[str, ...]
) -> list[NextEntries]:
    """Splits entries into units of equal numbers, at most ``aim`` each.

    Args:
        leaf: position of the queue table among the target's leaves.
        entries: pending entries, at least as many as the rows that they name.
        rows: rows that they name.
        wanted: rows to read of these.
        limited: read no more than that.
        aim: the most entries of a unit.
        excluded: keys to exclude, as text from the server.
    """
    claimed = -(-entries * wanted // max(rows, 1))
    units = -(-claimed // aim)
    ends = [claimed * unit // units for unit in range(units + 1)] if units else []
    return [
        NextEntries(
            leaf=leaf,
            entries=end - start,
            rows=wanted * end // claimed - wanted * start // claimed,  # no more than entries
            limited=limited,
            excluded=excluded,
        )
        for start, end in pairwise(ends)
    ]
