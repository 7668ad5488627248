"""Units of a queue table: every entry and every wanted row is in one of them."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from vecfill.read.queue_units import next_entries

COUNT = st.integers(1, 100_000)


@example(rows=830, repeated=1, limit=830, aim=100)
@given(rows=COUNT, repeated=st.integers(0, 50_000), limit=COUNT, aim=st.integers(100, 8_192))
def test_they_share_all_entries_and_rows(rows, repeated, limit, aim):
    entries, wanted = rows + repeated, min(rows, limit)
    units = next_entries(1, entries=entries, rows=rows, wanted=wanted, limited=True, aim=aim, excluded=())
    assert sum(unit.rows for unit in units) == wanted
    assert sum(unit.entries for unit in units) >= entries * wanted / rows
    assert all(0 < unit.entries <= aim and unit.rows <= unit.entries for unit in units)


def test_nothing_pending_is_no_unit():
    assert next_entries(1, entries=0, rows=0, wanted=0, limited=False, aim=10, excluded=()) == []
