"""Every outcome of a write, each provoked on a real server; whatever happens, each row is accounted for once."""

from __future__ import annotations

import pickle
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
import psycopg
import pyarrow as pa
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from tests.needs import needs
from tests.tables import (
    DIM,
    DOCS,
    another,
    assert_every_vector_is_its_texts,
    cancel_sleeping,
    counts,
    encoded,
    end_sleeping,
    job_of,
    make_docs,
    meanwhile,
    rest,
    role,
    unwritten,
    wait_until,
    with_arrays,
    writer_of,
)

import vecfill.write.write_batch
from vecfill.bisection import SHARED_FAULT_AFTER, SharedFaultError
from vecfill.blocks import OUTCOMES, RESULT_SCHEMA
from vecfill.config.target import Target
from vecfill.errors import ConfigError, DatabaseError
from vecfill.job import Job, Worker
from vecfill.postgres.database import Database
from vecfill.postgres.relation import Relation
from vecfill.write.batch_size import INDEXED_ROWS, BatchSize
from vecfill.write.sink import TableSink
from vecfill.write.write_batch import PREVENTED

WAY = {"arrays": False}
"""Whether batches are staged as arrays."""


@pytest.fixture(autouse=True, params=[False, True], ids=["table", "arrays"])
def staged(request, monkeypatch):
    """Every test of this file runs over both ways to stage a batch."""
    monkeypatch.setitem(WAY, "arrays", request.param)


def relation_to_write(job: Job) -> Relation:
    return with_arrays(job.sink.relation, arrays=WAY["arrays"])


@contextmanager
def prepared(connect, database: str, rows: int = 50, target: Target = DOCS, vector: str = f"vector({DIM})"):
    """A table, a writer for it, and the block of all its rows, read and encoded."""
    make_docs(connect, rows, vector=vector)
    with writing(job_of(database, target)) as (write, block):
        yield write, block


@contextmanager
def writing(job: Job):
    with closing(writer_of(job, relation_to_write(job))) as write:
        yield write, encoded(job)


def trigger(connect: psycopg.Connection, body: str, when: str = "BEFORE UPDATE", name: str = "act") -> None:
    connect.execute(f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    connect.execute(f"CREATE TRIGGER {name} {when} ON docs FOR EACH ROW EXECUTE FUNCTION {name}()")


def with_vector(block: pa.Table, row: int, vector: list[float] | None, error: str | None = None) -> pa.Table:
    """The block with another vector in one row; None as a row that the encoder could not take."""
    rows = block.to_pylist()
    rows[row] |= {"embedding": vector} | ({"error_class": "row", "error": error} if error else {})
    return pa.Table.from_pylist(rows, block.schema)


def filled(connect: psycopg.Connection) -> int:
    return connect.execute("SELECT count(embedding) FROM docs").fetchone()[0]


def keys(block: pa.Table) -> list[int]:
    return [int.from_bytes(key, "big") for key in block["key0"].to_pylist()]


# -- outcomes


def test_updated(connect, database):
    with prepared(connect, database, 5_000) as (write, block):
        before = rest(connect)
        result = write(block)
    assert result.schema == RESULT_SCHEMA
    assert counts(result) == {"updated": 5_000}
    assert result.num_rows > 1
    assert sum(result["bytes"].to_pylist()) > 5_000 * (4 + DIM * 4)
    assert_every_vector_is_its_texts(connect, rows=5_000)
    assert rest(connect) == before


@pytest.mark.parametrize(("vector", "tolerance"), [("halfvec(8)", 1e-3), ("real[]", 0), ("float8[]", 0), ("vector", 0)])
def test_updated_in_any_kind_of_column(connect, database, vector, tolerance):
    with prepared(connect, database, vector=vector) as (write, block):
        assert counts(write(block)) == {"updated": 50}
    assert_every_vector_is_its_texts(connect, rows=50, tolerance=tolerance)


def test_a_block_without_rows(connect, database):
    with prepared(connect, database) as (write, block):
        result = write(block.slice(0, 0))
    assert result.num_rows == 0
    assert result.schema == RESULT_SCHEMA


def test_a_block_in_chunks_and_slices(connect, database):
    with prepared(connect, database, 60) as (write, block):
        pieces = pa.concat_tables([block.slice(40, 20), block.slice(0, 7), block.slice(7, 33)])
        assert pieces.column("key0").num_chunks > 1
        assert counts(write(pieces)) == {"updated": 60}
    assert_every_vector_is_its_texts(connect, rows=60)


def test_a_replay_finds_its_rows_filled_and_changes_nothing(connect, database):
    with prepared(connect, database) as (write, block):
        write(block)
        before = connect.execute(
            "SELECT sum(xmin::text::bigint), md5(string_agg(docs::text, '' ORDER BY id)) FROM docs"
        ).fetchone()
        assert counts(write(block)) == {"filled": 50}
    assert (
        connect.execute(
            "SELECT sum(xmin::text::bigint), md5(string_agg(docs::text, '' ORDER BY id)) FROM docs"
        ).fetchone()
        == before
    )


def test_filled_by_somebody_else_stays_theirs(connect, database):
    theirs = str([0.5] * DIM)
    with prepared(connect, database) as (write, block):
        connect.execute("UPDATE docs SET embedding = %s WHERE id <= 10", [theirs])
        assert counts(write(block)) == {"updated": 40, "filled": 10}
    assert connect.execute("SELECT count(*) FROM docs WHERE embedding = %s", [theirs]).fetchone() == (10,)


def test_filled_and_changed_is_filled(connect, database):
    with prepared(connect, database) as (write, block):
        connect.execute("UPDATE docs SET title = 'new', embedding = %s WHERE id = 1", [str([0.5] * DIM)])
        assert counts(write(block)) == {"updated": 49, "filled": 1}


def test_stale_where_the_text_changed_after_the_read(connect, database):
    with prepared(connect, database) as (write, block):
        connect.execute("UPDATE docs SET title = title || '!' WHERE id <= 10")
        connect.execute("UPDATE docs SET note = 'another column' WHERE id > 40")
        connect.execute("UPDATE docs SET title = NULL WHERE id = 20")
        result = write(block)
    assert counts(result) == {"updated": 39, "stale": 11}
    assert unwritten(result) == {str(key): "stale" for key in (*range(1, 11), 20)}
    assert filled(connect) == 39
    assert_every_vector_is_its_texts(connect, rows=39)


def test_a_text_changed_back_is_as_it_was_read(connect, database):
    with prepared(connect, database) as (write, block):
        connect.execute("UPDATE docs SET title = title || '!'")
        connect.execute("UPDATE docs SET title = rtrim(title, '!')")
        assert counts(write(block)) == {"updated": 50}


def test_stale_where_the_row_left_the_users_condition(connect, database):
    with prepared(connect, database, target=replace(DOCS, where="seen = 0")) as (write, block):
        connect.execute("UPDATE docs SET seen = 1 WHERE id <= 5")
        assert counts(write(block)) == {"updated": 45, "stale": 5}


def test_gone(connect, database):
    with prepared(connect, database) as (write, block):
        connect.execute("DELETE FROM docs WHERE id <= 10")
        connect.execute("UPDATE docs SET id = -id WHERE id = 11")
        result = write(block)
    assert counts(result) == {"updated": 39, "gone": 11}
    assert unwritten(result) == {str(key): "gone" for key in range(1, 12)}


@pytest.mark.parametrize(
    "lock", ["UPDATE docs SET seen = 1 WHERE id <= 10", "SELECT FROM docs WHERE id <= 10 FOR SHARE"]
)
def test_locked_by_another_transaction(connect, database, lock):
    with prepared(connect, database) as (write, block):
        with another(database) as other:
            other.execute(lock)
            started = time.monotonic()
            result = write(block)
            assert time.monotonic() - started < 30  # the other would keep us for ever
            other.rollback()
        assert counts(result) == {"updated": 40, "locked": 10}
        assert unwritten(result) == {str(key): "locked" for key in range(1, 11)}
        assert counts(write(block)) == {"updated": 10, "filled": 40}


def test_a_foreign_key_check_of_another_does_not_lock_us_out(connect, database):
    with prepared(connect, database) as (write, block):
        connect.execute("CREATE TABLE replies (doc bigint REFERENCES docs)")
        with another(database) as other:
            other.execute("INSERT INTO replies SELECT id FROM docs")
            assert counts(write(block)) == {"updated": 50}


def test_locked_and_then_deleted_is_never_called_gone_before_it_is(connect, database):
    with prepared(connect, database) as (write, block):
        with another(database) as other:
            other.execute("DELETE FROM docs WHERE id = 7")
            assert unwritten(write(block)) == {"7": "locked"}
            other.commit()
        assert counts(write(block)) == {"filled": 49, "gone": 1}


def test_refused_by_a_trigger_that_returns_null(connect, database):
    with prepared(connect, database) as (write, block):
        trigger(connect, "IF OLD.id IN (3, 4) THEN RETURN NULL; END IF; RETURN NEW;")
        result = write(block)
    assert counts(result) == {"updated": 48, "refused": 2}
    assert unwritten(result) == {"3": "refused", "4": "refused"}
    assert {row["error"] for batch in result["unwritten"].to_pylist() for row in batch} == {PREVENTED[1]}
    assert filled(connect) == 48


def test_refused_by_a_trigger_that_raises(connect, database):
    with prepared(connect, database) as (write, block):
        trigger(connect, "IF OLD.id IN (3, 40) THEN RAISE EXCEPTION 'row % is closed', OLD.id; END IF; RETURN NEW;")
        result = write(block)
    assert counts(result) == {"updated": 48, "refused": 2}
    errors = {row["key"]: row["error"] for rows in result["unwritten"].to_pylist() for row in rows}
    place = "(in PL/pgSQL function act() line 1 at RAISE) (SQLSTATE P0001)"
    assert errors == {"3": f"row 3 is closed {place}", "40": f"row 40 is closed {place}"}


def test_failed_for_its_size(connect, database):
    """As with a trigger that fills an indexed column: the server refuses the row, and the batch is not to blame."""
    with prepared(connect, database) as (write, block):
        connect.execute("CREATE INDEX ON docs (note)")
        long = "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 300) n)"
        trigger(connect, f"IF OLD.id = 3 THEN NEW.note := {long}; END IF; RETURN NEW;")
        result = write(block)
    assert counts(result) == {"updated": 49, "failed": 1}
    ((row,),) = (rows for rows in result["unwritten"].to_pylist() if rows)
    assert row["key"] == "3"
    assert row["error"].startswith("index row")
    assert row["error"].endswith("(SQLSTATE 54000)")


def test_an_error_in_a_trigger_names_the_function(connect, database):
    """As of a trigger that notifies of the whole row, which may be longer than a notification."""
    with prepared(connect, database) as (write, block):
        connect.execute("UPDATE docs SET note = repeat('x', 8000) WHERE id = 3")
        trigger(connect, "PERFORM pg_notify('rows', row_to_json(NEW)::text); RETURN NEW;")
        result = write(block)
    assert counts(result) == {"updated": 49, "failed": 1}
    ((row,),) = (rows for rows in result["unwritten"].to_pylist() if rows)
    assert row["error"] == "payload string too long (in PL/pgSQL function act() line 1 at PERFORM) (SQLSTATE 22023)"


POLICIES = {
    "using": "CREATE POLICY change ON docs FOR UPDATE USING (id > 10) WITH CHECK (true)",
    "check": "CREATE POLICY change ON docs FOR UPDATE USING (true) WITH CHECK (id > 10 AND id <> 30)",
}


@pytest.mark.parametrize(("policy", "refused"), [("using", 10), ("check", 11)])
def test_refused_by_a_policy(connect, database, policy, refused):
    """Rows that this role may see but not change: left out silently (USING), or with an error (WITH CHECK)."""
    make_docs(connect, 50)
    connect.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    connect.execute("CREATE POLICY look ON docs FOR SELECT USING (true)")
    connect.execute(POLICIES[policy])
    with role(connect, database) as uri:
        job = job_of(uri)
        assert job.sink.relation.access.policies
        with writing(job) as (write, block):
            result = write(block)
        assert counts(result) == {"updated": 50 - refused, "refused": refused}
        assert set(unwritten(result)) == {*map(str, range(1, 11)), *(["30"] if policy == "check" else [])}
        assert filled(connect) == 50 - refused


def test_a_lock_is_told_from_a_policy(connect, database):
    make_docs(connect, 50)
    connect.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    connect.execute("CREATE POLICY look ON docs FOR SELECT USING (true)")
    connect.execute("CREATE POLICY change ON docs FOR UPDATE USING (id < 40)")
    with role(connect, database) as uri, writing(job_of(uri)) as (write, block), another(database) as other:
        other.execute("UPDATE docs SET seen = 1 WHERE id <= 5")
        # One lock held by another is enough to tell none of these rows apart: they count as locked.
        assert counts(write(block)) == {"updated": 34, "locked": 16}
        other.rollback()
        assert counts(write(block)) == {"updated": 5, "filled": 34, "refused": 11}


# -- rows that cannot be written


def test_failed_in_the_encoder(connect, database):
    with prepared(connect, database) as (write, block):
        result = write(with_vector(block, 7, None, "the tokenizer gave up"))
        key = str(keys(block)[7])
    assert counts(result) == {"updated": 49, "failed": 1}
    (row,) = [row for rows in result["unwritten"].to_pylist() for row in rows]
    assert row == {"key": key, "outcome": "failed", "error_class": "row", "error": "the tokenizer gave up"}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("vector", ["vector(8)", "halfvec(8)", "real[]"])
def test_failed_for_a_vector_that_is_not_finite(connect, database, vector, number):
    with prepared(connect, database, vector=vector) as (write, block):
        result = write(with_vector(block, 0, [number] + [0.0] * (DIM - 1)))
    assert counts(result) == {"updated": 49, "failed": 1}
    assert filled(connect) == 49


@pytest.mark.parametrize(
    ("vector", "number", "says"),
    [
        ("vector(8)", 0.0, "the model gives this text a vector of zeros"),
        ("real[]", -0.0, "the model gives this text a vector of zeros"),
        ("halfvec(8)", 1e-9, "all components of the vector are zero in halfvec"),
    ],
)
def test_failed_for_a_zero_vector(connect, database, vector, number, says):
    """Zero as the column stores it; a vector with one small component has a direction."""
    with prepared(connect, database, vector=vector) as (write, block):
        zero = with_vector(block, 3, [number] * DIM)
        result = write(with_vector(zero, 4, [0.0] * (DIM - 1) + [1e-5]))
    assert counts(result) == {"updated": 49, "failed": 1}
    (row,) = [row for rows in result["unwritten"].to_pylist() for row in rows]
    assert row["error"].startswith(says)


def test_failed_where_halfvec_overflows(connect, database):
    with prepared(connect, database, vector="halfvec(8)") as (write, block):
        largest = with_vector(block, 4, [65_504.0] * DIM)
        result = write(with_vector(largest, 3, [65_520.0] * DIM))
    assert counts(result) == {"updated": 49, "failed": 1}
    (row,) = [row for rows in result["unwritten"].to_pylist() for row in rows]
    assert "65520, which halfvec cannot store" in row["error"]


def test_failed_by_a_constraint(connect, database):
    with prepared(connect, database) as (write, block):
        connect.execute("ALTER TABLE docs ADD CHECK (id <> 17 OR embedding IS NULL)")
        result = write(block)
    assert counts(result) == {"updated": 49, "failed": 1}
    (row,) = [row for rows in result["unwritten"].to_pylist() for row in rows]
    assert (row["key"], row["outcome"]) == ("17", "failed")
    assert "docs_check" in row["error"]
    assert "23514" in row["error"]


def test_a_few_rows_that_all_fail_are_set_aside_one_by_one(connect, database):
    with prepared(connect, database, SHARED_FAULT_AFTER - 1) as (write, block):
        connect.execute("ALTER TABLE docs ADD CHECK (embedding IS NULL)")
        assert counts(write(block)) == {"failed": SHARED_FAULT_AFTER - 1}


def test_a_fault_of_all_rows_stops_the_run(connect, database):
    with prepared(connect, database, 200) as (write, block):
        trigger(connect, "RAISE EXCEPTION 'closed';")
        with pytest.raises(SharedFaultError, match="closed"):
            write(block)
    assert filled(connect) == 0


def test_a_trigger_that_rewrites_the_text_stops_the_run(connect, database):
    with prepared(connect, database) as (write, block):
        trigger(connect, "IF NEW.id = 9 THEN NEW.title := upper(NEW.title); END IF; RETURN NEW;")
        with pytest.raises(ConfigError, match=r"changed the text of 1 row .*\(key 9\).*rolled back"):
            write(block)
    assert filled(connect) == 0
    assert connect.execute("SELECT title FROM docs WHERE id = 9").fetchone() == ("title 9",)


AFTER = {
    "after": "CREATE TRIGGER act AFTER UPDATE ON docs",
    "deferrable": "CREATE CONSTRAINT TRIGGER act AFTER UPDATE ON docs DEFERRABLE INITIALLY IMMEDIATE",
    "deferred": "CREATE CONSTRAINT TRIGGER act AFTER UPDATE ON docs DEFERRABLE INITIALLY DEFERRED",
}


def trigger_after(connect: psycopg.Connection, when: str, body: str) -> None:
    connect.execute(f"CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN NULL; END $$")
    connect.execute(f"{AFTER[when]} FOR EACH ROW EXECUTE FUNCTION act()")


@pytest.mark.parametrize("when", AFTER)
def test_a_text_rewritten_after_the_update_stops_the_run(connect, database, when):
    """Also by a trigger that waits for the commit: it runs before the last look."""
    with prepared(connect, database) as (write, block):
        trigger_after(
            connect, when, "IF NEW.id = 9 THEN UPDATE docs SET title = 'new' WHERE id = 9 AND title <> 'new'; END IF;"
        )
        with pytest.raises(ConfigError, match=r"changed the text of 1 row .*\(key 9\).*rolled back"):
            write(block)
    assert filled(connect) == 0


@pytest.mark.parametrize("when", AFTER)
def test_refused_by_a_trigger_that_raises_after_the_update(connect, database, when):
    with prepared(connect, database) as (write, block):
        trigger_after(connect, when, "IF NEW.id IN (3, 40) THEN RAISE EXCEPTION 'row % is closed', NEW.id; END IF;")
        result = write(block)
    assert counts(result) == {"updated": 48, "refused": 2}
    assert unwritten(result) == {"3": "refused", "40": "refused"}
    assert filled(connect) == 48


@pytest.mark.parametrize("when", AFTER)
def test_a_vector_or_row_taken_away_after_the_update_is_not_updated(connect, database, when):
    with prepared(connect, database) as (write, block):
        connect.execute("UPDATE docs SET title = 'new' WHERE id = 1")
        trigger_after(
            connect,
            when,
            "UPDATE docs SET embedding = NULL WHERE id = NEW.id AND id IN (3, 4) AND embedding IS NOT NULL;"
            "DELETE FROM docs WHERE id = 5;",
        )
        result = write(block)
    assert counts(result) == {"updated": 46, "refused": 2, "stale": 1, "gone": 1}
    assert unwritten(result) == {"1": "stale", "3": "refused", "4": "refused", "5": "gone"}
    assert filled(connect) == 46


def test_a_trigger_may_change_other_columns(connect, database):
    with prepared(connect, database) as (write, block):
        trigger(connect, "NEW.seen := 7; RETURN NEW;")
        assert counts(write(block)) == {"updated": 50}
    assert connect.execute("SELECT sum(seen) FROM docs").fetchone() == (350,)


def test_set_is_assigned_to_what_is_written_and_nothing_else(connect, database):
    target = replace(DOCS, set=("seen = seen + 10", "note = E'100%' || $tag$ it's {fine} $tag$ -- why not"))
    with prepared(connect, database, target=target) as (write, block):
        connect.execute("DELETE FROM docs WHERE id = 1; UPDATE docs SET title = 'new' WHERE id = 2")
        assert counts(write(block)) == {"updated": 48, "stale": 1, "gone": 1}
    rows = connect.execute("SELECT seen, note, count(*) FROM docs GROUP BY 1, 2 ORDER BY 3").fetchall()
    assert rows == [(0, "note 2", 1), (10, "100% it's {fine} ", 48)]


def test_every_outcome_in_one_block_adds_up(connect, database):
    with prepared(connect, database, 60) as (write, block), another(database) as other:
        trigger(connect, "IF OLD.id = 1 THEN RETURN NULL; END IF; RETURN NEW;")
        connect.execute("UPDATE docs SET title = 'new' WHERE id IN (2, 3)")
        connect.execute("UPDATE docs SET embedding = %s WHERE id IN (4, 5, 6)", [str([0.5] * DIM)])
        connect.execute("DELETE FROM docs WHERE id BETWEEN 7 AND 10")
        other.execute("SELECT FROM docs WHERE id BETWEEN 11 AND 15 FOR UPDATE")
        position = keys(block).index(16)
        found = counts(write(with_vector(block, position, None, "no")))
    expected = {"updated": 44, "stale": 2, "filled": 3, "gone": 4, "locked": 5, "refused": 1, "failed": 1}
    assert found == expected
    assert set(found) == set(OUTCOMES)


# -- faults of the line and of the server


def ours(connect: psycopg.Connection) -> list[tuple]:
    return connect.execute(
        "SELECT pid, state, query FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'vecfill'"
    ).fetchall()


def test_nothing_is_open_after_a_write(connect, database):
    with prepared(connect, database) as (write, block):
        write(block)
        assert [state for _, state, _ in ours(connect)] == ["idle"]
        assert connect.execute(
            "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND relation = 'docs'::regclass"
        ).fetchone() == (0,)


def test_a_backend_ended_between_two_batches(connect, database):
    with prepared(connect, database) as (write, block):
        assert counts(write(block.slice(0, 20))) == {"updated": 20}
        connect.execute("SELECT pg_terminate_backend(%s, 20000)", [ours(connect)[0][0]])
        assert counts(write(block.slice(20))) == {"updated": 30}


def test_a_backend_ended_in_the_middle_of_a_batch(connect, database):
    with prepared(connect, database) as (write, block):
        connect.execute("CREATE SEQUENCE calls")
        trigger(connect, "IF OLD.id = 25 AND nextval('calls') = 1 THEN PERFORM pg_sleep(30); END IF; RETURN NEW;")

        with meanwhile(lambda _: end_sleeping(connect)):
            assert counts(write(block)) == {"updated": 50}
    assert_every_vector_is_its_texts(connect, rows=50)
    assert connect.execute("SELECT sum(seen) FROM docs").fetchone() == (0,)


def test_a_reply_lost_after_the_commit_is_not_written_twice(connect, database):
    """The batch is replayed, as its fate is unknown: it finds its rows filled."""
    target = replace(DOCS, set=("seen = seen + 1",))
    with prepared(connect, database, target=target) as (write, block):
        assert counts(write(block)) == {"updated": 50}
        connect.execute("SELECT pg_terminate_backend(%s, 20000)", [ours(connect)[0][0]])
        assert counts(write(block)) == {"filled": 50}
    assert connect.execute("SELECT sum(seen) FROM docs").fetchone() == (50,)


def test_a_deadlock_is_tried_again(connect, database):
    with prepared(connect, database) as (write, block):
        connect.execute("CREATE TABLE counter AS SELECT 0 AS n")
        connect.execute("CREATE SEQUENCE calls")
        trigger(connect, "PERFORM nextval('calls'); UPDATE counter SET n = n + 1; RETURN NEW;")
        name = sql.Identifier(connect.execute("SELECT current_database()").fetchone()[0])
        connect.execute(sql.SQL("ALTER DATABASE {} SET deadlock_timeout = '300ms'").format(name))
        with another(database) as other:
            other.execute("SET deadlock_timeout = '30s'")
            other.execute("UPDATE counter SET n = 100")

            def cross(_):
                wait_until(lambda: connect.execute("SELECT is_called FROM calls").fetchone()[0])
                other.execute("UPDATE docs SET seen = 1")
                other.commit()

            with meanwhile(cross):
                first = counts(write(block))
        again = counts(write(block))  # rows that the other still held
    assert first.get("updated", 0) + again.get("updated", 0) == 50 == first.get("updated", 0) + first.get("locked", 0)
    assert connect.execute("SELECT n FROM counter").fetchone() == (200,)  # the other's trigger counted 50 as well
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    wait_until(lambda: connect.execute(deadlocks).fetchone()[0] >= 1)


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "57P01", "08006"])
def test_transient_errors_are_tried_again(connect, database, sqlstate):
    with prepared(connect, database) as (write, block):
        connect.execute("CREATE SEQUENCE calls")
        trigger(
            connect,
            f"IF OLD.id = 25 AND nextval('calls') < 3 THEN RAISE SQLSTATE '{sqlstate}'; END IF; RETURN NEW;",
        )
        assert counts(write(block)) == {"updated": 50}


def test_a_default_of_repeatable_read_does_not_reach_us(connect, database):
    """It would end the batch with 40001 wherever a row changed after our snapshot."""
    name = sql.Identifier(connect.execute("SELECT current_database()").fetchone()[0])
    connect.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'serializable'").format(name))
    with prepared(connect, database) as (write, block):
        trigger(connect, "NEW.note := current_setting('transaction_isolation'); RETURN NEW;")
        assert counts(write(block)) == {"updated": 50}
    assert connect.execute("SELECT DISTINCT note FROM docs").fetchall() == [("read committed",)]


ROW_S, ENOUGH = 0.05, "500ms"
"""What a row takes, and a timeout that is enough for several, and for one on a machine that stalls."""


def limited(connect: psycopg.Connection, timeout: str, value: str = ENOUGH) -> None:
    """Gives the database a timeout."""
    name = sql.Identifier(connect.execute("SELECT current_database()").fetchone()[0])
    connect.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(timeout), sql.Literal(value)))


def slow(connect: psycopg.Connection, seconds: float, timeout: str = "statement_timeout") -> None:
    """Makes each row take its time, and gives the database a timeout."""
    trigger(connect, f"PERFORM pg_sleep({seconds}); RETURN NEW;")
    limited(connect, timeout)


def slowly(write):
    """A client that takes its time after the statement that writes."""

    def wait(staged, relation, selection, rows):
        found = write(staged, relation, selection, rows)
        time.sleep(ROW_S * rows)
        return found

    return wait


@pytest.mark.slow
@pytest.mark.parametrize("timeout", ["statement_timeout", "transaction_timeout", "idle_in_transaction_session_timeout"])
def test_a_batch_over_the_time_out_is_halved_until_it_lands(connect, database, monkeypatch, timeout):
    if timeout == "transaction_timeout" and connect.info.server_version < 170_000:
        needs("PostgreSQL 17 or newer, which has transaction_timeout")
    make_docs(connect, 24)
    if timeout == "idle_in_transaction_session_timeout":
        monkeypatch.setattr(vecfill.write.write_batch, "_write", slowly(vecfill.write.write_batch._write))
        limited(connect, timeout)
    else:
        slow(connect, ROW_S, timeout)
    with writing(job_of(database)) as (write, block):
        assert counts(write(block)) == {"updated": 24}
        assert write._size.rows < 24


def test_a_cancel_by_somebody_else_is_told_from_our_time_out(connect, database):
    with prepared(connect, database) as (write, block):
        trigger(connect, "PERFORM pg_sleep(20); RETURN NEW;")
        with (
            meanwhile(lambda _: cancel_sleeping(connect)),
            pytest.raises(DatabaseError, match="cancelled on the server, not by our own timeout"),
        ):
            write(block)
    assert filled(connect) == 0


def test_what_the_server_refuses_for_good_is_an_error(connect, database):
    """Published without a replica identity: 55000 for every UPDATE."""
    connect.execute("CREATE TABLE docs (id bigint NOT NULL UNIQUE, title text, embedding vector(8))")
    connect.execute("INSERT INTO docs SELECT n, 'title ' || n FROM generate_series(1, 30) n")
    connect.execute("CREATE PUBLICATION all_docs FOR TABLE docs")
    says = r"writing public\.docs failed: .*replica identity"
    with (
        writing(job_of(database, replace(DOCS, key=("id",)))) as (write, block),
        pytest.raises(ConfigError, match=says),
    ):
        write(block)
    assert filled(connect) == 0


def test_two_writers_of_the_same_rows_write_each_once(connect, database):
    target = replace(DOCS, set=("seen = seen + 1",))
    with prepared(connect, database, 2_000, target) as (write, block):
        job = job_of(database, target)
        results = []
        backwards = block.take(np.arange(2_000)[::-1])

        def rival(_):
            with closing(writer_of(job, relation_to_write(job))) as other:
                results.append(counts(other(backwards)))

        with meanwhile(rival):
            results.append(counts(write(block)))
    assert sum(found.get("updated", 0) for found in results) == filled(connect)
    assert all(sum(found.values()) == 2_000 for found in results)
    assert connect.execute("SELECT max(seen) FROM docs").fetchone() == (1,)


@pytest.mark.slow
def test_batches_follow_the_clock(connect, database):
    """A server that takes 5 ms a row gets batches of a hundred."""
    with prepared(connect, database, 200) as (write, block):
        trigger(connect, "PERFORM pg_sleep(0.005); RETURN NEW;")
        write._size = BatchSize(rows=200)
        assert counts(write(block)) == {"updated": 200}
        assert write._size.rows < 120


def test_the_writer_travels_by_pickle(connect, database):
    with prepared(connect, database) as (write, block):
        write(block.slice(0, 10))
        with closing(pickle.loads(pickle.dumps(write))) as copy:
            assert counts(copy(block.slice(10))) == {"updated": 40}


def test_the_server_going_away_for_good_is_an_error(connect, database, monkeypatch):
    monkeypatch.setattr("vecfill.postgres.waits.RETRY_FOR_S", 0.5)
    before = set(threading.enumerate())
    with prepared(connect, database) as (write, block):
        nowhere = Database(make_conninfo(database, host="/nonexistent", password="secret"))
        with (
            closing(TableSink(database=nowhere, relation=write._relation).writer(Worker())) as lost,
            pytest.raises(DatabaseError, match="did not recover") as error,
        ):
            lost(block)
    assert "secret" not in str(error.value)
    wait_until(lambda: not [one for one in set(threading.enumerate()) - before if one.name == "interruptible"])


@pytest.mark.parametrize("column", ["embedding", "old"])
def test_rows_of_a_vector_index_start_with_a_small_batch(connect, database, column):
    """The first batch already must not hold its locks for seconds; 17 s were seen with the index of another column."""
    make_docs(connect, 500)
    connect.execute("ALTER TABLE docs ADD COLUMN old vector(8)")
    connect.execute(f"CREATE INDEX ON docs USING hnsw ({column} vector_cosine_ops)")
    with writing(job_of(database)) as (write, block):
        batches = write(block)["updated"].to_pylist()
    assert batches[0] == INDEXED_ROWS
    assert sum(batches) == 500


def test_a_row_that_takes_too_much_of_the_server_s_memory_is_set_aside(connect, database):
    make_docs(connect, 50)
    connect.execute(
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF OLD.id = 7 THEN RAISE 'too much' USING errcode = '53200'; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )
    job = job_of(database)
    with closing(writer_of(job)) as write:
        result = write(encoded(job))
    assert counts(result) == {"updated": 49, "failed": 1}
    assert unwritten(result) == {"7": "failed"}
