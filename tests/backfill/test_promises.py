"""Promises that a stranger once broke: each run against a real server, as it was reported."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from tests.tables import DOCS, INLINE, MODEL, another, make_docs, vectors

from vecfill.backfill.run import run
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.errors import ConfigError, TableLockedError
from vecfill.postgres import waits


def fill(database, target=DOCS, model=MODEL):
    return run(target, model, database=database, options=INLINE)


def trigger(connect, body, when):
    connect.execute(f"CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    connect.execute(f"CREATE TRIGGER act {when} ON docs FOR EACH ROW EXECUTE FUNCTION act()")


def test_the_function_run_is_what_the_package_gives():
    script = "from vecfill import Model, Target, run; import vecfill; assert callable(run) and vecfill.run is run"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_trigger_that_takes_the_vector_back_refuses_the_row(connect, database):
    make_docs(connect, 50)
    trigger(connect, "NEW.embedding := OLD.embedding; RETURN NEW;", "BEFORE UPDATE")
    result = fill(database)
    assert (result.updated, result.refused, result.exit_code) == (0, 50, 3)


def test_a_trigger_that_changes_the_text_afterwards_is_found(connect, database):
    make_docs(connect, 50)
    trigger(
        connect,
        "UPDATE docs SET title = title || '!' WHERE id = NEW.id; RETURN NULL;",
        "AFTER UPDATE OF embedding",
    )
    with pytest.raises(ConfigError, match=r"a trigger on public\.docs changed the text of 50 rows"):
        fill(database)
    assert vectors(connect) == []


def test_bad_rows_in_front_do_not_stop_the_others(connect, database):
    make_docs(connect, 1_000)
    connect.execute("ALTER TABLE docs ADD CHECK (id > 25) NOT VALID")
    result = fill(database)
    assert (result.updated, result.failed, result.exit_code) == (975, 25, 3)
    assert not any("title" in (row.error or "") for row in result.quarantine)


def test_a_locked_table_is_not_waited_for_without_end(connect, database, monkeypatch):
    monkeypatch.setattr(waits, "LOCKED_FOR_S", 0.5)
    monkeypatch.setattr("vecfill.postgres.transaction.LOCK_TIMEOUT", "50ms")
    make_docs(connect, 10)
    with another(database) as other, other.transaction():
        other.execute("LOCK TABLE docs IN SHARE MODE")
        started = time.monotonic()
        with pytest.raises(TableLockedError, match="the table is locked as a whole by another session"):
            fill(database)
    assert time.monotonic() - started < 30


def test_two_keys_with_the_same_words_are_two_rows(connect, database):
    connect.execute("CREATE TABLE pairs (a text, b text, title text, embedding vector(8), PRIMARY KEY (a, b))")
    connect.execute("INSERT INTO pairs VALUES ('x, y', 'z', 'one'), ('x', 'y, z', 'two')")
    connect.execute("ALTER TABLE pairs ADD CHECK (embedding IS NULL)")
    result = fill(database, Target(table="pairs", text="title"))
    assert (result.failed, result.sweeps) == (2, 1)
    assert sorted(row.key for row in result.quarantine) == ['("x, y",z)', '(x,"y, z")']


@pytest.mark.parametrize(
    ("where", "assignments", "says"),
    [
        ("ctid < '(10,0)'", (), "cannot be written with this --where and --set"),
        (None, ("seen = 1", "seen = 2"), "multiple assignments to same column"),
        (None, ("id = id + 1000",), "the key column id"),
    ],
)
def test_sql_is_checked_in_the_form_in_which_it_is_used(connect, database, where, assignments, says):
    make_docs(connect, 10)
    with pytest.raises(ConfigError, match=says):
        fill(database, Target(table="docs", text="title", where=where, set=assignments))


def test_a_wrong_dimension_is_told_although_nothing_is_missing(connect, database):
    make_docs(connect, 10)
    fill(database)
    with pytest.raises(ConfigError, match=r"vector\(8\) but model hash:9 gives 9"):
        fill(database, model=Model(name="hash:9"))


@pytest.mark.parametrize("kind", ["ALSO INSERT INTO audit VALUES (1)", "INSTEAD NOTHING"])
def test_a_table_with_rules_is_refused_by_its_name(connect, database, kind):
    make_docs(connect, 3)
    connect.execute(f"CREATE TABLE audit (n int); CREATE RULE act AS ON UPDATE TO docs DO {kind}")
    with pytest.raises(ConfigError, match=r"^public.docs cannot be written: .*0A000\): change that$"):
        run(DOCS, MODEL, database=database, options=INLINE)


def test_a_published_table_without_replica_identity_is_refused_by_its_name(connect, database):
    make_docs(connect, 3)
    connect.execute("ALTER TABLE docs REPLICA IDENTITY NOTHING; CREATE PUBLICATION theirs FOR TABLE docs")
    with pytest.raises(ConfigError, match=r"^public.docs refuses updates: .* set REPLICA IDENTITY .*55000"):
        run(DOCS, MODEL, database=database, options=INLINE)
