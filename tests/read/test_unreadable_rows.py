"""A row on which the server's own evaluation fails is set aside by key; a fault on all rows is the user's SQL."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from tests.costs import STATEMENTS_OF_AN_UNREADABLE_ROW
from tests.tables import (
    DOCS,
    INLINE,
    MODEL,
    assert_every_vector_is_its_texts,
    counts,
    encoded,
    job_of,
    make_docs,
    ranges_of,
    reader_of,
    relation_of,
    survey_of,
    unwritten,
    writer_of,
)

import vecfill.read.partial_index
import vecfill.read.survey
from vecfill.backfill.row_report import Report
from vecfill.backfill.run import run
from vecfill.errors import ConfigError, MixedModelsError
from vecfill.postgres.database import Database
from vecfill.read.pieces import Pieces
from vecfill.table_status import status
from vecfill.vector_search import search

pytestmark = pytest.mark.slow

ROWS, BAD = 300, (3, 200)
ODD = replace(DOCS, where="1 / seen = 1")


def make_odd(connect: psycopg.Connection, rows: int, bad: str) -> None:
    """Rows that ``ODD`` selects, but for those on which it divides by zero."""
    make_docs(connect, rows)
    connect.execute(f"UPDATE docs SET seen = CASE WHEN {bad} THEN 0 ELSE 1 END")
    connect.execute("VACUUM FULL docs")


def fill(connect: psycopg.Connection, where: str) -> None:
    """Fills some rows as ``MODEL`` does."""
    connect.execute(f"ALTER TABLE docs ADD COLUMN part boolean GENERATED ALWAYS AS ({where}) STORED")
    connect.execute("CREATE TABLE kept AS SELECT * FROM docs WHERE NOT part; DELETE FROM docs WHERE NOT part")
    connect.execute("ALTER TABLE docs DROP part; ALTER TABLE kept DROP part")
    assert run(DOCS, MODEL, database=connect.info.dsn, options=INLINE).exit_code == 0
    connect.execute("INSERT INTO docs SELECT * FROM kept; DROP TABLE kept")


def break_toast(connect: psycopg.Connection) -> None:
    """Removes a part of a long title from disk."""
    connect.execute("ALTER TABLE docs ALTER title SET STORAGE EXTERNAL")
    connect.execute("UPDATE docs SET title = repeat(md5(id::text), 200) WHERE id = ANY (%s)", [[*BAD, 9]])
    toast = connect.execute("SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'docs'::regclass")
    name = toast.fetchone()[0]
    kind = "UPDATE pg_class SET relkind = %s WHERE oid = %s::regclass"
    connect.execute(kind, ["r", name])
    connect.execute(
        f"DELETE FROM {name} WHERE chunk_seq = 1 AND chunk_id IN"
        f" (SELECT chunk_id FROM {name} WHERE chunk_seq = 0 AND convert_from(chunk_data, 'UTF8') NOT LIKE %s)",
        ["45c48cce2e2d7fbdea1afc51c7c6ad26%"],  # md5('9')
    )
    connect.execute(kind, ["t", name])
    connect.execute("VACUUM docs")


KINDS = {
    "division": ("UPDATE docs SET seen = 1; UPDATE docs SET seen = 0 WHERE id IN (3, 200)", "1 / seen = 1", "22012"),
    "cast": ("UPDATE docs SET note = 5; UPDATE docs SET note = 'x' WHERE id IN (3, 200)", "note::int = 5", "22P02"),
    "function": (
        "CREATE FUNCTION odd(id bigint) RETURNS boolean LANGUAGE plpgsql AS"
        " $$ BEGIN IF id IN (3, 200) THEN RAISE 'odd'; END IF; RETURN true; END $$",
        "odd(id)",
        "P0001",
    ),
    "size": ("", "repeat('x', CASE WHEN id IN (3, 200) THEN 2147483647 ELSE 1 END) <> ''", "54000"),
    "toast": (break_toast, None, "XX001"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_unreadable_row_is_set_aside_by_key(connect, database, tmp_path, kind):
    change, where, sqlstate = KINDS[kind]
    make_docs(connect, ROWS)
    change(connect) if callable(change) else connect.execute(change or "SELECT 1")
    target = replace(DOCS, where=where)
    coverage = status(target, database=database).coverage
    assert (coverage.total, coverage.missing, coverage.filled) == (ROWS, ROWS, 0)
    for updated in (ROWS - len(BAD), 0):  # the next run reports them again, and ends
        with closing(Report(tmp_path / "rows.jsonl")) as report:
            result = run(target, MODEL, database=database, options=INLINE, report=report)
        assert (result.outcome, result.exit_code, result.sweeps) == ("quarantined", 3, 1)
        assert (result.updated, result.failed, result.remaining) == (updated, len(BAD), len(BAD))
        assert sorted(int(row.key) for row in result.quarantine) == [*BAD]
        lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
        assert sorted((int(line["key"]), line["outcome"]) for line in lines) == [(key, "failed") for key in BAD]
        assert all(f"(SQLSTATE {sqlstate})" in line["message"] for line in lines)
    assert_every_vector_is_its_texts(connect, "CASE id WHEN 3 THEN '' WHEN 200 THEN '' ELSE title END", rows=ROWS - 2)


@pytest.mark.parametrize("sqlstate", ["40001", "55P03", "57014", "57P01", "53200", "42P01", "0A000", "58030", "ABCDE"])
def test_a_row_on_which_a_function_raises_is_set_aside_whatever_the_sqlstate(connect, database, sqlstate):
    make_docs(connect, 50)
    connect.execute(
        "CREATE FUNCTION odd(id bigint) RETURNS boolean LANGUAGE plpgsql AS"
        f" $$ BEGIN IF id = 7 THEN RAISE SQLSTATE '{sqlstate}'; END IF; RETURN true; END $$"
    )
    result = run(replace(DOCS, where="odd(id)"), MODEL, database=database, options=INLINE)
    assert (result.outcome, result.exit_code, result.updated) == ("quarantined", 3, 49)
    assert [row.key for row in result.quarantine] == ["7"]


@pytest.mark.parametrize("filled", [False, True])
@pytest.mark.parametrize("bad", ["id <= 60", "id > 170", "id % 8 = 0"])
def test_many_unreadable_rows_together_are_not_all_rows(connect, database, bad, filled):
    make_odd(connect, 200, bad)
    expected = connect.execute(f"SELECT count(*) FROM docs WHERE {bad}").fetchone()[0]
    if filled:  # then no other row is open
        fill(connect, f"NOT ({bad})")
    result = run(ODD, MODEL, database=database, options=INLINE)
    assert (result.exit_code, result.failed) == (3, expected)
    assert result.updated == (0 if filled else 200 - expected)


@pytest.mark.parametrize("rows", [1, 5, 300])
@pytest.mark.parametrize("where", ["1 / seen = 1", "title::int > 0"])
def test_a_fault_on_all_rows_is_told_once_before_anything_is_written(connect, database, rows, where):
    make_docs(connect, rows)
    message = r"--where or --text fails on the rows of public\.docs: .* \(SQLSTATE 22...\): change it"
    with pytest.raises(ConfigError, match=message):
        run(replace(DOCS, where=where), MODEL, database=database, options=INLINE)
    with pytest.raises(ConfigError, match=message):
        status(replace(DOCS, where=where), database=database)


def test_a_limited_run_goes_on_behind_unreadable_rows(connect, database):
    make_odd(connect, 100, "id <= 5")
    result = run(ODD, MODEL, database=database, options=replace(INLINE, limit=3))
    assert (result.outcome, result.updated) == ("limit", 3)


def test_unreadable_rows_that_have_a_vector_are_left_alone(connect, database):
    make_odd(connect, 100, "id IN (7, 50)")
    fill(connect, "id <= 50")
    result = run(ODD, MODEL, database=database, options=INLINE)
    assert (result.outcome, result.exit_code, result.updated) == ("complete", 0, 50)
    assert (result.before.total, result.before.filled) == (100, 50)


def test_stored_vectors_are_sampled_around_unreadable_rows(connect, database):
    make_odd(connect, 100, "id IN (1, 7, 50)")
    connect.execute("UPDATE docs SET embedding = array_fill(id, ARRAY[8])::real[]::vector WHERE id <= 60")
    connect.execute("VACUUM FULL docs")
    with pytest.raises(MixedModelsError, match="of 32 sampled vectors"):
        run(ODD, MODEL, database=database, options=INLINE)


def test_a_row_that_is_unreadable_when_it_is_written_is_set_aside(connect, database):
    make_odd(connect, 100, "false")
    job = job_of(database, ODD)
    block = encoded(job)
    connect.execute("UPDATE docs SET seen = 0 WHERE id = 7")
    with closing(writer_of(job)) as write:
        result = write(block)
    assert counts(result) == {"updated": 99, "failed": 1}
    assert unwritten(result) == {"7": "failed"}


def test_a_search_goes_around_unreadable_rows(connect, database, caplog):
    make_odd(connect, 100, "id IN (7, 50)")
    fill(connect, "true")
    connect.execute("CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops)")
    found = search(ODD, MODEL, "title 50", database=database, limit=3, show=("title",))
    assert "cannot be read and are left out: 2; the first error: division by zero" in caplog.text
    nearest = connect.execute(
        "SELECT id::text, title FROM docs WHERE seen = 1"
        " ORDER BY embedding <=> (SELECT embedding FROM docs WHERE id = 50) LIMIT 3"
    )
    assert [(hit.key, *hit.values) for hit in found.hits] == nearest.fetchall()
    with pytest.raises(ConfigError, match="fails on the rows"):
        search(replace(DOCS, where="1 / (id - id) = 1"), MODEL, "title 50", database=database)


def test_a_search_shows_no_value_that_is_unreadable(connect, database):
    make_docs(connect, ROWS)
    fill(connect, "true")
    break_toast(connect)
    found = search(DOCS, MODEL, "title 200", database=database, limit=2, show=("title", "id"))
    assert (found.hits[0].key, found.hits[0].values) == ("200", (None, None))
    assert found.hits[1].values[0].startswith("title ")


def test_a_partial_index_lists_around_unreadable_rows(connect, database, monkeypatch):
    monkeypatch.setattr(vecfill.read.survey, "SMALL_PAGES", 0)
    monkeypatch.setattr(vecfill.read.partial_index, "max_listed_rows", lambda leaf: 1_000)
    make_odd(connect, 3_000, "id IN (50, 60)")
    fill(connect, "id > 100")
    connect.execute("CREATE INDEX ON docs (id) WHERE embedding IS NULL")
    for updated in (98, 0):
        result = run(ODD, MODEL, database=database, options=INLINE)
        assert (result.updated, result.failed, result.exit_code) == (updated, 2, 3)
        assert result.before.estimated


def test_a_bad_row_among_many_costs_a_few_statements(connect, database, monkeypatch):
    make_odd(connect, 20_000, "id = 13007")
    relation, statements, real = relation_of(database, ODD), [], Pieces._in_time
    monkeypatch.setattr(Pieces, "_in_time", lambda *given: statements.append(given) or real(*given))
    assert survey_of(database, relation).coverage.missing == 20_000
    assert len(statements) <= STATEMENTS_OF_AN_UNREADABLE_ROW
    units = ranges_of(database, relation)
    statements.clear()
    with closing(reader_of(Database(database), relation)) as read:
        blocks = [read(unit) for unit in units]
    assert len(statements) <= len(units) + STATEMENTS_OF_AN_UNREADABLE_ROW
    errors = [error for block in blocks for error in block["error"].to_pylist() if error]
    assert (sum(block.num_rows for block in blocks), len(errors)) == (20_000, 1)
