"""A migration whose application moves to the new column: each phase, and what each leaves behind."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.ledger.tracked import assert_current, fill
from tests.migration.moving import (
    LOCKS,
    NEW,
    NEXT,
    assert_schema_but_for_the_type,
    begin,
    end,
    give_up,
    indexes,
    move,
    phases,
    schema,
    searched_docs,
)
from tests.tables import DOCS, INLINE, assert_every_vector_is_its_texts

from vecfill import track, untrack
from vecfill.config.migrate import MigrateOptions
from vecfill.config.model import Model
from vecfill.errors import ConfigError
from vecfill.migration import start_forecast
from vecfill.migration.fill import run_migration
from vecfill.migration.start import start_migration
from vecfill.migration.state import migration_status
from vecfill.migration.step_options import StepOptions

pytestmark = pytest.mark.slow  # whole migrations

by_kind = pytest.mark.parametrize("partitioned", [False, True], ids=["plain", "partitioned"])


@by_kind
def test_the_new_column_is_filled_indexed_and_kept_fresh_beside_the_old(connect, database, partitioned):
    searched_docs(connect, database, partitioned=partitioned)
    began = begin(database)
    assert (began.new_column, began.type, began.created) == ("embedding_next", "vector(16)", True)
    connect.execute("UPDATE docs SET title = 'edited' WHERE id = 3; INSERT INTO docs VALUES (99, 1, 'new')")
    moved = move(database)
    assert (moved.exit_code, moved.phase, moved.filled.updated) == (0, "indexed", 21)
    assert phases(connect) == ["started", "filled", "indexed"]
    twins = indexes(connect, "embedding_next")
    old = indexes(connect, "embedding")
    assert len(twins) == len(old) == (6 if partitioned else 2)
    assert all(valid for _, valid in twins.values())
    assert {definition for definition, _ in twins.values()} == {
        definition.replace("embedding", "embedding_next") for definition, _ in old.values()
    }
    connect.execute("UPDATE docs SET title = 'again' WHERE id = 4; DELETE FROM docs WHERE id = 5")
    assert fill(database).updated == 3
    assert fill(database, NEXT, NEW).updated == 1
    assert_current(connect)
    connect.execute("ALTER TABLE docs RENAME embedding TO old; ALTER TABLE docs RENAME embedding_next TO embedding")
    assert_every_vector_is_its_texts(connect, rows=20)


@pytest.mark.slow
@by_kind
def test_abandon_leaves_the_schema_as_it_was_and_finish_but_for_the_new_column(connect, database, partitioned, request):
    version = request.config.getoption("--pg-version")
    searched_docs(connect, database, partitioned=partitioned)
    before = schema(database, version)
    begin(database)
    give_up(database)
    assert schema(database, version) == before
    begin(database)
    move(database)
    assert give_up(database).done
    assert schema(database, version) == before
    assert not give_up(database).done
    begin(database)
    move(database)
    assert end(database).done
    assert not end(database).done
    assert fill(database, NEXT, NEW).exit_code == 0
    connect.execute("ALTER TABLE docs RENAME embedding_next TO embedding")
    for name in indexes(connect, "embedding"):
        connect.execute(f"ALTER INDEX {name} RENAME TO {name.removesuffix('_next')}")
    connect.execute("UPDATE vecfill.target SET embedding = 'embedding'")
    assert_schema_but_for_the_type(
        connect, database, version, lambda: searched_docs(connect, database, partitioned=partitioned)
    )


def test_each_step_can_be_repeated(connect, database):
    searched_docs(connect, database)
    assert begin(database).created
    assert not begin(database).created
    move(database)
    again = move(database)
    assert (again.filled.updated, again.drained, again.phase) == (0, None, "indexed")
    assert [index.built for index in again.indexes] == [False, False]
    assert phases(connect) == ["started", "filled", "indexed"]


def test_an_index_that_a_failed_build_left_is_built_again(connect, database, caplog):
    searched_docs(connect, database)
    begin(database)
    move(database)
    connect.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_near_next'::regclass")
    assert [index.state for index in migration_status(DOCS, database=database).indexes] == ["ready", "invalid"]
    assert [index.name for index in move(database).indexes if index.built] == ["docs_near_next"]
    assert "docs_near_next is INVALID" in caplog.text
    assert [index.state for index in migration_status(DOCS, database=database).indexes] == ["ready", "ready"]


def test_status_tells_the_phase_and_the_next_step(connect, database):
    searched_docs(connect, database)
    with pytest.raises(ConfigError, match=r"no migration of public.docs.embedding has been started"):
        migration_status(DOCS, database=database)
    begin(database)
    found = migration_status(DOCS, database=database)
    assert (found.phase, found.model, found.coverage.coverage.missing) == ("started", "hash:16", 20)
    assert "vecfill migrate run" in found.next
    assert {index.state for index in found.indexes} == {"missing"}
    move(database)
    found = migration_status(NEXT, database=database)
    assert (found.phase, found.coverage.coverage.missing) == ("indexed", 0)
    assert "move the application" in found.next
    connect.execute("UPDATE docs SET title = 'edited' WHERE id = 3")
    assert "behind their texts" in migration_status(DOCS, database=database).next
    give_up(database)
    assert migration_status(DOCS, database=database).phase == "abandoned"


def test_what_cannot_work_is_refused_and_changes_nothing(connect, database):
    searched_docs(connect, database)
    with pytest.raises(ConfigError, match=r"no migration of public.docs.embedding has been started"):
        move(database)
    connect.execute("ALTER TABLE docs ADD COLUMN embedding_next text")
    with pytest.raises(ConfigError, match=r"--to-column embedding_next: public.docs has a column of this name"):
        begin(database)
    connect.execute("ALTER TABLE docs DROP COLUMN embedding_next")
    track(replace(DOCS, where="id > 0"), database=database)
    with pytest.raises(ConfigError, match=r"tracked with several conditions, also --where 'id > 0'"):
        begin(database)
    untrack(replace(DOCS, where="id > 0"), database=database)
    begin(database)
    with pytest.raises(ConfigError, match=r"is being migrated to hash:16, and this is hash:32"):
        start_migration(DOCS, Model(name="hash:32"), database=database)
    for wrong in ({"to_column": "other"}, {"to_type": "halfvec"}):
        with pytest.raises(ConfigError, match=r"--to-.*was started with (embedding_next|vector): leave"):
            start_migration(DOCS, Model(name="hash:16"), database=database, options=MigrateOptions(**wrong))
    for target in (DOCS, NEXT):
        with pytest.raises(ConfigError, match=r"a migration from column embedding to embedding_next is in progress"):
            untrack(target, database=database)
    with pytest.raises(ConfigError, match=r"is not complete yet: the migration is started"):
        end(database)
    move(database)
    connect.execute("CREATE VIEW shown AS SELECT id, embedding FROM docs")
    with pytest.raises(ConfigError, match=r"these use public.docs.embedding, .*: view shown: DROP VIEW shown"):
        end(database)
    assert phases(connect) == ["started", "filled", "indexed"]
    connect.execute("DROP VIEW shown; UPDATE docs SET embedding_next = NULL WHERE id = 2")
    with pytest.raises(ConfigError, match=r"embedding will be dropped .*, and 1 row has no other vector"):
        end(database, yes=False)
    with pytest.raises(ConfigError, match=r"refusing to start: public.docs.embedding_next will be dropped"):
        give_up(database, yes=False)


def test_storage_comment_and_rights_are_those_of_the_old_column(connect, database):
    searched_docs(connect, database)
    connect.execute(
        "ALTER TABLE docs ALTER embedding SET STORAGE plain; COMMENT ON COLUMN docs.embedding IS 'near';"
        "GRANT SELECT (embedding), UPDATE (embedding) ON docs TO pg_monitor; GRANT SELECT ON vecfill.vector_1 TO public"
    )
    begin(database)
    rows = connect.execute(
        "SELECT attstorage, col_description(attrelid, attnum), attacl FROM pg_attribute"
        " WHERE attrelid = 'docs'::regclass AND attname LIKE 'embedding%'"
    ).fetchall()
    assert rows[0] == rows[1]
    assert rows[1][:2] == ("p", "near")
    assert connect.execute("SELECT has_table_privilege('pg_monitor', 'vecfill.vector_2', 'SELECT')").fetchone()[0]


def test_a_column_that_other_objects_use_is_told_by_its_users(connect, database):
    searched_docs(connect, database)
    connect.execute(
        "CREATE VIEW shown AS SELECT id, embedding FROM docs; CREATE POLICY p ON docs USING (embedding IS NOT NULL);"
        "ALTER TABLE docs ADD size int GENERATED ALWAYS AS (vector_dims(embedding)) STORED;"
        "CREATE FUNCTION f() RETURNS bigint BEGIN ATOMIC SELECT count(embedding) FROM docs; END;"
        "CREATE TRIGGER t AFTER UPDATE OF embedding ON docs FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger();"
        "ALTER TABLE docs ADD CHECK (vector_dims(embedding) = 8)"
    )
    found = {(one.kind, one.name) for one in begin(database).obstacles}
    assert {kind for kind, _ in found} == {"view", "policy", "generated column", "function", "trigger"}
    assert ("view", "shown") in found


def test_start_says_what_it_costs_and_what_the_server_does_not_tell(connect, database, caplog, monkeypatch):
    caplog.set_level("INFO", "vecfill")
    searched_docs(connect, database)
    connect.execute(
        "ANALYZE docs; CREATE FUNCTION uses() RETURNS bigint LANGUAGE sql AS 'SELECT count(embedding) FROM docs';"
        "CREATE FUNCTION does_not() RETURNS bigint LANGUAGE sql AS 'SELECT count(id) AS embedding_x FROM docs'"
    )
    said = start_migration(DOCS, NEW, database=database, step=StepOptions(dry_run=True))
    assert said.functions == ("uses()",)
    cost = said.forecast
    assert (cost.rows, cost.tablespace, cost.build_memory > 0) == (20, "pg_default", True)
    assert 0 < cost.table_bytes < cost.wal_bytes
    monkeypatch.setattr(start_forecast, "_free", lambda _: 1)
    with pytest.raises(ConfigError, match=r"the migration takes about .*, and 0.0 kB are free"):
        start_migration(DOCS, NEW, database=database)
    monkeypatch.setattr(start_forecast, "_free", lambda _: None)
    assert start_migration(DOCS, NEW, database=database).created
    assert "free disk in tablespace pg_default is unknown, since the server does not tell" in caplog.text
    assert "in the server's /dev/shm, whose size it does not tell" in caplog.text


def test_a_ledger_of_the_version_before_gets_its_tables(connect, database):
    searched_docs(connect, database)
    connect.execute(
        "DROP TABLE vecfill.migration_phase, vecfill.migration; DROP FUNCTION vecfill.active_model;"
        "ALTER TABLE vecfill.target DROP COLUMN waiting_indexes;"
        "UPDATE vecfill.ledger SET version = 1"
    )
    assert fill(database).exit_code == 0
    assert begin(database).created
    assert connect.execute("SELECT version FROM vecfill.ledger").fetchone() == (3,)
    assert phases(connect) == ["started"]


def test_a_build_without_enough_shared_memory_is_serial(connect, database, caplog):
    """The server's own error, raised by an event trigger: a small /dev/shm cannot be had here."""
    searched_docs(connect, database)
    connect.execute(
        "CREATE FUNCTION small() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " IF current_setting('max_parallel_maintenance_workers') <> '0' THEN RAISE SQLSTATE '53100'"
        " USING MESSAGE = 'could not resize shared memory segment: No space left on device'; END IF; END $$;"
        "CREATE EVENT TRIGGER small ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION small()"
    )
    begin(database)
    moved = move(database)
    assert (moved.phase, [index.serial for index in moved.indexes]) == ("indexed", [True, True])
    assert "shared memory is too small for parallel workers" in caplog.text
    connect.execute("DROP EVENT TRIGGER small")


def test_the_command_line_goes_through_all_of_it(connect, database, vecfill):
    searched_docs(connect, database)
    table = ("-d", database, "-t", "docs")
    shown = vecfill("migrate", "start", *table, "-m", "hash:16", "--dry-run").out
    assert 'ADD COLUMN "embedding_next" "public"."vector"(16);' in shown
    assert "-- CREATE INDEX CONCURRENTLY" in shown
    assert "beside embedding, and is tracked" in vecfill("migrate", "start", *table, "-m", "hash:16").out
    shown = vecfill("migrate", "run", *table, "-m", "hash:16", "--dry-run").out
    assert 'CREATE INDEX CONCURRENTLY "docs_near_next" ON public.docs USING hnsw' in shown
    ran = vecfill("migrate", "run", *table, "-m", "hash:16", "--engine", "inline", "--quiet", "--json", "--yes")
    assert (ran.code, ran.json["phase"], ran.json["filled"]["updated"]) == (0, "indexed", 20)
    assert vecfill("migrate", "run", *table, "-m", "hash:16", "--dry-run").out == ""
    assert vecfill("migrate", "status", *table, "--json").json["phase"] == "indexed"
    assert "index docs_near_next on public.docs: ready" in vecfill("migrate", "status", *table).out
    shown = vecfill("migrate", "swap", *table, "-m", "hash:16", "--dry-run")
    assert 'RENAME COLUMN "embedding_next" TO "embedding";' in shown.out
    assert "embedding carries the new vectors" in vecfill("migrate", "swap", *table, "-m", "hash:16").out
    connect.execute("UPDATE docs SET title = 'edited' WHERE id = 3")
    back = vecfill("migrate", "rollback", *table)
    assert "embedding carries the old vectors, embedding_next the others" in back.out
    assert "1 row changed since the swap, and the old vector is of an earlier text" in back.out
    refused = vecfill("migrate", "finish", *table)
    assert (refused.code, refused.out) == (2, "")
    assert "public.docs.embedding will be dropped with its vectors" in refused.err
    assert (
        "column embedding is gone, and embedding_next is tracked" in vecfill("migrate", "finish", *table, "--yes").out
    )
    assert vecfill("migrate", "run", *table, "-m", "hash:16").code == 2


def test_a_vector_that_is_too_long_for_an_index_is_indexed_as_halfvec(connect, database):
    searched_docs(connect, database)
    connect.execute("CREATE INDEX docs_half ON docs USING hnsw ((embedding::halfvec(8)) halfvec_l2_ops)")
    start_migration(DOCS, Model(name="hash:2001"), database=database)
    moved = run_migration(DOCS, Model(name="hash:2001"), database=database, options=INLINE, locks=LOCKS)
    assert moved.phase == "indexed"
    assert {definition for definition, _ in indexes(connect, "embedding_next").values()} == {
        "hnsw (((embedding_next)::halfvec(2001)) halfvec_cosine_ops) WITH (m='4')",
        "hnsw (((embedding_next)::halfvec(2001)) halfvec_l2_ops)",
        "btree (id) WHERE (embedding_next IS NULL)",
    }
