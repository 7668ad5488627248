"""Both engines drain a queue table: each entry is claimed once, and settled with its vector."""

from __future__ import annotations

import pyarrow as pa
from tests.queue_table.boards import filled, job_of_board, make_board, monitored
from tests.tables import counts

from vecfill.job import Stop

ROWS = 3_000


def test_a_queue_table_is_drained(connect, database, open_engine):
    make_board(connect, ROWS)
    job = job_of_board(database)
    units = job.source.plan(job.source.survey(), limit=ROWS - 10, most_rows=700)
    results = list(open_engine(job).stream(units, Stop()))
    assert len(results) == len(units) == 6
    assert counts(pa.concat_tables(results)) == {"updated": ROWS - 10}
    assert (filled(connect), monitored(connect)) == (ROWS - 10, {"completed": ROWS - 10, "pending": 10})
    job.source.close()
