"""A vector follows its text: what the triggers capture, and what a run makes of it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from tests.ledger.tracked import assert_current, fill, make_partitioned_docs, queue, tracked_docs
from tests.needs import needs
from tests.tables import DOCS, INLINE, MODEL, another, inline_engine, role

import vecfill.ledger.queue_sql
from vecfill import ConfigError, track, untrack
from vecfill.backfill.drain import Drain
from vecfill.backfill.prepare import prepare
from vecfill.postgres.database import Database
from vecfill.postgres.session import Session

EDITS = {
    "update": ("UPDATE docs SET title = 'new ' || id WHERE id <= 3", 3),
    "update of nothing": ("UPDATE docs SET title = title, seen = 1", 0),
    "update of another column": ("UPDATE docs SET note = 'x'", 0),
    "insert": ("INSERT INTO docs (id, title, note) VALUES (101, 'a', '')", 1),
    "insert that becomes an update": (
        "INSERT INTO docs (id, title, note) VALUES (1, 'a', '') ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title",
        1,
    ),
    "merge": (
        "MERGE INTO docs USING (VALUES (1, 'a'), (102, 'b')) AS s (id, title) ON docs.id = s.id"
        " WHEN MATCHED THEN UPDATE SET title = s.title"
        " WHEN NOT MATCHED THEN INSERT (id, title, note) VALUES (s.id, s.title, '')",
        2,
    ),
    "delete": ("DELETE FROM docs WHERE id <= 3", 0),
    "truncate": ("TRUNCATE docs", 0),
    "key": ("UPDATE docs SET id = id + 1000 WHERE id <= 3", 3),
    "keys that move up": ("UPDATE docs SET id = -id; UPDATE docs SET id = 1 - id", None),
    "vector removed": ("UPDATE docs SET embedding = NULL WHERE id = 7", 1),
    "text and back": ("UPDATE docs SET title = 'x' WHERE id = 1; UPDATE docs SET title = 'title 1' WHERE id = 1", 0),
    "deleted and back": ("DELETE FROM docs WHERE id = 1; INSERT INTO docs (id, title, note) VALUES (1, 'a', '')", 1),
    "text removed": ("UPDATE docs SET title = NULL WHERE id = 1", 0),
    "rolled back": ("BEGIN; UPDATE docs SET title = 'x'; ROLLBACK", 0),
    "subtransaction rolled back": (
        "BEGIN; SAVEPOINT s; UPDATE docs SET title = 'x'; ROLLBACK TO s;"
        "UPDATE docs SET title = 'y' WHERE id = 2; COMMIT",
        1,
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_is_followed_at_its_own_cost(database, connect, edit):
    if edit == "merge" and connect.info.server_version < 150_000:
        needs("PostgreSQL 15: MERGE")
    statement, rows = EDITS[edit]
    tracked_docs(connect, database)
    connect.execute(statement)
    found = fill(database)
    assert (found.exit_code, found.queued_after) == (0, 0)
    assert found.updated == rows or rows is None
    assert found.cleared == (edit == "text removed")
    assert queue(connect) == {}
    assert_current(connect)
    origins = "vecfill.vector_1 FULL JOIN docs ON id = key0"
    keys = f"SELECT count(*) FROM {origins} WHERE (key0 IS NULL) <> (embedding IS NULL)"
    assert connect.execute(keys).fetchone() == (0,)
    again = fill(database)
    assert (again.eligible, again.updated, again.sweeps) == (0, 0, 0)


def test_what_a_copy_and_a_before_trigger_bring_is_followed(database, connect):
    tracked_docs(connect, database)
    with connect.cursor().copy("COPY docs (id, title, note) FROM STDIN") as copy:
        copy.write_row((50, "copied", ""))
    connect.execute(
        "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.title := upper(NEW.note); RETURN NEW; END $$;"
        "CREATE TRIGGER shout BEFORE UPDATE OF note ON docs FOR EACH ROW EXECUTE FUNCTION shout();"
        "UPDATE docs SET note = 'loud' WHERE id = 2"
    )
    assert fill(database).updated == 2
    assert_current(connect)


@pytest.mark.parametrize(
    ("column", "edit"),
    [
        ("title numeric", "UPDATE docs SET title = 1.00"),
        ("title json", "UPDATE docs SET title = '[1,  2]'"),
        ("title point", "UPDATE docs SET title = '(1,2)'"),
        ("title interval", "UPDATE docs SET title = '24 hours'"),
        ("base text, title text GENERATED ALWAYS AS (upper(base)) STORED", "UPDATE docs SET base = 'x'"),
    ],
)
def test_a_text_of_any_type_is_followed(database, connect, column, edit):
    value = {"numeric": "1.0", "json": "[1, 2]", "point": "(1,1)", "interval": "1 day"}.get(column.split()[1], "y")
    name = column.split()[0]
    connect.execute(f"CREATE TABLE docs (id int PRIMARY KEY, {column}, embedding vector(8))")
    connect.execute(f"INSERT INTO docs (id, {name}) VALUES (1, '{value}')")
    track(DOCS, database=database)
    assert fill(database).updated == 1
    connect.execute(edit)
    assert fill(database).updated == 1
    assert_current(connect, "title::text")


def test_partitions_are_followed_also_those_attached_later_and_rows_that_move(database, connect):
    make_partitioned_docs(connect)
    track(DOCS, database=database)
    assert fill(database).updated == 20
    connect.execute(
        "CREATE TABLE docs_3 (LIKE docs); INSERT INTO docs_3 SELECT n, 3, 'late ' || n FROM generate_series(31, 35) n;"
        "ALTER TABLE docs ATTACH PARTITION docs_3 FOR VALUES IN (3); UPDATE docs SET title = 'new' WHERE id = 4"
    )
    assert fill(database).updated == 6
    connect.execute("UPDATE docs SET part = 3 WHERE id = 5; UPDATE docs SET title = 'later' WHERE id = 31")
    found = fill(database)
    assert found.exit_code == 0
    assert_current(connect)
    connect.execute("ALTER TABLE docs DETACH PARTITION docs_2")
    assert fill(database).eligible == 0


def test_a_row_that_moves_to_another_key_with_an_outdated_vector_is_made_anew(database, connect):
    """It is a deleted and an inserted row to the triggers."""
    make_partitioned_docs(connect, 9, part="1")
    track(DOCS, database=database)
    fill(database)
    connect.execute("UPDATE docs SET title = 'new ' || id; UPDATE docs SET part = 2 WHERE id < 4")
    fill(database)
    assert_current(connect)
    assert queue(connect) == {}


def test_a_row_that_where_begins_to_select_is_filled(database, connect):
    target = replace(DOCS, where="seen > 0")
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, seen int, embedding vector(8))")
    connect.execute("INSERT INTO docs SELECT n, 'title ' || n, n % 2 FROM generate_series(1, 10) n")
    track(target, database=database)
    assert fill(database, target).updated == 5
    connect.execute("UPDATE docs SET seen = 1 WHERE id = 2; UPDATE docs SET seen = 0 WHERE id = 1")
    assert fill(database, target).updated == 1


def test_an_edit_that_commits_after_a_run_began_waits_for_the_next(database, connect):
    tracked_docs(connect, database)
    with another(database) as session:
        session.execute("UPDATE docs SET title = 'late' WHERE id = 1")
        assert fill(database).updated == 0
        session.commit()
    assert fill(database).updated == 1
    assert_current(connect)


def test_a_text_by_sql_is_followed_where_a_trigger_can_see_it_and_else_by_an_audit(database, connect):
    connect.execute(
        "CREATE TABLE firm (id int PRIMARY KEY, name text); INSERT INTO firm VALUES (1, 'Acme');"
        "CREATE TABLE docs (id int PRIMARY KEY, title text, firm int, seen int, embedding vector(8));"
        "INSERT INTO docs SELECT n, 'title ' || n, 1, 0 FROM generate_series(1, 10) n"
    )
    sql = "title || ' at ' || (SELECT name FROM firm WHERE firm.id = docs.firm)"
    target = replace(DOCS, text=None, text_sql=sql)
    made = track(target, database=database)
    assert made.elsewhere == ("firm",)
    assert fill(database, target).updated == 10
    connect.execute("UPDATE docs SET seen = 1; UPDATE docs SET title = 'x' WHERE id = 1")
    assert fill(database, target).updated == 1
    connect.execute("UPDATE firm SET name = 'Ajax'")
    assert fill(database, target).updated == 0
    assert fill(database, target, audit=True).updated == 10
    assert_current(connect, f"({sql})")


@pytest.mark.parametrize(
    "text", ["title || embedding::text", "to_jsonb(docs)::text || title", "docs::text", "title || xmin"]
)
def test_a_text_that_a_write_would_change_is_refused(database, connect, text):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8))")
    with pytest.raises(ConfigError, match="--text-sql"):
        track(replace(DOCS, text=None, text_sql=text), database=database)


def test_what_no_trigger_saw_an_audit_finds(database, connect):
    tracked_docs(connect, database)
    connect.execute("SET session_replication_role = replica; UPDATE docs SET title = 'silent' WHERE id < 4; RESET ALL")
    assert fill(database).updated == 0
    found = fill(database, audit=True)
    assert (found.updated, found.selected["changed"]) == (3, 3)
    assert_current(connect)


def test_disabled_triggers_are_noticed(database, connect, caplog):
    tracked_docs(connect, database)
    connect.execute("ALTER TABLE docs DISABLE TRIGGER USER; UPDATE docs SET title = 'silent' WHERE id < 4")
    assert fill(database).updated == 3
    assert "missing or disabled" in caplog.text
    assert_current(connect)


def test_without_triggers_each_run_compares(database, connect):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8))")
    connect.execute("INSERT INTO docs SELECT n, 'title ' || n FROM generate_series(1, 10) n")
    track(DOCS, database=database, triggers=False)
    assert not connect.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'docs'::regclass").fetchall()
    assert fill(database).updated == 10
    connect.execute("UPDATE docs SET title = 'x' WHERE id = 1")
    assert fill(database).updated == 1


def test_another_text_makes_every_row_anew(database, connect):
    tracked_docs(connect, database)
    target = replace(DOCS, text="{title} {note}")
    with pytest.raises(ConfigError, match=r"tracked with --text '{title}'"):
        fill(database, target)
    assert track(target, database=database).changed
    assert fill(database, target).updated == 20
    assert_current(connect, "title || ' ' || note")


def test_the_role_that_edits_needs_no_right(database, connect):
    tracked_docs(connect, database)
    name = connect.execute("SELECT 'editor_' || current_database()").fetchone()[0]
    connect.execute(f'CREATE ROLE "{name}"; GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO "{name}"')
    try:
        connect.execute(f'SET ROLE "{name}"')
        connect.execute("UPDATE docs SET title = 'x' WHERE id = 1; DELETE FROM docs WHERE id = 2")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connect.execute("SELECT * FROM vecfill.change_1")
    finally:
        connect.execute("RESET ROLE")
        connect.execute(f'DROP OWNED BY "{name}"; DROP ROLE "{name}"')
    assert fill(database).updated == 1


def test_a_role_that_edits_cannot_run_its_own_operator_with_the_rights_of_who_tracks(database, connect):
    tracked_docs(connect, database)
    with role(connect, database) as uri, psycopg.connect(uri, autocommit=True) as editor:
        connect.execute(f"CREATE SCHEMA editors AUTHORIZATION {editor.info.user}")
        editor.execute(
            "CREATE FUNCTION editors.equal(bigint, bigint) RETURNS bool LANGUAGE plpgsql AS"
            " $$BEGIN RAISE EXCEPTION 'run by %', current_user; END$$;"
            "CREATE OPERATOR editors.= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = editors.equal);"
            "SET search_path = editors, pg_catalog, public"
        )
        editor.execute("UPDATE public.docs SET title = 'x', id = 100 WHERE title = 'title 1'")
    assert fill(database).updated == 1
    assert_current(connect)


def test_a_table_that_was_read_in_parts_is_read_as_a_whole_again(database, connect):
    """A row may have moved between the parts meanwhile, without an entry in the queue."""
    tracked_docs(connect, database, 3_000, filled=False)
    with closing(Session.connect(Database(database))) as session:
        prepared = prepare(session, DOCS, MODEL, INLINE)
        prepared.source.pieces.most = 1
        with closing(inline_engine(prepared.job)) as engine:
            Drain(prepared=prepared).until_dry(engine)
    assert_current(connect)
    scanned = "SELECT cardinality(scanned) FROM vecfill.target"
    assert connect.execute(scanned).fetchone() == (0,)
    assert fill(database).eligible == 0
    assert connect.execute(scanned).fetchone() == (1,)


def test_a_partition_that_was_away_is_read_as_a_whole_again(database, connect):
    """It lost its triggers while it was detached, and they are made anew when it comes back."""
    make_partitioned_docs(connect)
    track(DOCS, database=database)
    assert fill(database).updated == 20
    connect.execute(
        "UPDATE docs SET title = 'before' WHERE id = 1; ALTER TABLE docs DETACH PARTITION docs_2;"
        "UPDATE docs_2 SET title = 'edited' WHERE id = 3"
    )
    assert fill(database).updated == 0
    connect.execute("ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES IN (2)")
    assert fill(database).updated == 2
    assert_current(connect)


def test_a_table_that_was_dropped_is_untracked_by_any_name(database, connect, vecfill):
    tracked_docs(connect, database)
    connect.execute("CREATE TABLE more AS TABLE docs; ALTER TABLE more ADD PRIMARY KEY (id)")
    track(replace(DOCS, table="more"), database=database)
    connect.execute("DROP TABLE docs")
    assert vecfill("untrack", "-d", database, "-t", "docs").code == 0
    left = "SELECT relname FROM pg_class WHERE relnamespace = 'vecfill'::regnamespace AND relname LIKE '%%_1'"
    assert connect.execute(left).fetchall() == []
    assert vecfill("untrack", "-d", database, "-t", "docs").code == 2
    assert fill(database, replace(DOCS, table="more")).exit_code == 0
    connect.execute("DROP TABLE more")
    assert vecfill("untrack", "-d", database, "-t", "more").code == 0
    assert connect.execute("SELECT FROM pg_namespace WHERE nspname = 'vecfill'").fetchone() is None


def test_another_target_in_the_same_column_is_named(database, connect, vecfill):
    tracked_docs(connect, database)
    ended = vecfill("track", "-d", database, "-t", "docs", "--text", "note", "--where", "seen > 0")
    assert (ended.code, "also tracked with --where '(none)'" in ended.err) == (0, True)
    untrack(DOCS, database=database)
    with pytest.raises(ConfigError, match="is tracked with --where 'seen > 0': use the same"):
        untrack(DOCS, database=database)


def test_a_row_that_moves_while_the_queue_is_settled_counts_as_changed(database, connect, monkeypatch):
    """Its key changes with it, so only the entries of both partitions together tell that its vector may be outdated."""
    make_partitioned_docs(connect)
    track(DOCS, database=database)
    fill(database)
    connect.execute("UPDATE docs SET title = 'x' WHERE id = 2; UPDATE docs SET title = 'title 2' WHERE id = 2")
    remove_repeated = vecfill.ledger.queue_sql.remove_repeated

    def moved_before(relation):
        connect.execute(
            "UPDATE docs SET part = 3 - part, title = 'moved ' || id WHERE id BETWEEN 3 AND 6 AND title !~ 'moved'"
        )
        return remove_repeated(relation)

    monkeypatch.setattr(vecfill.ledger.queue_sql, "remove_repeated", moved_before)
    assert fill(database).exit_code == 0
    assert fill(database).exit_code == 0
    assert_current(connect)
    assert queue(connect) == {}


def test_the_terminal_shows_how_many_vectors_were_cleared(database, connect, vecfill):
    tracked_docs(connect, database)
    connect.execute("UPDATE docs SET title = ' ' WHERE id <= 3; UPDATE docs SET title = 'new' WHERE id = 4")
    ended = vecfill("run", "-d", database, "-t", "docs", "--text", "{title}", "-m", "hash:8", "--engine", "inline")
    assert "complete: 1 updated, 3 cleared; " in ended.out, ended.out
