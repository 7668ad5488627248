"""A queue table belongs to several: old workers, a second vecfill, an application that inserts and deletes rows."""

from __future__ import annotations

import threading
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial

import psycopg
import pytest
from tests.faults.processes import vecfill, wait_for_backends
from tests.queue_table.boards import BOARD, board, filled, job_of_board, make_board, monitored
from tests.tables import DIM, INLINE, MODEL, another, assert_every_vector_is_its_texts, meanwhile, wait_until

from vecfill.backfill.run import run
from vecfill.errors import ConfigError
from vecfill.job import Stop, Worker

ROWS = 1_200
COUNTED = """
ALTER TABLE jobs ADD writes int NOT NULL DEFAULT 0;
CREATE FUNCTION counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.writes = OLD.writes + 1; RETURN NEW; END $$;
CREATE TRIGGER counted BEFORE UPDATE OF embedding ON jobs FOR EACH ROW EXECUTE FUNCTION counted()
"""
ADDS_UP = """
SELECT (SELECT count(*) FROM embedding_queue WHERE status = 'completed'),
  (SELECT count(*) FROM embedding_queue JOIN jobs ON jobs.id = job_id WHERE embedding IS NOT NULL),
  (SELECT count(*) FROM embedding_queue WHERE status IN ('pending', 'processing', 'completed'))
    - (SELECT count(*) FROM jobs)
"""
TAKE = "SELECT id, job_id FROM embedding_queue WHERE status = 'pending' LIMIT 7 FOR UPDATE SKIP LOCKED"


@contextmanager
def stages(database: str):
    """The three stages of a run on the board, to call one by one, and the source."""
    job = job_of_board(database)
    with closing(job.source), closing(job.sink.writer(Worker())) as write:
        yield job.source, job.source.reader(Worker()), job.encode.stage(Worker()), write


def counts(result) -> dict[str, int]:
    return {name: n for row in result.to_pylist() for name, n in row.items() if isinstance(n, int) and n}


def test_an_entry_is_settled_with_its_vector_and_stays_open_without_one(connect, database):
    make_board(connect, 6)
    with stages(database) as (source, read, encode, write), another(database) as other:
        units = source.plan(source.survey(), limit=None, most_rows=100)
        block = read(units[0])
        assert (monitored(connect), filled(connect)) == ({"processing": 6}, 0)
        connect.execute("UPDATE jobs SET title = 'another' WHERE id = 1; DELETE FROM jobs WHERE id = 2")
        other.execute("SELECT FROM jobs WHERE id = 3 FOR UPDATE")
        other.execute("SELECT FROM embedding_queue WHERE job_id = 4 FOR UPDATE")
        encoded = encode(block)
        found = counts(write(encoded))
        assert {name: found.get(name) for name in ("updated", "stale", "gone", "locked")} == {
            "updated": 3,
            "stale": 1,
            "gone": 1,
            "locked": 1,
        }
        assert monitored(connect) == {"completed": 2, "processing": 3}
        other.rollback()
        assert counts(write(encoded))["filled"] == 2  # a replay writes nothing twice
        assert (monitored(connect), filled(connect)) == ({"completed": 4, "processing": 1}, 4)
        assert source.survey().eligible == 1
        assert monitored(connect) == {"completed": 4, "pending": 1}


def test_a_stop_puts_back_what_was_claimed(connect, database):
    rows, stop = 4_000, Stop()
    make_board(connect, rows)
    result = run(
        BOARD,
        MODEL,
        database=database,
        options=INLINE,
        stop=stop,
        progress=lambda event: stop.set("enough") if event.done else None,
    )
    assert (result.outcome, 0 < result.updated < rows) == ("incomplete", True)
    assert monitored(connect) == {"completed": result.updated, "pending": rows - result.updated}
    assert filled(connect) == result.updated


def test_an_error_puts_back_what_was_claimed(connect, database):
    make_board(connect, 5)
    connect.execute(
        "CREATE FUNCTION rewrite() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.title = 'x'; RETURN NEW; END $$;"
        "CREATE TRIGGER rewrite BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION rewrite()"
    )
    with pytest.raises(ConfigError, match=r"a trigger on public\.jobs changed the text"):
        run(BOARD, MODEL, database=database, options=INLINE)
    assert (monitored(connect), filled(connect)) == ({"pending": 5}, 0)


def old_worker(database: str, done: threading.Event) -> None:
    """Holds its entries locked while it works, and asks for the rows then."""
    with psycopg.connect(database) as connection:
        while taken := connection.execute(TAKE).fetchall():
            ids, keys = zip(*taken, strict=True)
            connection.execute(
                f"UPDATE jobs SET embedding = array_fill(2, ARRAY[{DIM}])::vector WHERE id = ANY (%s)", [list(keys)]
            )
            connection.execute("UPDATE embedding_queue SET status = 'completed' WHERE id = ANY (%s)", [list(ids)])
            connection.commit()
            if done.is_set():
                break


def application(database: str, done: threading.Event) -> None:
    """Inserts rows with their entries, and deletes rows, whose entries go with them."""
    with psycopg.connect(database) as connection:
        for number in range(ROWS + 1, ROWS + 200):
            connection.execute("INSERT INTO jobs VALUES (%s, 'new', 'note')", [number])
            connection.execute("INSERT INTO embedding_queue (job_id, status) VALUES (%s, 'pending')", [number])
            connection.commit()
            connection.execute("DELETE FROM jobs WHERE id IN (%s, %s)", [number - ROWS, number - 2])
            connection.commit()
            if done.is_set():
                break


def second_run(database: str, done: threading.Event) -> None:
    run(BOARD, MODEL, database=database, options=replace(INLINE, allow_mixed=True))


@pytest.mark.parametrize("others", [(old_worker, second_run), (application,)])
def test_others_share_the_queue(connect, database, others):
    """Each row is written once, nobody deadlocks, and the monitoring query adds up all the time."""
    make_board(connect, ROWS)
    connect.execute(COUNTED)

    def watch(done: threading.Event) -> None:
        with psycopg.connect(database, autocommit=True) as connection:
            while not done.is_set():
                completed, with_vector, difference = connection.execute(ADDS_UP).fetchone()
                assert (completed, difference) == (with_vector, 0)

    with ExitStack() as stack:
        for work in (watch, *(partial(other, database) for other in others)):
            stack.enter_context(meanwhile(work))
        run(BOARD, MODEL, database=database, options=replace(INLINE, allow_mixed=True))
    result = run(BOARD, MODEL, database=database, options=replace(INLINE, allow_mixed=True))
    assert (result.exit_code, monitored(connect).keys()) == (0, {"completed"})
    assert connect.execute("SELECT DISTINCT writes FROM jobs").fetchall() == [(1,)]


def test_entries_that_another_session_locks_are_left_to_it(connect, database, monkeypatch):
    monkeypatch.setattr("vecfill.backfill.drain.PAUSE_S", 0.001)
    make_board(connect, 4)
    with another(database) as other:
        other.execute("SELECT FROM embedding_queue WHERE job_id = 2 FOR UPDATE")
        result = run(BOARD, MODEL, database=database, options=INLINE)
        assert (result.outcome, result.updated, monitored(connect)) == ("incomplete", 3, {"completed": 3, "pending": 1})
    assert run(BOARD, MODEL, database=database, options=INLINE).exit_code == 0


@pytest.mark.slow
def test_a_killed_run_loses_nothing_and_leaves_nothing_stuck(connect, database):
    make_board(connect, ROWS)
    connect.execute(
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NEW; END $$;"
        "CREATE TRIGGER wait BEFORE UPDATE ON jobs FOR EACH ROW WHEN (NEW.id = 1000) EXECUTE FUNCTION wait()"
    )
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
    flags = ("-t", "jobs", "--queue-table", "embedding_queue", "--queue-claimed", "started_at", "--engine", "inline")
    with vecfill(database, *flags) as process:
        wait_until(lambda: process.poll() is not None or connect.execute(sleeping).fetchone() == (1,))
        process.kill()
        process.wait()
        wait_for_backends(connect)
    statuses = monitored(connect)
    assert (sum(statuses.values()), statuses["processing"] > 0) == (ROWS, True)
    assert statuses.get("completed", 0) == filled(connect)
    connect.execute("DROP TRIGGER wait ON jobs")
    later = run(BOARD, MODEL, database=database, options=INLINE)
    assert later.queue.after == {"completed": ROWS - statuses["processing"], "processing": statuses["processing"]}
    run(board(stuck_minutes=0), MODEL, database=database, options=INLINE)
    assert (filled(connect), monitored(connect)) == (ROWS, {"completed": ROWS})


def test_a_role_without_temporary_tables_settles_entries_too(connect, database):
    make_board(connect, 5)
    connect.execute(
        "DO $$ BEGIN EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); END $$"
    )
    name = connect.execute("SELECT 'drainer_' || current_database()").fetchone()[0]
    connect.execute(f"CREATE ROLE {name} LOGIN; GRANT SELECT, UPDATE ON jobs, embedding_queue TO {name}")
    connect.execute("ALTER TABLE jobs ADD CHECK (id <> 4 OR embedding IS NULL)")
    try:
        uri = psycopg.conninfo.make_conninfo(database, user=name)
        result = run(BOARD, MODEL, database=uri, options=INLINE)
    finally:
        connect.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
    assert (result.updated, result.failed, monitored(connect)) == (4, 1, {"completed": 4, "failed": 1})


def test_a_partitioned_target_with_a_composite_key(connect, database):
    connect.execute(
        f"CREATE TABLE jobs (tenant int, id bigint, title text, embedding vector({DIM}), PRIMARY KEY (tenant, id))"
        " PARTITION BY LIST (tenant); CREATE TABLE jobs_1 PARTITION OF jobs FOR VALUES IN (1);"
        "CREATE TABLE jobs_2 PARTITION OF jobs FOR VALUES IN (2);"
        "INSERT INTO jobs SELECT 1 + n % 2, n, 'title ' || n FROM generate_series(1, 40) n;"
        "CREATE TABLE embedding_queue (job bigint, of_tenant int, status text, started_at timestamptz,"
        " finished_at timestamptz, attempts int, error text,"
        " FOREIGN KEY (job, of_tenant) REFERENCES jobs (id, tenant) ON DELETE CASCADE);"
        "INSERT INTO embedding_queue SELECT id, tenant, 'pending' FROM jobs WHERE id > 10"
    )
    result = run(board(key=()), MODEL, database=database, options=INLINE)
    assert (result.updated, monitored(connect), result.after.unqueued) == (30, {"completed": 30}, 10)
    assert_every_vector_is_its_texts(connect, table="jobs", rows=30)
    enqueue_all = "UPDATE embedding_queue SET status = 'pending'; UPDATE jobs SET title = title || '!'"
    connect.execute(enqueue_all)
    assert run(board(key=()), MODEL, database=database, options=INLINE).updated == 30
    assert_every_vector_is_its_texts(connect, table="jobs", rows=30)


def test_a_look_reads_the_index_whatever_the_statistics_say(connect, database):
    make_board(connect, ROWS)
    connect.execute("CREATE INDEX ON embedding_queue (status); ANALYZE embedding_queue")
    with closing(job_of_board(database).source) as source:
        assert (source.look().rows, source.look().pages) == (1, 2)
        connect.execute("UPDATE embedding_queue SET status = 'completed'")
        assert source.look().rows == 0
