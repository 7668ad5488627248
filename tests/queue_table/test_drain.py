"""A run drains a queue table of the application's own."""

from __future__ import annotations

from tests.queue_table.boards import BOARD, add_jobs, filled, make_board, monitored
from tests.tables import INLINE, MODEL

from vecfill.backfill.run import run


def test_a_run_fills_the_rows_that_pending_entries_name_and_settles_the_entries(connect, database):
    make_board(connect, 30)
    add_jobs(connect, 31, 40)
    result = run(BOARD, MODEL, database=database, options=INLINE)
    assert (result.outcome, result.exit_code, result.updated, result.remaining) == ("complete", 0, 30, 0)
    assert (filled(connect), monitored(connect)) == (30, {"completed": 30})
    assert result.queue.before == {"pending": 30}
    assert result.queue.after == {"completed": 30}
    assert (result.queue.unnamed, result.queue.lost, result.after.unqueued) == (10, 0, 10)
    assert connect.execute("SELECT count(*) FROM embedding_queue WHERE finished_at >= started_at").fetchone() == (30,)
