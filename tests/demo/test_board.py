"""The board against a real server: its shape, and what the two statements answer."""

from __future__ import annotations

from contextlib import closing

import psycopg
import pytest

from vecfill.demo import board
from vecfill.demo.listings import load
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database
from vecfill.postgres.introspect import inspect

ROWS = 40


@pytest.fixture
def connection(database):
    with closing(Database(database).connect()) as connection:
        yield connection


@pytest.fixture
def built(connection):
    board.build(connection, load(ROWS))
    return connection


def contents(connection):
    return connection.execute("SELECT id, title, company, department, location FROM jobs ORDER BY id").fetchall()


def test_every_listing_is_a_row(built):
    expected = sorted((one.id, one.title, one.company, one.department, one.location) for one in load(ROWS))
    assert contents(built) == expected


def test_it_has_the_shape_of_the_table_that_failed(built):
    relation = inspect(built, board.TARGET)
    assert [column.name for column in relation.table.key] == ["id"]
    assert (relation.table.label, relation.table.vector.kind, relation.table.vector.dim) == (
        "public.jobs",
        "vector",
        384,
    )
    query = "SELECT attname::text FROM pg_attribute WHERE attrelid = 'jobs'::regclass AND attnum > 0 AND attnotnull"
    assert {name for (name,) in built.execute(query)} == {"id", "title", "company", "updated_at"}


def test_it_is_the_same_when_it_is_made_anew(built):
    before = contents(built)
    built.execute("UPDATE jobs SET title = 'changed'")
    board.build(built, load(ROWS))
    assert contents(built) == before


def fill_one(connection):
    connection.execute(
        "UPDATE jobs SET embedding = array_fill(0.5, ARRAY[384])::vector WHERE id = (SELECT id FROM jobs LIMIT 1)"
    )


def whole(connection):
    return connection.execute("SELECT id, xmin, updated_at, embedding::text FROM jobs ORDER BY id").fetchall()


def test_the_upsert_fails_on_a_row_that_is_there(built):
    fill_one(built)
    answer = board.attempt(built, board.UPSERT)
    assert answer.sqlstate == psycopg.errors.NotNullViolation.sqlstate == "23502"
    assert 'null value in column "title"' in answer.answer
    assert "ON CONFLICT (id) DO UPDATE" in answer.statement
    assert "$" not in answer.statement


def test_the_update_does_not(built):
    fill_one(built)
    answer = board.attempt(built, board.UPDATE)
    assert (answer.answer, answer.sqlstate) == ("UPDATE 1", None)


@pytest.mark.parametrize("statement", [board.UPSERT, board.UPDATE])
def test_an_attempt_changes_nothing(built, statement):
    fill_one(built)
    before = whole(built)
    board.attempt(built, statement)
    assert whole(built) == before


def test_an_attempt_takes_a_row_without_a_vector(built):
    fill_one(built)
    filled = built.execute("SELECT id FROM jobs WHERE embedding IS NOT NULL").fetchone()[0]
    assert str(filled) not in board.attempt(built, board.UPDATE).statement


def test_a_table_that_something_hangs_on_is_kept(built):
    built.execute("CREATE VIEW mine AS SELECT title FROM jobs")
    with pytest.raises(ConfigError, match=r"view mine depends on table jobs"):
        board.build(built, load(1))
    assert len(contents(built)) == ROWS


def test_a_table_of_the_users_own_is_kept(connection):
    connection.execute("CREATE TABLE jobs (title text)")
    with pytest.raises(ConfigError, match="rename it"):
        board.build(connection, load(1))
    assert connection.execute("SELECT count(*) FROM jobs").fetchone() == (0,)


def test_a_table_in_use_is_kept(built, database, monkeypatch):
    monkeypatch.setattr(board, "_LOCK_TIMEOUT", "50ms")
    with closing(Database(database).connect()) as other, other.transaction():
        other.execute("SELECT FROM jobs")
        with pytest.raises(ConfigError, match="55P03"):
            board.build(built, load(1))
    assert len(contents(built)) == ROWS


def test_one_demo_at_a_time(built, database):
    board.claim(built)
    with closing(Database(database).connect()) as other, pytest.raises(ConfigError, match="another demo"):
        board.claim(other)


def test_versions(connection):
    for version in board.versions(connection):
        assert version.replace(".", "").isdigit()
