"""One bad row never ends a run, whatever SQLSTATE it fails with; a fault of all rows still does."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest
from tests.tables import (
    DOCS,
    INLINE,
    MODEL,
    another,
    assert_every_vector_is_its_texts,
    counts,
    job_of,
    make_docs,
    unwritten,
)
from tests.write.test_writer import limited, prepared, trigger, writing

import vecfill.postgres.waits
import vecfill.write.write_faults
from vecfill.backfill.run import run
from vecfill.bisection import SharedFaultError
from vecfill.errors import ConfigError, DatabaseError

pytestmark = pytest.mark.slow

TRANSIENT = ["40001", "40P01", "55P03", "57P01", "57P03", "53300", "08006"]
UNKNOWN = ["ABCDE", "HV000", "38000", "39P01", "2F002", "F0000", "58030", "53100", "72000", "25P02", "25P03", "25P04"]
OURS = ["57014", "53200", "42P01", "42883", "0A000", "55000", "25006", "3D000", "28000"]
"""What ends a run where our own statement causes it."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch) -> None:
    monkeypatch.setattr(vecfill.postgres.waits, "FIRST_WAIT_S", 0.01)


def raising(connect: psycopg.Connection, sqlstate: str, when: str) -> None:
    trigger(connect, f"IF {when} THEN RAISE SQLSTATE '{sqlstate}' USING message = 'no'; END IF; RETURN NEW;")


@pytest.mark.parametrize("sqlstate", [*TRANSIENT, *UNKNOWN, *OURS])
def test_a_row_on_which_a_trigger_raises_is_set_aside(connect, database, sqlstate):
    with prepared(connect, database) as (write, block):
        raising(connect, sqlstate, "OLD.id IN (7, 40)")
        result = write(block)
    assert counts(result) == {"updated": 48, "failed": 2}
    errors = {row["key"]: row["error"] for rows in result["unwritten"].to_pylist() for row in rows}
    assert errors == dict.fromkeys(
        ("7", "40"), f"no (in PL/pgSQL function act() line 1 at RAISE) (SQLSTATE {sqlstate})"
    )
    assert_every_vector_is_its_texts(connect, rows=48)


@pytest.mark.parametrize("sqlstate", ["P0001", "40001", "57014", "42P01", "ABCDE"])
def test_the_detail_of_a_row_s_error_stays_out_of_messages(connect, database, sqlstate):
    """It often quotes the row."""
    with prepared(connect, database) as (write, block):
        trigger(connect, f"IF OLD.id = 7 THEN RAISE SQLSTATE '{sqlstate}' USING detail = OLD; END IF; RETURN NEW;")
        result = write(block)
    ((row,),) = (rows for rows in result["unwritten"].to_pylist() if rows)
    assert "title 7" not in row["error"]


@pytest.mark.parametrize("sqlstate", ["40001", "57014", "ABCDE"])
def test_a_trigger_that_raises_on_every_row_ends_the_run(connect, database, sqlstate):
    with prepared(connect, database) as (write, block):
        raising(connect, sqlstate, "true")
        with pytest.raises(SharedFaultError, match=r"so the cause is not one row; last error: .*: no"):
            write(block)


def test_a_trigger_that_lacks_a_table_ends_the_run_as_a_fault_of_the_configuration(connect, database):
    with prepared(connect, database) as (write, block):
        trigger(connect, "PERFORM 1 FROM nowhere; RETURN NEW;")
        with pytest.raises(ConfigError, match=r'writing public\.docs failed: relation "nowhere" does not exist'):
            write(block)


def test_a_trigger_that_lacks_a_table_on_one_row_does_not(connect, database):
    with prepared(connect, database) as (write, block):
        trigger(connect, "IF OLD.id = 7 THEN PERFORM 1 FROM nowhere; END IF; RETURN NEW;")
        result = write(block)
    assert counts(result) == {"updated": 49, "failed": 1}


@pytest.mark.parametrize("sqlstate", ["40001", "55P03", "57014"])
def test_a_run_ends_with_exit_code_3(connect, database, sqlstate):
    make_docs(connect, 50)
    raising(connect, sqlstate, "OLD.id = 7")
    result = run(DOCS, MODEL, database=database, options=INLINE)
    assert (result.outcome, result.exit_code, result.updated, result.failed) == ("quarantined", 3, 49, 1)


def test_a_function_of_set_that_raises_on_one_row(connect, database):
    connect.execute(
        "CREATE FUNCTION noted(id bigint) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN IF id = 7 THEN RAISE SQLSTATE '40001'; END IF; RETURN 'done'; END $$"
    )
    with prepared(connect, database, target=replace(DOCS, set=("note = noted(id)",))) as (write, block):
        result = write(block)
    assert counts(result) == {"updated": 49, "failed": 1}
    assert unwritten(result) == {"7": "failed"}


# -- locks and conflicts that are real

COUNTER = "CREATE TABLE counter AS SELECT n, 0 AS hits FROM generate_series(1, 3) n"
COUNTING = {
    "a wait": "UPDATE counter SET hits = hits + 1 WHERE n = 1;",
    "no wait": "PERFORM 1 FROM counter WHERE n = 1 FOR UPDATE NOWAIT;",
}


@pytest.mark.parametrize("way", COUNTING)
def test_a_lock_that_a_trigger_needs_for_one_row_leaves_that_row_locked(connect, database, way):
    make_docs(connect, 50)
    connect.execute(COUNTER)
    trigger(connect, f"IF OLD.id = 7 THEN {COUNTING[way]} END IF; RETURN NEW;")
    limited(connect, "lock_timeout", "50ms")
    with writing(job_of(database)) as (write, block), another(database) as other:
        other.execute("UPDATE counter SET hits = 1")
        assert counts(write(block)) == {"updated": 49, "locked": 1}
        other.rollback()
        assert counts(write(block)) == {"updated": 1, "filled": 49}


def test_a_lock_that_a_trigger_needs_for_every_row_leaves_them_locked(connect, database):
    make_docs(connect, 200)
    connect.execute(COUNTER)
    connect.execute("CREATE SEQUENCE calls")
    trigger(connect, f"PERFORM nextval('calls'); {COUNTING['a wait']} RETURN NEW;")
    limited(connect, "lock_timeout", "50ms")
    with writing(job_of(database)) as (write, block), another(database) as other:
        other.execute("UPDATE counter SET hits = 1")
        assert counts(write(block)) == {"locked": 200}
        assert connect.execute("SELECT last_value FROM calls").fetchone()[0] < 10


def test_many_rows_whose_triggers_wait_for_a_lock_are_not_all_waited_for(connect, database, monkeypatch):
    monkeypatch.setattr(vecfill.write.write_faults, "MAX_LOCK_WAITS", 4)
    make_docs(connect, 200)
    connect.execute(COUNTER)
    trigger(connect, f"IF OLD.id % 5 = 0 THEN {COUNTING['a wait']} END IF; RETURN NEW;")
    limited(connect, "lock_timeout", "50ms")
    with writing(job_of(database)) as (write, block), another(database) as other:
        other.execute("UPDATE counter SET hits = 1")
        found = counts(write(block))
        assert found["updated"] + found["locked"] == 200
        assert found["locked"] >= 40


def test_the_lock_of_the_whole_table_is_said_and_left_to_the_next_sweep(connect, database, caplog):
    make_docs(connect, 50)
    limited(connect, "lock_timeout", "50ms")
    with writing(job_of(database)) as (write, block), another(database) as other:
        other.execute("LOCK TABLE docs IN SHARE MODE")
        assert counts(write(block)) == {"locked": 50}
    (record,) = caplog.records
    assert record.waits_for == "a locked table"
    assert record.getMessage().endswith("by another session: 50 rows are left to the next sweep")


# -- rows that are too slow


def slow_rows(connect: psycopg.Connection, when: str) -> None:
    trigger(connect, f"IF {when} THEN PERFORM pg_sleep(30); END IF; RETURN NEW;")
    limited(connect, "statement_timeout", "1s")


def test_a_row_over_the_time_out_is_set_aside(connect, database):
    make_docs(connect, 50)
    slow_rows(connect, "OLD.id = 7")
    with writing(job_of(database)) as (write, block):
        result = write(block)
    assert counts(result) == {"updated": 49, "failed": 1}
    ((row,),) = (rows for rows in result["unwritten"].to_pylist() if rows)
    assert (row["key"], row["error_class"]) == ("7", "timeout")
    assert row["error"].startswith("takes longer to write than statement_timeout (1 s) allows: canceling statement")
    assert row["error"].endswith(": make its triggers faster, or raise statement_timeout of role postgres")


def test_rows_that_are_all_over_the_time_out_end_the_run_after_a_few(connect, database):
    make_docs(connect, 50)
    connect.execute("CREATE SEQUENCE calls")
    slow_rows(connect, "nextval('calls') > 0")
    says = r"every row of public\.docs that was tried takes longer to write than statement_timeout \(1 s\) allows"
    with writing(job_of(database)) as (write, block), pytest.raises(DatabaseError, match=says):
        write(block)
    assert connect.execute("SELECT last_value FROM calls").fetchone() == (4,)


def test_a_stop_ends_the_search_for_slow_rows(connect, database):
    make_docs(connect, 50)
    connect.execute("CREATE SEQUENCE calls")
    slow_rows(connect, "OLD.id % 2 = 0 AND nextval('calls') > 0")
    with writing(job_of(database)) as (write, block):
        write._stopped = lambda: connect.execute("SELECT is_called FROM calls").fetchone()[0]
        assert counts(write(block)) == {}
    assert connect.execute("SELECT last_value FROM calls").fetchone() == (1,)


# -- rows that end the session

ENDS = "PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(30);"


def test_a_row_that_ends_its_session_is_set_aside(connect, database):
    with prepared(connect, database) as (write, block):
        trigger(connect, f"IF OLD.id = 7 THEN {ENDS} END IF; RETURN NEW;")
        result = write(block)
    assert counts(result) == {"updated": 49, "failed": 1}
    ((row,),) = (rows for rows in result["unwritten"].to_pylist() if rows)
    assert row["key"] == "7"
    assert row["error"].startswith("the connection is lost whenever this row is written: ")


def test_rows_that_all_end_their_session_end_the_run_after_a_few(connect, database):
    with prepared(connect, database) as (write, block):
        connect.execute("CREATE SEQUENCE calls")
        trigger(connect, f"PERFORM nextval('calls'); {ENDS} RETURN NEW;")
        with pytest.raises(SharedFaultError, match="the connection is lost whenever this row is written"):
            write(block)
    assert connect.execute("SELECT last_value FROM calls").fetchone()[0] == 4 * vecfill.write.write_faults.LOST_ATTEMPTS


# -- what else a table may have


TABLES = {
    "check": ("ALTER TABLE docs ADD CHECK (embedding IS NULL OR id <> 7)", ()),
    "function in a check": (
        "CREATE FUNCTION fits(id bigint, v vector) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN IF id = 7 AND v IS NOT NULL THEN RAISE SQLSTATE '57014'; END IF; RETURN true; END $$;"
        "ALTER TABLE docs ADD CHECK (fits(id, embedding))",
        (),
    ),
    "deferred trigger": (
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.id = 7 THEN RAISE SQLSTATE '40001'; END IF; RETURN NULL; END $$;"
        "CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON docs DEFERRABLE INITIALLY DEFERRED"
        " FOR EACH ROW EXECUTE FUNCTION late()",
        (),
    ),
    "foreign key at the commit": (
        "CREATE TABLE runs (id bigint PRIMARY KEY); INSERT INTO runs SELECT n FROM generate_series(0, 99) n;"
        "ALTER TABLE docs ADD run bigint REFERENCES runs DEFERRABLE INITIALLY DEFERRED",
        ("run = CASE id WHEN 7 THEN 700 ELSE id END",),
    ),
    "exclusion": (
        "ALTER TABLE docs ADD run int4range, ADD EXCLUDE USING gist (run WITH &&);"
        "INSERT INTO docs (id, note, run) VALUES (99, '', '[7,8)')",
        ("run = int4range(id::int, id::int + 1)",),
    ),
    "generated column": (
        "ALTER TABLE docs ADD odd int GENERATED ALWAYS AS (1 / (seen - 7)) STORED",
        ("seen = id",),
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_what_else_a_table_may_have_fails_one_row(connect, database, kind):
    make_docs(connect, 50)
    change, assignments = TABLES[kind]
    connect.execute(change)
    with writing(job_of(database, replace(DOCS, set=assignments))) as (write, block):
        result = write(block)
    assert counts(result) == {"updated": 49, "failed": 1}
    assert unwritten(result) == {"7": "failed"}
