"""What the new column takes over from the old: properties, rules, and what its indexes have beside their definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.ledger.tracked import fill
from tests.migration.moving import (
    LOCKS,
    NEW,
    assert_schema_but_for_the_type,
    begin,
    end,
    indexes,
    move,
    searched_docs,
    swap_back,
    swap_it,
)
from tests.tables import DOCS, INLINE, assert_every_vector_is_its_texts

from vecfill import StepOptions, Target, run, run_migration, start_migration, swap_migration, track
from vecfill.errors import ConfigError

ZEROS = replace(DOCS, zero_is_missing=True)
ODD = Target(table='"Odd.Schema"."A ""table"""', column="The Vector", text="{A title}")
LONG = "i" * 58


def odd_docs(connect, database):
    """A table whose column and indexes have all that a migration is to take along."""
    zeros = f"[{','.join('0' * 8)}]"
    connect.execute(
        f"CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8) NOT NULL DEFAULT '{zeros}');"
        "INSERT INTO docs SELECT n, 'title ' || n FROM generate_series(1, 10) n;"
        "ALTER TABLE docs ALTER embedding SET STATISTICS 50, ALTER embedding SET (n_distinct = -1),"
        " ALTER embedding SET STORAGE external, ALTER embedding SET COMPRESSION pglz;"
        "COMMENT ON COLUMN docs.embedding IS 'it''s near'; GRANT SELECT (embedding) ON docs TO pg_monitor;"
        "ALTER TABLE docs ADD CONSTRAINT dims CHECK (vector_dims(embedding) = 8);"
        "COMMENT ON CONSTRAINT dims ON docs IS 'as the model';"
        f"CREATE INDEX {LONG}aaaaa ON docs USING hnsw (embedding vector_cosine_ops) WITH (m='5');"
        f"CREATE INDEX {LONG}bbbbb ON docs USING hnsw (embedding vector_l2_ops) WHERE id > 3;"
        f"COMMENT ON INDEX {LONG}bbbbb IS 'for l2'; CREATE INDEX docs_norm ON docs ((vector_norm(embedding)));"
        "ALTER INDEX docs_norm ALTER COLUMN 1 SET STATISTICS 33"
    )
    track(ZEROS, database=database)
    assert fill(database, ZEROS).updated == 10


@pytest.mark.slow
def test_the_swapped_column_has_all_that_the_old_one_had(connect, database, request):
    odd_docs(connect, database)
    step = StepOptions(locks=LOCKS)
    assert start_migration(ZEROS, NEW, database=database, step=step).not_copied == ()
    connect.execute("INSERT INTO docs VALUES (11, 'new')")
    assert move(database).filled.updated == 11
    before = indexes(connect, "embedding")
    assert len(before) == 3
    connect.execute("INSERT INTO docs VALUES (12, 'later')")
    assert fill(database, ZEROS).updated == 2
    with pytest.raises(ConfigError, match="and 1 row has no other vector"):
        end(database, yes=False)
    swap_it(database)
    swap_back(database)
    assert indexes(connect, "embedding") == before
    swap_it(database)
    end(database)
    assert fill(database, ZEROS, NEW).exit_code == 0
    assert_every_vector_is_its_texts(connect, rows=12)

    def again() -> None:
        connect.execute("DROP SCHEMA IF EXISTS vecfill CASCADE")
        odd_docs(connect, database)

    zeros = [",".join("0" * dim) for dim in (8, 16)]
    changes = (("dims(embedding) = 8", "dims(embedding) = 16"), (f"[{zeros[0]}]", f"[{zeros[1]}]"))
    assert_schema_but_for_the_type(connect, database, request.config.getoption("--pg-version"), again, changes)


def test_what_cannot_be_copied_is_named(connect, database):
    searched_docs(connect, database)
    connect.execute(
        f"ALTER TABLE docs ALTER embedding SET DEFAULT '[1{',0' * 7}]', ALTER embedding SET NOT NULL,"
        " ADD CONSTRAINT there CHECK (embedding IS NOT NULL), ADD CONSTRAINT pair CHECK (id > 0 OR embedding IS NULL);"
        "CREATE STATISTICS known ON id, (vector_dims(embedding)) FROM docs;"
        "CREATE UNIQUE INDEX once ON docs (id, part) WHERE embedding IS NOT NULL"
    )
    left = "\n".join(begin(database).not_copied)
    for one in (
        "default '[1,",
        "NOT NULL of embedding",
        "constraint there",
        "constraint pair",
        "index once is unique",
        "object known",
    ):
        assert one in left


def test_names_of_all_kinds_keep_their_capitals_spaces_and_dots(connect, database):
    connect.execute(
        'CREATE SCHEMA "Odd.Schema"; CREATE TABLE "Odd.Schema"."A ""table""" (a int, "B b" uuid DEFAULT'
        ' gen_random_uuid(), "c.c" date DEFAULT \'2020-01-01\', "A title" text, "The Vector" vector(8),'
        ' PRIMARY KEY (a, "B b", "c.c"));'
        'INSERT INTO "Odd.Schema"."A ""table""" (a, "A title") SELECT n, n::text FROM generate_series(1, 5) n;'
        'CREATE INDEX "An (index)" ON "Odd.Schema"."A ""table""" USING hnsw ("The Vector" vector_ip_ops) WHERE a > 1'
    )
    track(ODD, database=database)
    run(ODD, replace(NEW, name="hash:8"), database=database, options=INLINE)
    step = StepOptions(locks=LOCKS)
    assert start_migration(ODD, NEW, database=database, step=step).new_column == "The Vector_next"
    assert run_migration(ODD, NEW, database=database, options=INLINE).phase == "indexed"
    assert swap_migration(ODD, NEW, database=database, step=step).other == "The Vector_old"
    assert (
        connect.execute("SELECT indexdef FROM pg_indexes WHERE indexname = 'An (index)'")
        .fetchone()[0]
        .endswith('USING hnsw ("The Vector" vector_ip_ops) WHERE (a > 1)')
    )


def test_a_column_of_a_parent_and_an_index_of_another_column_are_refused(connect, database):
    connect.execute(
        "CREATE TABLE base (id int, title text, embedding vector(8));"
        "CREATE TABLE docs (PRIMARY KEY (id)) INHERITS (base)"
    )
    track(DOCS, database=database)
    fill(database)
    with pytest.raises(ConfigError, match=r"inherits column embedding from base.*NO INHERIT base first"):
        begin(database)
    connect.execute(
        "ALTER TABLE docs NO INHERIT base; CREATE INDEX docs_near ON docs USING hnsw (embedding vector_l2_ops)"
    )
    begin(database)
    connect.execute("CREATE INDEX docs_near_next ON docs (title)")
    with pytest.raises(ConfigError, match=r"docs_near_next exists, and is not on public.docs.embedding_next: rename"):
        move(database)
