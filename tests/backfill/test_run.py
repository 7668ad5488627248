"""Whole runs in this process: sweeps until dry, an account that equals the table's own counts, and the outcomes."""

from __future__ import annotations

import logging
import random
import threading
import time
from contextlib import nullcontext
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from tests.tables import (
    DIM,
    DOCS,
    INLINE,
    MODEL,
    add_docs,
    another,
    assert_every_vector_is_its_texts,
    end_sleeping,
    make_docs,
    meanwhile,
    rest,
    vectors,
)

import vecfill.backfill.drain
from vecfill.backfill.progress import Progress
from vecfill.backfill.result import RunResult
from vecfill.backfill.run import run
from vecfill.backfill.tally import FINAL
from vecfill.blocks import OUTCOMES
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.errors import ConfigError, DatabaseError, MixedModelsError
from vecfill.job import Stop
from vecfill.read.survey import Coverage
from vecfill.table_status import status


def fill(database: str, target: Target = DOCS, model: Model = MODEL, **more) -> RunResult:
    return run(target, model, database=database, **({"options": INLINE} | more))


def filled(connect: psycopg.Connection, table: str = "docs") -> int:
    return connect.execute(f"SELECT count(embedding) FROM {table}").fetchone()[0]


def adds_up(result: RunResult, connect: psycopg.Connection, table: str = "docs") -> None:
    """What a run says of itself is what the table shows, where nobody else wrote; rows in quarantine remain."""
    assert result.updated == result.after.filled - result.before.filled
    assert result.after.filled == filled(connect, table)
    assert result.remaining == result.after.missing
    assert result.after.total == result.after.filled + result.after.missing + result.after.empty
    assert result.eligible == sum(getattr(result, name) for name in FINAL) + result.remaining


def test_fills_every_missing_vector_and_touches_nothing_else(connect, database):
    make_docs(connect, 3_000)
    theirs = str([0.5] * DIM)
    connect.execute("UPDATE docs SET title = NULL WHERE id <= 10")
    connect.execute("UPDATE docs SET title = E' \\n' WHERE id BETWEEN 11 AND 15")
    before = rest(connect)
    result = fill(database)
    assert (result.outcome, result.exit_code) == ("complete", 0)
    assert (result.eligible, result.updated, result.empty, result.remaining) == (2_985, 2_985, 15, 0)
    assert (result.engine, result.model, result.table) == ("inline", "hash:8", "public.docs")
    assert result.embedded == 2_985
    assert result.rows_per_s > 0
    adds_up(result, connect)
    assert_every_vector_is_its_texts(connect, rows=2_985)
    assert rest(connect) == before
    assert connect.execute("SELECT count(*) FROM docs WHERE embedding = %s", [theirs]).fetchone() == (0,)


@pytest.mark.parametrize(("dedupe", "reused"), [(True, 90), (False, 0)])
def test_equal_texts_are_computed_once_unless_that_is_not_wanted(connect, database, dedupe, reused):
    make_docs(connect, 100)
    connect.execute("UPDATE docs SET title = 'title ' || id % 10")
    result = fill(database, options=replace(INLINE, dedupe=dedupe))
    assert (result.updated, result.reused, result.device, result.dtype) == (100, reused, "cpu", "float32")
    assert_every_vector_is_its_texts(connect, rows=100)


def test_a_second_run_finds_nothing_to_do(connect, database):
    make_docs(connect, 100)
    fill(database)
    again = fill(database)
    assert (again.outcome, again.exit_code, again.eligible, again.updated, again.engine) == ("complete", 0, 0, 0, None)
    assert again.before == again.after


@pytest.mark.parametrize("rows", [0, 5])
def test_nothing_eligible_loads_no_model(connect, database, rows):
    make_docs(connect, rows)
    connect.execute("UPDATE docs SET title = ''")
    result = fill(database, model=Model(name="nobody/no-such-model"))
    assert (result.outcome, result.exit_code, result.empty) == ("complete", 0, rows)


def test_an_incremental_run_leaves_vectors_alone(connect, database):
    make_docs(connect, 1_000)
    fill(database)
    before = dict(vectors(connect, "id"))
    add_docs(connect, 1_001, 1_100)
    assert fill(database).updated == 100
    after = dict(vectors(connect, "id"))
    assert {key: after[key] for key in before} == before


# -- while others work on the table


@pytest.mark.slow
def test_rows_changed_during_the_run_end_with_the_vectors_of_their_last_text(connect, database):
    make_docs(connect, 20_000)

    def application(done: threading.Event) -> None:
        number = 20_001
        with psycopg.connect(database, autocommit=True) as app:
            while not done.is_set():
                some = random.sample(range(1, 20_001), 20)
                app.execute("UPDATE docs SET title = title || '!', embedding = NULL WHERE id = ANY (%s)", [some])
                app.execute("DELETE FROM docs WHERE id = ANY (%s)", [random.sample(range(1, 20_001), 2)])
                add_docs(app, number, number + 1)
                number += 2
                time.sleep(0.005)

    with meanwhile(application):
        first = fill(database)
    assert sum(getattr(first, outcome) for outcome in OUTCOMES) > 0
    last = fill(database)
    assert (last.outcome, last.exit_code, last.remaining) == ("complete", 0, 0)
    rows = connect.execute("SELECT count(*) FROM docs").fetchone()[0]
    assert_every_vector_is_its_texts(connect, rows=rows)


def test_texts_that_change_between_reading_and_writing_are_read_again(connect, database):
    """A trigger of nobody's: each row of the first block changes right after its block was counted as read."""
    make_docs(connect, 2_000)
    changed = []

    def change(progress: Progress) -> None:
        if progress.done and not changed:
            changed.append(connect.execute("UPDATE docs SET title = title || '!' WHERE embedding IS NULL").rowcount)

    result = fill(database, progress=change)
    assert changed[0] > 0
    assert 0 < result.stale <= result.embedded - result.updated  # by another sweep, or by this one at their new place
    assert (result.outcome, result.updated) == ("complete", 2_000)
    assert_every_vector_is_its_texts(connect, rows=2_000)


def test_rows_that_others_fill_and_delete_are_accounted_for(connect, database):
    make_docs(connect, 4_000)
    theirs = str([0.5] * DIM)

    def interfere(progress: Progress) -> None:
        if 0 < progress.tally.rows < 1_000:
            connect.execute("UPDATE docs SET embedding = %s WHERE id > 3900", [theirs])
            connect.execute("DELETE FROM docs WHERE id BETWEEN 3801 AND 3900")

    result = fill(database, progress=interfere, options=replace(INLINE, allow_mixed=True))
    assert result.outcome == "complete"
    assert result.updated == filled(connect) - 100
    kept = connect.execute("SELECT count(*) FROM docs WHERE embedding = %s", [theirs]).fetchone()
    assert kept == (100,)
    connect.execute("DELETE FROM docs WHERE embedding = %s", [theirs])
    assert_every_vector_is_its_texts(connect, rows=3_800)


def test_rows_locked_to_the_end_leave_the_run_incomplete(connect, database, monkeypatch):
    monkeypatch.setattr(vecfill.backfill.drain, "PAUSE_S", 0.01)
    make_docs(connect, 1_000)
    with another(database) as other:
        other.execute("SELECT FROM docs WHERE id <= 7 FOR UPDATE")
        result = fill(database)
        assert (result.outcome, result.exit_code) == ("incomplete", 5)
        assert (result.locked, result.updated, result.remaining) == (7, 993, 7)
        assert result.sweeps == vecfill.backfill.drain.MAX_SWEEPS
    assert fill(database).updated == 7


def test_rows_locked_for_a_while_are_taken_by_a_later_sweep(connect, database):
    make_docs(connect, 1_000)
    with another(database) as other:
        other.execute("SELECT FROM docs WHERE id <= 7 FOR UPDATE")

        def release(progress: Progress) -> None:
            if progress.sweep == 2:
                other.rollback()

        result = fill(database, progress=release)
    assert (result.outcome, result.exit_code, result.locked, result.updated) == ("complete", 0, 0, 1_000)
    adds_up(result, connect)


# -- rows that cannot be written


def refuse(connect: psycopg.Connection, condition: str) -> None:
    connect.execute(
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF {condition} THEN RETURN NULL; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )


def test_rows_in_quarantine_are_named_and_the_rest_lands(connect, database):
    make_docs(connect, 2_000)
    connect.execute("ALTER TABLE docs ADD CHECK (id NOT IN (3, 1999) OR embedding IS NULL)")
    refuse(connect, "OLD.id = 5")
    result = fill(database)
    assert (result.outcome, result.exit_code) == ("quarantined", 3)
    assert (result.updated, result.failed, result.refused, result.remaining) == (1_997, 2, 1, 3)
    assert {row.key: row.outcome for row in result.quarantine} == {"3": "failed", "1999": "failed", "5": "refused"}
    adds_up(result, connect)
    assert_every_vector_is_its_texts(connect, rows=1_997)


def test_rows_in_quarantine_that_are_deleted_hide_no_other_row(connect, database):
    make_docs(connect, 100)
    connect.execute("ALTER TABLE docs ADD CHECK (id > 5 OR embedding IS NULL)")
    with another(database) as other:
        other.execute("SELECT FROM docs WHERE id > 95 FOR UPDATE")

        def delete_and_release(progress: Progress) -> None:
            if progress.done:
                connect.execute("DELETE FROM docs WHERE id <= 5")
                other.rollback()

        result = fill(database, progress=delete_and_release)
    assert (result.outcome, result.exit_code, result.sweeps) == ("quarantined", 3, 2)
    assert (result.updated, result.failed, result.locked, result.remaining) == (95, 5, 0, 0)


def test_a_run_that_could_write_nothing_is_no_success(connect, database):
    make_docs(connect, 10)
    refuse(connect, "true")
    result = fill(database)
    assert (result.outcome, result.exit_code, result.refused) == ("quarantined", 3, 10)


def test_a_trigger_that_rewrites_texts_is_told(connect, database):
    make_docs(connect, 10)
    connect.execute(
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.title := upper(NEW.title); RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )
    with pytest.raises(ConfigError, match="changed the text of 10 rows"):
        fill(database)
    assert filled(connect) == 0


# -- bounds


@pytest.mark.parametrize("limit", [1, 700, 1_999])
def test_a_limit_is_kept_to_the_row(connect, database, limit):
    make_docs(connect, 2_000)
    result = fill(database, options=replace(INLINE, limit=limit))
    assert (result.outcome, result.exit_code, result.updated, result.remaining) == ("limit", 0, limit, 2_000 - limit)
    adds_up(result, connect)
    assert fill(database).updated == 2_000 - limit


def test_a_limit_over_what_there_is_changes_nothing(connect, database):
    make_docs(connect, 100)
    result = fill(database, options=replace(INLINE, limit=1_000))
    assert (result.outcome, result.updated) == ("complete", 100)


@pytest.mark.slow
def test_max_seconds_ends_with_what_is_in_flight_committed(connect, database):
    make_docs(connect, 6_000)
    stop = Stop()
    options = replace(INLINE, max_seconds=2)
    result = fill(database, options=options, stop=stop, progress=lambda now: now.done and stop.wait(60))
    assert (result.outcome, result.exit_code) == ("incomplete", 5)
    assert 0 <= result.updated < 6_000
    adds_up(result, connect)


def test_a_stop_from_another_thread(connect, database):
    make_docs(connect, 6_000)
    stop = Stop()
    result = fill(database, stop=stop, progress=lambda now: now.done and stop.set("SIGTERM"))
    assert (result.outcome, result.exit_code) == ("stopped", 143)
    assert 0 < result.updated < 6_000
    adds_up(result, connect)
    assert_every_vector_is_its_texts(connect, rows=result.updated)
    assert fill(database).outcome == "complete"


def test_progress_comes_after_each_block(connect, database):
    make_docs(connect, 3_000)
    seen: list[tuple[int, int]] = []
    fill(database, progress=lambda now: seen.append((now.done, now.eligible)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (3_000, 3_000)
    assert len(seen) > 2


# -- models


def test_vectors_of_another_model_stop_the_run(connect, database):
    make_docs(connect, 100)
    connect.execute("UPDATE docs SET embedding = ARRAY[id, 1, -1, 0, 0, 0, 0, -9]::real[] WHERE id <= 40")
    with pytest.raises(MixedModelsError, match="0 of 32 sampled vectors") as error:
        fill(database)
    assert error.value.exit_code == 2
    assert filled(connect) == 40
    result = fill(database, options=replace(INLINE, allow_mixed=True))
    assert (result.outcome, result.updated) == ("complete", 60)


@pytest.mark.parametrize(("vector", "other"), [("vector(8)", [1, -9] * 4), ("vector", [1, 2, 3]), ("real[]", [0])])
def test_only_vectors_that_where_selects_tell_of_model_and_dimension(connect, database, vector, other):
    """Two models in one column, told apart by another column: of one dimension, or of two in a column without any."""
    make_docs(connect, 80, vector=vector)
    connect.execute("UPDATE docs SET seen = mod(id, 2)")
    connect.execute("UPDATE docs SET embedding = %s::real[] WHERE seen = 0", [other])
    with pytest.raises(ConfigError, match=r"with --where|a placeholder") if any(other) else nullcontext():
        fill(database, options=replace(INLINE, limit=1))
    where = replace(DOCS, where="seen = 1")
    assert fill(database, where, options=replace(INLINE, limit=20)).updated == 20
    connect.execute("UPDATE docs SET embedding = NULL WHERE seen = 0")
    assert fill(database, where).after.filled == 40
    with pytest.raises(ConfigError, match="9"):
        fill(database, where, model=Model(name="hash:9"))


ZEROS = {"vector(8)": str([0] * 8), "vector": "[0]", "halfvec(8)": str([0] * 8), "real[]": "{}", "float8[]": "{0,0}"}


@pytest.mark.parametrize("vector", ZEROS)
def test_placeholders_of_a_not_null_column(connect, database, vector, caplog):
    caplog.set_level(logging.WARNING)
    make_docs(connect, vector=f"{vector} NOT NULL DEFAULT '{ZEROS[vector]}'")
    add_docs(connect, 1, 40)
    result = fill(database, options=replace(INLINE, limit=10))
    assert (result.eligible, result.before.filled) == (0, 40)
    assert "public.docs.embedding is NOT NULL, so every row counts as filled: pass --zero-is-missing" in caplog.text
    caplog.clear()
    target = replace(DOCS, zero_is_missing=True)
    result = fill(database, target, options=replace(INLINE, limit=10))
    assert (result.outcome, result.updated, result.after.missing) == ("limit", 10, 30)
    result = fill(database, target)
    assert (result.outcome, result.updated, result.before, result.after.percent) == (
        "complete",
        30,
        Coverage(total=40, filled=10, missing=30, empty=0),
        100,
    )
    assert_every_vector_is_its_texts(connect, rows=40, tolerance=1e-3)
    assert status(target, database=database).coverage == result.after
    assert caplog.text == ""


def test_a_trigger_that_restores_the_placeholder_refuses(connect, database):
    make_docs(connect, vector=f"vector(8) NOT NULL DEFAULT '{ZEROS['vector(8)']}'")
    add_docs(connect, 1, 10)
    connect.execute(
        "CREATE FUNCTION restore() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.embedding = OLD.embedding; RETURN NEW; END'"
    )
    connect.execute(
        "CREATE TRIGGER restore BEFORE UPDATE ON docs FOR EACH ROW WHEN (NEW.id > 7) EXECUTE FUNCTION restore()"
    )
    result = fill(database, replace(DOCS, zero_is_missing=True))
    assert (result.exit_code, result.updated, result.refused) == (3, 7, 3)


def test_a_dim_that_contradicts_the_vectors_is_refused(connect, database):
    make_docs(connect, 10, vector="vector")
    connect.execute("UPDATE docs SET embedding = '[1,2,3]' WHERE id < 5")
    with pytest.raises(ConfigError, match=r"--dim 8: .* holds vectors of 3 dimensions in its rows: .* with --where"):
        fill(database, replace(DOCS, dim=8))
    with pytest.raises(ConfigError, match=r"has 3 dimensions by its vectors or --dim but model hash:8 gives 8"):
        fill(database)
    assert fill(database, replace(DOCS, dim=8, where="id > 5")).updated == 5


def test_a_wrong_dimension_is_found_before_a_row_is_read(connect, database):
    make_docs(connect, 10)
    with pytest.raises(ConfigError, match=r"docs\.embedding is vector\(8\) but model hash:9 gives 9"):
        fill(database, model=Model(name="hash:9"))


# -- kinds of tables


def make_slowly_planned_docs(connect: psycopg.Connection) -> Target:
    """The planner itself calls the function: checking the user's SQL takes a moment."""
    make_docs(connect, 10)
    connect.execute(
        "CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS"
        " $$ BEGIN PERFORM pg_sleep(0.2); RETURN $1; END $$"
    )
    return replace(DOCS, where="slow('x') IS NOT NULL")


@pytest.mark.slow
def test_a_connection_lost_during_the_checks_is_no_fault_of_the_users_sql(connect, database):
    target = make_slowly_planned_docs(connect)

    with meanwhile(lambda _: end_sleeping(connect)):
        assert fill(database, target).updated == 10


def test_a_timeout_during_the_checks_is_no_fault_of_the_users_sql(connect, database):
    target = make_slowly_planned_docs(connect)
    name = sql.Identifier(connect.execute("SELECT current_database()").fetchone()[0])
    connect.execute(sql.SQL("ALTER DATABASE {} SET statement_timeout = '100ms'").format(name))
    with pytest.raises(DatabaseError, match="if a timeout ended it, raise statement_timeout of this role"):
        fill(database, target)


def test_a_partitioned_table(connect, database):
    connect.execute(
        "CREATE TABLE docs (id int, lang text, title text, embedding vector(8), PRIMARY KEY (lang, id))"
        " PARTITION BY LIST (lang);"
        "CREATE TABLE docs_en PARTITION OF docs FOR VALUES IN ('en') PARTITION BY RANGE (id);"
        "CREATE TABLE docs_en_1 PARTITION OF docs_en FOR VALUES FROM (0) TO (700);"
        "CREATE TABLE docs_en_2 PARTITION OF docs_en FOR VALUES FROM (700) TO (9999);"
        "CREATE TABLE docs_rest PARTITION OF docs DEFAULT;"
        "INSERT INTO docs SELECT n, l, l || n FROM generate_series(1, 1000) n, unnest(ARRAY['en', 'de', 'fr']) l"
    )
    result = fill(database)
    assert (result.outcome, result.updated) == ("complete", 3_000)
    adds_up(result, connect)
    assert_every_vector_is_its_texts(connect, rows=3_000)


def test_a_composite_key_of_texts_of_any_length(connect, database):
    """Lengths that vary row by row: a stream that mixed them up would write vectors to other rows."""
    connect.execute(
        'CREATE TABLE docs (a text, b text COLLATE "C", title text, embedding vector(8), PRIMARY KEY (a, b));'
        "INSERT INTO docs SELECT repeat('ä', n % 17), n || repeat(E'\\n', n % 5), 'title ' || n"
        " FROM generate_series(1, 3000) n"
    )
    result = fill(database)
    assert (result.outcome, result.updated) == ("complete", 3_000)
    assert_every_vector_is_its_texts(connect, rows=3_000)


@pytest.mark.parametrize(
    ("vector", "dim", "tolerance"),
    [("halfvec(8)", None, 1e-3), ("real[]", 8, 0), ("float8[]", 8, 0), ("vector", None, 0)],
)
def test_other_kinds_of_vectors(connect, database, vector, dim, tolerance):
    make_docs(connect, 1_000, vector=vector)
    target = replace(DOCS, dim=dim)
    assert fill(database, target).updated == 1_000
    assert_every_vector_is_its_texts(connect, rows=1_000, tolerance=tolerance)
    add_docs(connect, 1_001, 1_010)
    assert fill(database, target).updated == 10


def test_where_and_set(connect, database):
    make_docs(connect, 1_000)
    target = replace(DOCS, where="id % 2 = 0", set=("seen = seen + 1", "note = 'at ' || docs.id"))
    result = fill(database, target)
    assert (result.outcome, result.updated, result.before.total) == ("complete", 500, 500)
    rows = connect.execute(
        "SELECT id % 2, seen, embedding IS NULL, note = 'at ' || id, count(*) FROM docs GROUP BY 1, 2, 3, 4"
    )
    assert sorted(rows.fetchall()) == [(0, 1, False, True, 500), (1, 0, True, False, 500)]


def test_texts_of_several_columns(connect, database):
    make_docs(connect, 500)
    connect.execute("UPDATE docs SET title = NULL WHERE id <= 100")
    target = replace(DOCS, text=r"{title}: {{{note}}}\n{seen}")
    fill(database, target)
    expected = r"COALESCE(title, '') || ': {' || note || E'}\n' || seen"
    assert_every_vector_is_its_texts(connect, expected, rows=500)


def test_an_hnsw_index_on_the_column(connect, database):
    make_docs(connect, 500)
    connect.execute("CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops)")
    assert fill(database).updated == 500
    assert_every_vector_is_its_texts(connect, rows=500)
