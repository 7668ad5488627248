"""Servers that are too old, and what a run warns of."""

from __future__ import annotations

from contextlib import closing

import pytest
from tests.tables import DOCS, INLINE, MODEL, make_docs

from vecfill.backfill.run import run
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database
from vecfill.postgres.introspect import inspect
from vecfill.postgres.known_problems import known_problems
from vecfill.postgres.server import check_versions


@pytest.fixture
def lines(connect, database):
    """What there is to say of docs, as of now."""

    def lines():
        with closing(Database(database).connect()) as connection:
            return [str(one) for one in known_problems(connection, inspect(connection, DOCS))]

    return lines


def pretend(connect, version):
    connect.execute("UPDATE pg_extension SET extversion = %s WHERE extname = 'vector'", [version])


@pytest.mark.parametrize(
    ("server", "pgvector"), [(140000, "0.5.0"), (180001, "0.8.4"), (160010, None), (190000, "1.0")]
)
def test_servers_that_serve(server, pgvector):
    check_versions(server, pgvector)


@pytest.mark.parametrize(
    ("server", "pgvector", "says"),
    [
        (130022, "0.8.4", "the server is PostgreSQL 13: 14 or newer is needed"),
        (160000, "0.4.4", r"pgvector is at version 0\.4\.4: 0\.5 or newer is needed: install it, then run ALTER "),
        (160000, "0.4.4-dev", r"pgvector is at version 0\.4\.4-dev"),
    ],
)
def test_servers_that_are_too_old(server, pgvector, says):
    with pytest.raises(ConfigError, match=says):
        check_versions(server, pgvector)


def test_an_old_pgvector_is_refused_before_anything_is_read(connect, database):
    make_docs(connect, 3)
    pretend(connect, "0.4.4")
    with (
        closing(Database(database).connect()) as connection,
        pytest.raises(ConfigError, match="pgvector is at version"),
    ):
        inspect(connection, DOCS)


def test_an_ordinary_table_needs_no_word(connect, lines):
    make_docs(connect, 3)
    connect.execute("CREATE INDEX ON docs (title); CREATE INDEX ON docs (id) WHERE embedding IS NULL")
    pretend(connect, "0.8.1")
    assert lines() == []


@pytest.mark.parametrize("on", ["embedding vector_l2_ops", "(embedding::halfvec(8)) halfvec_cosine_ops"])
def test_known_bugs_matter_where_there_is_an_hnsw_index_on_the_column(connect, lines, on):
    make_docs(connect, 3)
    connect.execute(f"CREATE INDEX near ON docs USING hnsw ({on})")
    pretend(connect, "0.8.3")
    (line,) = lines()
    assert line.startswith("pgvector 0.8.3 has bugs that can damage HNSW indexes (near)")
    pretend(connect, "0.8.4")
    assert lines() == []
    pretend(connect, "0.10.0")
    assert lines() == []


def test_indexes_of_other_columns_and_methods_do_not_matter(connect, lines):
    make_docs(connect, 3)
    connect.execute("ALTER TABLE docs ADD other vector(8); CREATE INDEX ON docs USING hnsw (other vector_l2_ops)")
    connect.execute("CREATE INDEX ON docs USING ivfflat (embedding vector_l2_ops) WITH (lists = 1)")
    pretend(connect, "0.8.1")
    assert lines() == []


def test_an_invalid_index_of_a_partition_is_named(connect, lines):
    connect.execute(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8)) PARTITION BY RANGE (id);"
        "CREATE TABLE docs_0 PARTITION OF docs DEFAULT;"
        "CREATE INDEX broken ON docs_0 USING ivfflat (embedding vector_l2_ops) WITH (lists = 1);"
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass"
    )
    (line,) = lines()
    assert line.startswith("index broken on embedding is INVALID")


def test_children_that_are_left_out_are_said_by_a_run(connect, database, caplog):
    make_docs(connect, 3)
    connect.execute("CREATE TABLE archive () INHERITS (docs); INSERT INTO archive SELECT * FROM docs")
    result = run(DOCS, MODEL, database=database, options=INLINE)
    said = [record.message for record in caplog.records if "inherit" in record.message]
    assert said == ["skipping tables that inherit from public.docs: public.archive: start a separate run for each"]
    assert (result.updated, result.after.total) == (3, 3)
    assert connect.execute("SELECT count(embedding) FROM ONLY archive").fetchone() == (0,)
