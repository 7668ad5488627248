"""A run drains a queue table of the application's own, and every entry gets an honest end."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from tests.queue_table.boards import BOARD, add_jobs, board, enqueue, filled, make_board, monitored
from tests.tables import DIM, INLINE, MODEL, assert_every_vector_is_its_texts

from vecfill.backfill.intent import RunIntent
from vecfill.backfill.prepare import surveyed
from vecfill.backfill.result import RunResult
from vecfill.backfill.run import run
from vecfill.cli.report import queue_lines
from vecfill.config.target import Target
from vecfill.postgres.database import Database
from vecfill.postgres.session import Session

REFUSES_ROW_5 = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'row 5 stays as it is'; END $$;
CREATE TRIGGER refuse BEFORE UPDATE ON jobs FOR EACH ROW WHEN (NEW.id = 5) EXECUTE FUNCTION refuse()
"""


@pytest.fixture
def drain(database):
    def drain(target: Target = BOARD, **options: object) -> RunResult:
        return run(target, MODEL, database=database, options=replace(INLINE, **options))

    return drain


def entries(connect: psycopg.Connection, columns: str, where: str = "true") -> list[tuple]:
    return connect.execute(f"SELECT {columns} FROM embedding_queue WHERE {where} ORDER BY id").fetchall()


def test_a_run_fills_the_rows_that_pending_entries_name_and_settles_the_entries(connect, drain):
    make_board(connect, 30)
    add_jobs(connect, 31, 40)
    result = drain()
    assert (result.outcome, result.exit_code, result.updated, result.remaining) == ("complete", 0, 30, 0)
    assert (filled(connect), monitored(connect)) == (30, {"completed": 30})
    assert (result.queue.before, result.queue.after) == ({"pending": 30}, {"completed": 30})
    assert (result.queue.unnamed, result.queue.lost, result.after.unqueued) == (10, 0, 10)
    assert entries(connect, "finished_at >= started_at") == [(True,)] * 30


def test_the_origin_s_queue_is_drained_by_one_run(connect, drain):
    """25,271 of 32,322 without a vector, some processing for hours, some completed without one: here a hundredth."""
    make_board(connect)
    add_jobs(connect, 1, 323)
    connect.execute(f"UPDATE jobs SET embedding = array_fill(1, ARRAY[{DIM}])::vector WHERE id <= 70")
    enqueue(connect, 1, 70, "completed")
    enqueue(connect, 71, 90, "processing", started_at="2026-01-01")
    enqueue(connect, 91, 93, "completed")
    enqueue(connect, 94, 323)
    result = drain(allow_mixed=True)
    assert (result.outcome, result.updated, result.queue.taken_over, result.queue.lost) == ("complete", 250, 20, 3)
    assert (filled(connect), monitored(connect)) == (320, {"completed": 323})


def test_what_others_are_at_work_on_is_left_to_them_until_it_is_stuck(connect, drain):
    make_board(connect)
    add_jobs(connect, 1, 4)
    connect.execute(
        "INSERT INTO embedding_queue (job_id, status, started_at) VALUES (1, 'pending', NULL),"
        " (2, 'processing', now() - interval '29 minutes'), (3, 'processing', now() - interval '31 minutes'),"
        " (4, 'processing', NULL)"
    )
    result = drain()
    assert (result.exit_code, result.updated, result.queue.taken_over) == (0, 3, 2)
    assert monitored(connect) == {"completed": 3, "processing": 1}
    assert "processing entries of other workers, or of a run that died: 1; " in "".join(
        queue_lines("jobs", result.queue)
    )
    assert drain(board(stuck_minutes=20)).updated == 1


def test_without_a_time_of_the_claim_only_the_user_can_say_what_is_stuck(connect, drain):
    make_board(connect, 3)
    enqueue(connect, 1, 1, "processing")
    bare = board(claimed=None, finished=None, attempts=None, error=None)
    add_jobs(connect, 4, 5)
    enqueue(connect, 4, 5, "processing")
    assert (drain(bare).updated, monitored(connect)) == (3, {"completed": 4, "processing": 2})
    result = drain(replace(bare, queue=replace(bare.queue, stuck_minutes=0)))
    assert (result.updated, result.queue.taken_over, monitored(connect)) == (2, 2, {"completed": 6})


def test_one_vector_settles_all_entries_of_its_key(connect, drain):
    make_board(connect, 10)
    enqueue(connect, 1, 10)
    enqueue(connect, 3, 3, "failed")
    result = drain(board(filled="done"), limit=4)
    assert (result.outcome, result.updated) == ("limit", 4)
    result = drain()
    assert (result.exit_code, filled(connect)) == (0, 10)
    assert monitored(connect) == {"completed": 20, "failed": 1}


def test_repeated_entries_side_by_side_cost_no_more_sweeps(connect, drain):
    make_board(connect)
    add_jobs(connect, 1, 40)
    for _ in range(30):
        enqueue(connect, 1, 40)
    connect.execute("CREATE TABLE sorted AS SELECT * FROM embedding_queue ORDER BY job_id")
    connect.execute(
        "TRUNCATE embedding_queue; INSERT INTO embedding_queue (job_id, status) SELECT job_id, status FROM sorted"
    )
    assert drain(limit=3).updated == 3
    result = drain()
    assert (result.exit_code, result.sweeps, filled(connect)) == (0, 1, 40)
    assert result.updated >= 37  # a row whose entries two blocks in flight share is embedded by both
    assert monitored(connect) == {"completed": 1_200}


def test_entries_that_the_write_itself_makes_are_settled_with_it(connect, drain):
    """A trigger that queues a row on any UPDATE would make it come again and again."""
    make_board(connect, 5)
    connect.execute(
        "CREATE FUNCTION queue() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO embedding_queue (job_id, status) VALUES (NEW.id, 'pending'); RETURN NULL; END $$;"
        "CREATE TRIGGER queue AFTER UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION queue()"
    )
    result = drain()
    assert (result.exit_code, result.updated, result.sweeps) == (0, 5, 1)
    assert monitored(connect) == {"completed": 10}


def test_a_row_that_fails_gives_its_entries_the_reason(connect, drain):
    make_board(connect, 8)
    connect.execute(REFUSES_ROW_5)
    connect.execute("UPDATE embedding_queue SET attempts = 2, error = 'earlier' WHERE job_id IN (4, 5)")
    result = drain()
    assert (result.exit_code, result.updated, result.refused) == (3, 7, 1)
    assert monitored(connect) == {"completed": 7, "failed": 1}
    assert entries(connect, "status, attempts, error", "job_id IN (4, 5)") == [
        ("completed", 2, None),
        ("failed", 3, result.quarantine[0].error),
    ]
    assert drain().eligible == 0  # it waits for the user


def test_an_error_column_may_be_short(connect, drain):
    make_board(connect, 5)
    connect.execute("ALTER TABLE embedding_queue ALTER error TYPE varchar(9)")
    connect.execute(REFUSES_ROW_5)
    assert drain().refused == 1
    assert entries(connect, "error", "status = 'failed'") == [("row 5 sta",)]


@pytest.mark.parametrize(("order", "first"), [(("priority DESC", "id"), [7, 8, 1]), (("id DESC",), [9, 8, 7])])
def test_entries_come_in_their_order(connect, drain, order, first):
    make_board(connect, 9)
    connect.execute("UPDATE embedding_queue SET priority = 5 WHERE job_id IN (7, 8)")
    assert drain(board(order=order), limit=3).updated == 3
    assert sorted(first) == [key for (key,) in entries(connect, "job_id", "status = 'completed'")]


def test_entries_whose_row_needs_nothing_are_done_and_counted(connect, drain):
    make_board(connect, 6, reference="")
    connect.execute("DELETE FROM jobs WHERE id = 1; UPDATE jobs SET title = ' ' WHERE id = 2")
    connect.execute(f"UPDATE jobs SET embedding = array_fill(1, ARRAY[{DIM}])::vector WHERE id = 3")
    result = drain(board(filled="done"), allow_mixed=True)
    assert result.queue.settled == {"gone": 1, "empty": 1, "filled": 1}
    assert (result.updated, monitored(connect)) == (3, {"completed": 6})


def test_an_entry_asks_for_a_new_vector_of_a_row_that_has_one(connect, drain):
    make_board(connect, 5)
    assert drain().updated == 5
    connect.execute("UPDATE jobs SET title = 'another' WHERE id <= 2")
    enqueue(connect, 1, 2)
    result = drain()
    assert (result.updated, result.filled, result.selected) == (2, 0, {"missing": 0, "queued": 2})
    assert_every_vector_is_its_texts(connect, table="jobs", rows=5)
    assert monitored(connect) == {"completed": 7}


def test_entries_of_rows_that_where_does_not_select_are_another_s(connect, drain):
    make_board(connect, 9)
    result = drain(replace(BOARD, where="id % 3 = 0"))
    assert (result.exit_code, result.updated, result.sweeps) == (0, 3, 1)
    assert monitored(connect) == {"completed": 3, "pending": 6}
    assert drain(replace(BOARD, where="id % 3 > 0"), limit=4).updated == 4


def test_done_entries_can_be_deleted(connect, drain):
    make_board(connect, 8)
    connect.execute(REFUSES_ROW_5)
    connect.execute("UPDATE jobs SET title = '' WHERE id = 1")
    assert drain(board(done="delete")).updated == 6
    assert entries(connect, "job_id, status") == [(5, "failed")]


def test_the_rows_that_the_queue_does_not_name_are_filled_if_wanted(connect, drain):
    make_board(connect, 5)
    add_jobs(connect, 6, 12)
    enqueue(connect, 6, 6, "failed")
    enqueue(connect, 7, 7, "processing", started_at="2126-01-01")
    enqueue(connect, 8, 8, "completed")
    result = drain(board(rest=True))
    assert (result.exit_code, result.eligible, result.updated, result.after.unqueued) == (0, 10, 10, 2)
    assert (result.queue.lost, result.queue.unnamed) == (0, 0)
    assert connect.execute("SELECT id FROM jobs WHERE embedding IS NULL ORDER BY id").fetchall() == [(6,), (7,)]


def test_one_pending_entry_a_key_may_be_all_that_an_index_allows(connect, drain):
    make_board(connect, 4)
    connect.execute("CREATE UNIQUE INDEX ON embedding_queue (job_id) WHERE status = 'pending'")
    enqueue(connect, 1, 2, "processing", started_at="2026-01-01")
    add_jobs(connect, 5, 5)
    enqueue(connect, 5, 5, "processing", started_at="2026-01-01")
    enqueue(connect, 5, 5, "processing", started_at="2026-01-01")
    result = drain()
    assert (result.updated, monitored(connect)) == (5, {"completed": 8})


def test_a_look_writes_nothing_and_counts_what_a_run_takes(connect, database):
    make_board(connect, 5)
    enqueue(connect, 1, 1, "processing", started_at="2026-01-01")
    add_jobs(connect, 6, 6)
    enqueue(connect, 6, 6, "processing", started_at="2026-01-01")
    before = entries(connect, "xmin::text, ctid::text, status")

    class Look(RunIntent):
        def survey(self, source):
            return source.dry_survey()

    with closing(Session.connect(Database(database))) as session:
        found = surveyed(session, BOARD, MODEL, INLINE, Look()).found
    assert (found.eligible, found.coverage.missing, found.coverage.unqueued) == (6, 6, 0)
    assert entries(connect, "xmin::text, ctid::text, status") == before


def test_a_status_that_no_setting_names_is_said(connect, drain, caplog):
    make_board(connect, 3)
    enqueue(connect, 1, 2, "waiting")
    with caplog.at_level("WARNING", "vecfill"):
        drain()
    (said,) = (record.getMessage() for record in caplog.records)
    assert said == (
        "entries of public.embedding_queue with a status that no setting names are left alone: 2 waiting; the settings "
        "name pending, processing, completed, failed"
    )


def test_a_big_table_is_estimated_where_the_count_would_cost_more_than_the_run(connect, drain, monkeypatch):
    monkeypatch.setattr("vecfill.read.queue_table_source.COUNTED_PAGES", 1)
    make_board(connect, 10)
    add_jobs(connect, 11, 2_000)
    connect.execute("ANALYZE")
    result = drain(board(), limit=1)
    assert (result.before.missing, result.before.unqueued, result.before.estimated) == (10, 1_990, False)
    connect.execute("UPDATE embedding_queue SET status = 'completed' WHERE id > 3")
    connect.execute("VACUUM ANALYZE")
    result = drain()
    assert (result.updated, result.after.unqueued, result.queue.unnamed) == (2, None, None)
    assert (result.after.estimated, result.after.total, result.after.filled) == (True, 2_000, 1)  # as ANALYZE saw it
