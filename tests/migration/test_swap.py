"""A migration whose application keeps its queries: the columns exchange their names, and back."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest
from tests.encode.api.server import DIM, serving
from tests.ledger.tracked import assert_current, fill
from tests.migration.moving import (
    LOCKS,
    NEW,
    active,
    assert_schema_but_for_the_type,
    begin,
    end,
    give_up,
    indexes,
    move,
    phases,
    searched_docs,
    swap_back,
    swap_it,
)
from tests.tables import DOCS, MODEL, another, assert_every_vector_is_its_texts, meanwhile, wait_until

from vecfill.backfill import drain
from vecfill.config.api import ApiOptions
from vecfill.config.migrate import LockOptions
from vecfill.config.model import Model
from vecfill.errors import ConfigError, TableLockedError
from vecfill.migration.cutover import QueuedError
from vecfill.migration.obstacles import obstacles_of
from vecfill.migration.start import start_migration
from vecfill.migration.state import migration_status
from vecfill.migration.step_options import StepOptions
from vecfill.postgres.database import Database
from vecfill.postgres.introspect import inspect

pytestmark = pytest.mark.slow  # whole migrations

OLD = replace(DOCS, column="embedding_old")

by_kind = pytest.mark.parametrize("partitioned", [False, True], ids=["plain", "partitioned"])


def moved_docs(connect, database, **more):
    searched_docs(connect, database, **more)
    begin(database)
    move(database)


@by_kind
def test_a_swap_gives_the_application_s_column_the_new_vectors_and_a_rollback_the_old(connect, database, partitioned):
    moved_docs(connect, database, partitioned=partitioned)
    before, twins = indexes(connect, "embedding"), indexes(connect, "embedding_next")
    assert active(connect) == ("hash:8", None, 8)
    connect.execute("UPDATE docs SET title = 'queued' WHERE id = 3")
    swapped = swap_it(database)
    assert (swapped.phase, swapped.column, swapped.other, swapped.done) == (
        "swapped",
        "embedding",
        "embedding_old",
        True,
    )
    assert not swap_it(database).done
    assert active(connect) == ("hash:16", None, 16)
    assert active(connect, "embedding_old") == ("hash:8", None, 8)
    assert_every_vector_is_its_texts(connect, rows=20)
    assert connect.execute("SELECT vector_dims(embedding) FROM docs LIMIT 1").fetchone() == (16,)
    assert indexes(connect, "embedding") == before
    assert set(indexes(connect, "embedding_old")) == {f"{name}_old" for name in before}
    assert "queries of embedding must come from hash:16" in migration_status(DOCS, database=database).next
    connect.execute("UPDATE docs SET title = 'after' WHERE id = 4")
    with pytest.raises(ConfigError, match=r"is vector\(16\) but model hash:8 gives 8"):
        fill(database)
    assert fill(database, DOCS, NEW).updated == 1
    back = swap_back(database)
    assert (back.phase, back.behind) == ("rolled back", ("3, 2", "4, 1"))
    assert not swap_back(database).done
    assert active(connect) == ("hash:8", None, 8)
    assert (indexes(connect, "embedding"), indexes(connect, "embedding_next")) == (before, twins)
    assert fill(database).updated == 2
    assert_current(connect)
    assert swap_it(database).done
    connect.execute("UPDATE docs SET title = 'again' WHERE id = 5")
    assert swap_back(database, MODEL, refresh=True).behind == ()
    assert_current(connect)
    assert phases(connect)[3:] == ["swapped", "rolled back", "swapped", "rolled back"]


@pytest.mark.slow
@by_kind
def test_after_swap_and_finish_the_schema_is_as_it_was_but_for_the_type(connect, database, partitioned, request):
    version = request.config.getoption("--pg-version")
    moved_docs(connect, database, partitioned=partitioned)
    swap_it(database)
    with pytest.raises(ConfigError, match=r"was swapped, and the application uses embedding: run .*rollback"):
        give_up(database)
    with pytest.raises(ConfigError, match=r"was swapped"):
        move(database)
    assert end(database).dropped == "embedding_old"
    assert fill(database, DOCS, NEW).exit_code == 0
    assert_schema_but_for_the_type(
        connect, database, version, lambda: searched_docs(connect, database, partitioned=partitioned)
    )


def test_what_goes_by_the_number_of_the_column_is_refused_with_what_mends_it(connect, database):
    connect.execute("CREATE ROLE someone")
    try:
        moved_docs(connect, database)
        connect.execute(
            "CREATE VIEW shown WITH (security_barrier=true) AS SELECT id, embedding FROM docs;"
            "ALTER VIEW shown OWNER TO someone; GRANT SELECT ON shown TO pg_monitor; COMMENT ON VIEW shown IS 'it''s';"
            "CREATE POLICY p ON docs FOR SELECT TO pg_monitor USING (embedding IS NOT NULL);"
        )
        with pytest.raises(ConfigError, match=r"policy p on docs: DROP POLICY p ON docs; and afterwards CREATE"):
            swap_it(database, views="recreate")
        connect.execute("DROP POLICY p ON docs")
        with pytest.raises(ConfigError, match=r"view shown: DROP VIEW shown; and afterwards CREATE VIEW shown WITH"):
            swap_it(database)
        assert phases(connect)[-1] == "indexed"
        looks = (
            "SELECT relowner::regrole::text, relacl::text, reloptions, obj_description(oid), pg_get_viewdef(oid)"
            " FROM pg_class WHERE relname = 'shown'"
        )
        before = connect.execute(looks).fetchone()
        swap_it(database, views="recreate")
        assert connect.execute(looks).fetchone() == before
        connect.execute("GRANT SELECT ON docs TO someone")
        assert connect.execute("SELECT vector_dims(embedding) FROM shown LIMIT 1").fetchone() == (16,)
        with pytest.raises(ConfigError, match=r"view shown: DROP VIEW shown"):
            swap_back(database)
        swap_back(database, views="recreate")
        assert connect.execute("SELECT vector_dims(embedding) FROM shown LIMIT 1").fetchone() == (8,)
    finally:
        connect.execute("DROP OWNED BY someone; DROP ROLE someone")


def test_every_kind_of_object_is_made_again_by_the_statements_of_the_refusal(connect, database):
    moved_docs(connect, database)
    connect.execute(
        "CREATE MATERIALIZED VIEW kept AS SELECT id, embedding FROM docs;"
        "ALTER TABLE docs ADD size int GENERATED ALWAYS AS (vector_dims(embedding)) STORED;"
        "CREATE FUNCTION f() RETURNS bigint BEGIN ATOMIC SELECT count(embedding) FROM docs; END;"
        "CREATE RULE r AS ON DELETE TO docs WHERE OLD.embedding IS NULL DO INSTEAD NOTHING;"
        "CREATE TRIGGER t AFTER UPDATE OF embedding ON docs FOR EACH ROW"
        " EXECUTE FUNCTION suppress_redundant_updates_trigger();"
    )
    if connect.info.server_version >= 150_000:
        connect.execute("CREATE PUBLICATION part FOR TABLE docs (id, part, embedding)")
    obstacles = migration_status(DOCS, database=database).obstacles
    kinds = {"materialized view", "generated column", "function", "rule", "trigger", "publication with a column list"}
    assert {one.kind for one in obstacles} >= kinds - (
        {"publication with a column list"} if len(obstacles) < 6 else set()
    )
    for one in obstacles:
        connect.execute(one.before)
    swap_it(database)
    for one in obstacles:
        for statement in one.after:
            connect.execute(statement)
    assert {(one.kind, one.name) for one in obstacles} == _of_column(database, "embedding")


def _of_column(database, column):
    with closing(Database(database).connect()) as own:
        relation = inspect(own, replace(DOCS, column=column))
        return {(one.kind, one.name) for one in obstacles_of(own, relation)}


def test_a_swap_is_refused_where_it_would_lose_something(connect, database):
    moved_docs(connect, database)
    connect.execute("ALTER TABLE docs ALTER embedding SET NOT NULL")
    with pytest.raises(ConfigError, match=r"is NOT NULL.*ALTER COLUMN \"embedding\" DROP NOT NULL"):
        swap_it(database)
    connect.execute("ALTER TABLE docs ALTER embedding DROP NOT NULL; ALTER INDEX docs_near_next RENAME TO other")
    with pytest.raises(ConfigError, match=r"index docs_near_next is not ready"):
        swap_it(database)
    connect.execute("ALTER INDEX other RENAME TO docs_near_next; CREATE INDEX docs_near_old ON docs (title)")
    with pytest.raises(ConfigError, match=r"index docs_near is to be named docs_near_old, which exists: rename it"):
        swap_it(database)
    connect.execute("DROP INDEX docs_near_old")
    connect.execute(f"UPDATE docs SET title = '', embedding = '[1{',0' * 7}]' WHERE id = 7")
    connect.execute("UPDATE docs SET embedding_next = NULL WHERE id = 7")
    with pytest.raises(ConfigError, match=r"refusing to start: 1 row has a vector of the old model"):
        swap_it(database)
    assert "RENAME COLUMN" in swap_it(database, dry_run=True).ddl[0]
    assert phases(connect)[-1] == "indexed"


def test_a_long_transaction_delays_the_swap_and_not_the_application(connect, database):
    moved_docs(connect, database)
    done_by_the_application = []

    def application(done: threading.Event) -> None:
        with psycopg.connect(database, autocommit=True) as session:
            while not done.wait(0.01):
                session.execute("SELECT count(*) FROM docs")
                done_by_the_application.append(True)

    with another(database) as reader, meanwhile(application):
        reader.execute("SELECT FROM docs LIMIT 1")

        def let_go(_: threading.Event) -> None:
            query = (
                "SELECT 1 FROM pg_locks WHERE relation = 'docs'::regclass AND mode = 'AccessExclusiveLock'"
                " AND NOT granted"
            )
            for _attempt in range(2):  # each gives way by itself, and whoever queued behind it goes on
                wait_until(lambda: connect.execute(query).fetchone())
                before = len(done_by_the_application)
                wait_until(lambda: not connect.execute(query).fetchone())
                wait_until(lambda before=before: len(done_by_the_application) > before + 1)
            reader.rollback()

        with meanwhile(let_go):
            assert swap_it(database, locks=replace(LOCKS, lock_wait=60)).done
    assert phases(connect)[-1] == "swapped"


@pytest.mark.parametrize("empty", [False, True], ids=["its text is older", "it would lose its vector"])
def test_a_swap_waits_for_a_row_that_a_transaction_holds(connect, database, monkeypatch, empty):
    """The run that embeds what is queued leaves such a row, and the swap tries again."""
    monkeypatch.setattr(drain, "PAUSE_S", 0.0)
    moved_docs(connect, database)
    connect.execute("UPDATE docs SET title = 'queued' WHERE id = 3")
    if empty:
        connect.execute("UPDATE docs SET embedding_next = NULL WHERE id = 3")
    with another(database) as holder:
        holder.execute("SELECT FROM docs WHERE id = 3 FOR UPDATE")
        kind, says = (QueuedError, "the last run was incomplete") if empty else (TableLockedError, "locked within 1 s")
        with pytest.raises(kind, match=says):
            swap_it(database, locks=replace(LOCKS, lock_wait=1))

        def let_go(done: threading.Event) -> None:
            done.wait(1)
            holder.rollback()

        with meanwhile(let_go):
            assert swap_it(database, locks=replace(LOCKS, lock_wait=60)).done
    assert_current(connect)


def test_a_swap_whose_model_has_no_budget_left_ends_at_once(connect, database):
    """Each further attempt would spend as much again."""
    with serving() as api:
        model = Model(name="openai:test", api=ApiOptions(base_url=api.url, request_inputs=1))
        searched_docs(connect, database)
        step = StepOptions(locks=LOCKS, yes=True)
        start_migration(replace(DOCS, dim=DIM), model, database=database, step=step)
        move(database, model)
        connect.execute("UPDATE docs SET title = 'queued ' || id WHERE id <= 3")
        sent = api.seen.requests
        short = replace(model, api=replace(model.api, max_requests=2))
        with pytest.raises(ConfigError, match=r"the last run was incomplete \(--max-requests 2 is reached"):
            swap_it(database, short, locks=replace(LOCKS, lock_wait=60))
        assert api.seen.requests == sent + 2
        assert swap_it(database, model).done
    assert_current(connect)


def test_what_was_prepared_before_a_swap_fails_only_where_it_was_foretold(connect, database, caplog):
    moved_docs(connect, database)
    caplog.set_level("INFO", "vecfill")
    connect.execute(
        "PREPARE whole AS SELECT embedding FROM docs; PREPARE text AS SELECT embedding::text FROM docs;"
        "PREPARE edit AS UPDATE docs SET title = title WHERE id = 1; EXECUTE whole; EXECUTE text; EXECUTE edit"
    )
    swap_it(database)
    assert "that return embedding itself, fail with SQLSTATE 0A000 until they are prepared again" in caplog.text
    connect.execute("EXECUTE text")
    connect.execute("EXECUTE edit")
    with pytest.raises(psycopg.errors.FeatureNotSupported):
        connect.execute("EXECUTE whole")


def test_a_file_says_when(connect, database, tmp_path, caplog):
    moved_docs(connect, database)
    caplog.set_level("INFO", "vecfill")
    file = tmp_path / "now"

    def touch(_: threading.Event) -> None:
        wait_until(lambda: f"waiting for file {file}" in caplog.text)
        assert phases(connect)[-1] == "indexed"
        file.touch()

    with meanwhile(touch):
        assert swap_it(database, after=file).done


def test_active_model_holds_the_swap_until_the_transaction_ends(connect, database):
    moved_docs(connect, database)
    with another(database) as reader:
        reader.execute("SELECT * FROM vecfill.active_model('docs')")
        with pytest.raises(TableLockedError, match=r"\(process \d+: .*, idle in transaction\): nothing was changed"):
            swap_it(database)
    assert swap_it(database).done


def test_nobody_who_writes_queues_behind_a_step_that_waits_for_autovacuum(connect, database):
    """The lock that VACUUM holds stands in for autovacuum, which would give way after ``deadlock_timeout``."""
    moved_docs(connect, database)
    query = (
        "SELECT count(*) FROM pg_locks WHERE relation = 'docs'::regclass AND NOT granted"
        " AND mode = 'ShareUpdateExclusiveLock'"
    )
    with another(database) as vacuum:
        vacuum.execute("LOCK TABLE docs IN SHARE UPDATE EXCLUSIVE MODE")

        def write(_: threading.Event) -> None:
            wait_until(lambda: connect.execute(query).fetchone() == (1,))
            connect.execute("UPDATE docs SET title = title")
            vacuum.rollback()

        with meanwhile(write):
            assert swap_it(database, locks=LockOptions(lock_timeout=0.1, lock_wait=60)).done
