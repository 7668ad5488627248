"""What another session commits between a write's snapshot and its lock on a row: each row is still told right."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from tests.tables import (
    DIM,
    DOCS,
    another,
    assert_every_vector_is_its_texts,
    counts,
    encoded,
    job_of,
    make_docs,
    meanwhile,
    tracked_job,
    unwritten,
    wait_until,
    with_arrays,
    writer_of,
)

from vecfill import track
from vecfill.errors import ConfigError

THEIRS = str([0.5] * DIM)
MEANWHILE = (
    "UPDATE docs SET seen = 1 WHERE id = 2",
    "UPDATE docs SET title = 'new' WHERE id = 3",
    f"UPDATE docs SET embedding = '{THEIRS}' WHERE id = 4",
    "DELETE FROM docs WHERE id = 5",
    "UPDATE docs SET id = -id WHERE id = 6",
    "UPDATE docs SET title = title || '!' WHERE id = 7",
    "UPDATE docs SET title = rtrim(title, '!') WHERE id = 7",
)
WAITING = (
    "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
    " WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted"
)


def make_partitioned(connect, rows):
    connect.execute(
        "CREATE TABLE docs (id bigint PRIMARY KEY, title text, note text NOT NULL, seen int NOT NULL DEFAULT 0,"
        f" embedding vector({DIM})) PARTITION BY RANGE (id)"
    )
    connect.execute(
        "CREATE TABLE docs_low PARTITION OF docs FOR VALUES FROM (MINVALUE) TO (20) PARTITION BY HASH (id);"
        "CREATE TABLE docs_low_0 PARTITION OF docs_low FOR VALUES WITH (modulus 2, remainder 0);"
        "CREATE TABLE docs_low_1 PARTITION OF docs_low FOR VALUES WITH (modulus 2, remainder 1)"
    )
    connect.execute("CREATE TABLE docs_high PARTITION OF docs FOR VALUES FROM (20) TO (MAXVALUE)")
    connect.execute(
        "INSERT INTO docs (id, title, note) SELECT n, 'title ' || n, 'note' FROM generate_series(1, %s::int) n", [rows]
    )


@contextmanager
def held_at_the_first_row(connect, database, statements):
    """Lets a write take its snapshot and stop at row 1, before any lock, until ``statements`` have been committed."""
    with another(database) as holder, another(database) as rival:
        holder.execute("SELECT pg_advisory_lock(7)")
        rival.execute("SET lock_timeout = '3s'")
        rival.commit()

        def act(_):
            wait_until(lambda: connect.execute(WAITING).fetchone() == (1,))
            for statement in statements:
                rival.execute(statement)
                rival.commit()
            holder.execute("SELECT pg_advisory_unlock(7)")

        with meanwhile(act):
            yield


def pausing(connect):
    """The target with a condition that stops at row 1 for as long as anybody holds the advisory lock."""
    connect.execute(
        "CREATE FUNCTION pause(id bigint) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN"
        " IF id = 1 THEN PERFORM pg_advisory_xact_lock_shared(7); END IF; RETURN true; END $$"
    )
    return replace(DOCS, where="pause(id)")


@pytest.mark.parametrize("tracked", [False, True], ids=["untracked", "tracked"])
@pytest.mark.parametrize("arrays", [False, True], ids=["table", "arrays"])
@pytest.mark.parametrize("make", [make_docs, make_partitioned], ids=["plain", "partitioned"])
def test_a_row_that_changed_after_the_snapshot(connect, database, make, arrays, tracked):
    """Its newest version is locked and compared. The snapshot cannot see that version at its place in a plain table:

    such a row waits for the next sweep. A row that a trigger refuses is not taken for one.
    """
    make(connect, 50)
    connect.execute(
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF OLD.id = 8 AND NEW.embedding IS NOT NULL THEN RETURN NULL; END IF; RETURN NEW; END $$"
    )
    connect.execute("CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()")
    target = pausing(connect)
    job = job_of(database, target)
    if tracked:
        track(target, database=database)
        job = tracked_job(job, target)
    block = encoded(job)
    with closing(writer_of(job, with_arrays(job.sink.relation, arrays=arrays))) as write:
        with held_at_the_first_row(connect, database, MEANWHILE):
            first = write(block)
        second = write(block)
    told = {"stale": 1, "filled": 1, "gone": 2, "refused": 1}
    later = {"locked": 2} if make is make_docs else {}
    assert counts(first) == {"updated": 45 - len(later) * 2, **told, **later}
    named = {"3": "stale", "4": "filled", "5": "gone", "6": "gone", "8": "refused"}
    assert unwritten(first) == named | ({"2": "locked", "7": "locked"} if later else {})
    assert counts(second).get("updated", 0) == 2 * len(later)
    assert connect.execute("SELECT id FROM docs WHERE embedding = %s", [THEIRS]).fetchall() == [(4,)]
    assert not tracked or connect.execute("SELECT count(*) FROM vecfill.vector_1").fetchone() == (45,)
    connect.execute("UPDATE docs SET embedding = NULL WHERE id = 4")
    assert_every_vector_is_its_texts(connect, rows=45)


@pytest.mark.parametrize("make", [make_docs, make_partitioned], ids=["plain", "partitioned"])
@pytest.mark.parametrize("when", ["BEFORE", "AFTER"])
def test_a_trigger_younger_than_the_run_is_seen(connect, database, make, when):
    """It is in force for whoever locks a row after it was made, and changes the text under the vector."""
    make(connect, 50)
    body = {
        "BEFORE": "NEW.title := upper(NEW.title); RETURN NEW;",
        "AFTER": "UPDATE docs SET title = upper(title) WHERE id = NEW.id; RETURN NULL;",
    }[when]
    job = job_of(database)
    block = encoded(job)
    with closing(writer_of(job)) as write:
        assert counts(write(block.slice(0, 10))) == {"updated": 10}
        connect.execute(f"CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
        connect.execute(f"CREATE TRIGGER act {when} UPDATE OF embedding ON docs FOR EACH ROW EXECUTE FUNCTION act()")
        with pytest.raises(ConfigError, match="changed the text of 40 rows"):
            write(block.slice(10))
    assert_every_vector_is_its_texts(connect, rows=10)


@pytest.mark.parametrize(("table", "rows"), [("docs", 50), ("docs_low", 19)])
def test_a_trigger_of_the_partitioned_table_is_seen_in_a_partition_too(connect, database, table, rows):
    """There it is a copy, which PostgreSQL 14 calls internal."""
    make_partitioned(connect, 50)
    connect.execute(
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.title := upper(NEW.title); RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )
    job = job_of(database, replace(DOCS, table=table))
    block = encoded(job)
    with (
        closing(writer_of(job)) as write,
        pytest.raises(ConfigError, match=f"changed the text of {rows} rows"),
    ):
        write(block)
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (0,)


def test_rows_of_partitions_are_locked_without_run_time_pruning(connect, database):
    """PostgreSQL 18.4 crashed now and then; see ``Relation.locking``."""
    make_partitioned(connect, 40)
    connect.execute(
        "CREATE TABLE seen (pruning text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO seen VALUES (current_setting('enable_partition_pruning')); RETURN NEW; END $$;"
        "CREATE TRIGGER note AFTER UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION note()"
    )
    job = job_of(database)
    with closing(writer_of(job)) as write:
        assert counts(write(encoded(job))) == {"updated": 40}
    expected = "off" if connect.info.server_version >= 180_000 else "on"
    assert connect.execute("SELECT DISTINCT pruning FROM seen").fetchall() == [(expected,)]
