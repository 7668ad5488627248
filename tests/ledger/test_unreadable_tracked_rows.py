"""A tracked target with a row that the server cannot read: the others are followed, and it is tried again when due."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.ledger.tracked import assert_current, fill, queue
from tests.tables import DOCS, make_docs

from vecfill import failures, status, track

ODD = replace(DOCS, where="1 / seen = 1")


@pytest.mark.slow
def test_the_queue_is_settled_around_a_row_that_cannot_be_read(database, connect):
    make_docs(connect, 40)
    connect.execute("UPDATE docs SET seen = CASE WHEN id = 3 THEN 0 ELSE 1 END")
    track(ODD, database=database)
    first = fill(database, ODD)
    assert (first.exit_code, first.updated, [row.key for row in first.quarantine]) == (3, 39, ["3"])
    assert [(row.key, row.stage) for row in failures(ODD, database=database).rows] == [("3", "read")]
    connect.execute("UPDATE docs SET title = 'new ' || id WHERE id < 10 AND id <> 3")
    assert (counts := status(ODD, database=database).coverage).changed == 8, counts
    connect.execute("UPDATE docs SET title = '' WHERE id = 5")
    edited = fill(database, ODD)  # the row failed a moment ago
    assert (edited.exit_code, edited.updated, edited.failed) == (0, 7, 0)
    assert connect.execute("SELECT id FROM docs WHERE embedding IS NULL ORDER BY 1").fetchall() == [(3,), (5,)]
    connect.execute("UPDATE vecfill.failure_1 SET next_try = now()")
    due = fill(database, ODD)
    assert (due.exit_code, [row.key for row in due.quarantine]) == (3, ["3"])
    connect.execute("UPDATE docs SET seen = 1, title = 'good' WHERE id = 3")
    mended = fill(database, ODD)
    assert (mended.exit_code, mended.updated) == (0, 1)
    assert queue(connect) == {}
    assert_current(connect)
