"""``run --index rebuild``: the vector indexes are as they were after the run, however it ends."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pytest
from tests.indexing.indexed import HNSW, indexed_docs, outdate, rebuilt, shape, stopped, waiting
from tests.ledger.tracked import assert_current, fill, make_partitioned_docs, tracked_docs
from tests.tables import DOCS, INLINE, MODEL

from vecfill import run, track
from vecfill.config.migrate import IndexOptions, LockOptions
from vecfill.config.model import Model
from vecfill.errors import ConfigError, TableLockedError, VecfillError

pytestmark = pytest.mark.slow  # builds HNSW indexes

LOCKS = LockOptions(lock_timeout=0.1, lock_wait=0)


def test_the_index_is_gone_during_the_run_and_the_same_afterwards(connect, database, caplog):
    tracked_docs(connect, database)
    connect.execute(
        f"{HNSW}; {HNSW.replace('docs_near', 'docs_same')};"
        "CREATE INDEX half ON docs USING hnsw ((embedding::halfvec(8)) halfvec_l2_ops);"
        "COMMENT ON INDEX docs_near IS $$the user's \\ own$$; ALTER INDEX half ALTER COLUMN 1 SET STATISTICS 7;"
        "CREATE TABLE seen (indexes bigint); UPDATE docs SET title = title || '.';"
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO seen SELECT count(*) FROM pg_index WHERE indrelid = 'docs'::regclass; RETURN NULL; END $$;"
        "CREATE TRIGGER looks AFTER UPDATE ON docs FOR EACH STATEMENT EXECUTE FUNCTION look()"
    )
    before = shape(connect)
    with caplog.at_level(logging.INFO, "vecfill"):
        result = rebuilt(database, select="all", yes=True)
    assert (result.exit_code, result.updated) == (0, 20)
    assert shape(connect) == before
    assert waiting(connect) == []
    assert connect.execute("SELECT DISTINCT indexes FROM seen").fetchall() == [(1,)]
    assert [one.state for one in result.indexes] == ["built"] * 3
    assert result.forecast.indexed.rebuild
    assert "are dropped for the run and built again after it" in caplog.text
    assert "until then searches read every vector, so they are exact, and slower" in caplog.text
    assert json.loads(json.dumps(result.as_dict()))["indexes"][0]["state"] == "built"
    assert_current(connect)


def test_the_indexes_of_partitions_are_attached_again_also_on_new_and_detached_ones(connect, database):
    make_partitioned_docs(connect)
    track(DOCS, database=database)
    connect.execute(
        "CREATE TABLE docs_3 PARTITION OF docs FOR VALUES IN (3) PARTITION BY LIST (id);"
        "CREATE TABLE docs_3_1 PARTITION OF docs_3 FOR VALUES IN (101);"
        f"{HNSW}; CREATE INDEX alone ON docs_1 USING hnsw (embedding vector_l2_ops)"
    )
    before = shape(connect)
    assert len(before) == 6
    assert rebuilt(database).updated == 20
    assert shape(connect) == before
    connect.execute(
        "UPDATE docs SET title = 'edited' WHERE id < 4;"
        "CREATE FUNCTION change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"
    )
    with pytest.MonkeyPatch.context() as patch:
        from vecfill.backfill import index_care

        def meanwhile(*arguments, **options):
            connect.execute(
                "CREATE TABLE docs_4 PARTITION OF docs FOR VALUES IN (4); ALTER TABLE docs DETACH PARTITION docs_3;"
                "CREATE TABLE docs_5 PARTITION OF docs FOR VALUES IN (5) PARTITION BY LIST (id);"
                "CREATE TABLE docs_5_1 PARTITION OF docs_5 FOR VALUES IN (1); DROP TABLE docs_2"
            )
            return rebuild(*arguments, **options)

        rebuild = index_care.rebuild_indexes
        patch.setattr(index_care, "rebuild_indexes", meanwhile)
        assert [one for one in rebuilt(database).indexes if one.error] == []
    after = {name: (valid, parent) for name, _, valid, *_, parent in shape(connect)}
    assert all(valid for valid, _ in after.values())
    assert after["docs_near"] == (True, None)
    assert after["docs_4_docs_near"] == after["docs_1_embedding_idx"] == (True, "docs_near")
    assert after["docs_5_1_docs_5_docs_near"] == (True, "docs_5_docs_near")
    assert after["docs_3_embedding_idx"] == (True, None)
    assert waiting(connect) == []


def test_nothing_is_dropped_for_nothing_or_where_it_may_not(connect, database, caplog):
    indexed_docs(connect, database)
    before = connect.execute("SELECT 'docs_near'::regclass::oid").fetchone()
    assert rebuilt(database).indexes == ()
    connect.execute("UPDATE docs SET title = 'edited' WHERE id = 3")
    with caplog.at_level(logging.INFO, "vecfill"):
        assert fill(database, index="auto").indexes == ()
    assert "--index auto: keep" in caplog.text
    assert connect.execute("SELECT 'docs_near'::regclass::oid").fetchone() == before
    connect.execute("UPDATE docs SET title = 'again' WHERE id = 3")
    connect.execute("BEGIN; LOCK TABLE docs IN ACCESS SHARE MODE")
    with pytest.raises(TableLockedError, match=r"nothing was changed"):
        run(DOCS, MODEL, database=database, options=replace(INLINE, index="rebuild"), locks=LOCKS)
    connect.execute("COMMIT")
    assert waiting(connect) == []
    assert connect.execute("SELECT 'docs_near'::regclass::oid").fetchone() == before


def test_an_untracked_target_is_refused_and_auto_keeps_its_index(connect, database, caplog):
    from tests.tables import make_docs

    make_docs(connect, 3)
    connect.execute(HNSW)
    with pytest.raises(
        ConfigError, match=r"public.docs is not tracked: run `vecfill track` first, or pass --index keep"
    ):
        rebuilt(database)
    with caplog.at_level(logging.INFO, "vecfill"):
        assert fill(database, index="auto").updated == 3
    assert "--index auto keeps the indexes" in caplog.text


def test_a_run_that_fails_builds_the_index_all_the_same(connect, database):
    indexed_docs(connect, database)
    before = shape(connect)
    outdate(connect)
    with pytest.raises(ConfigError, match=r"--max-tokens is 100 but hash:8 counts no tokens"):
        rebuilt(database, Model(name="hash:8", max_tokens=100), select="all")
    options = replace(INLINE, index="rebuild")
    with pytest.raises(ConfigError, match=r"--index-memory '5x'.*write it as 512MB or 2GB"):
        run(DOCS, MODEL, database=database, options=options, indexes=IndexOptions(index_memory="5x"))
    assert shape(connect) == before
    connect.execute("ALTER TABLE docs ADD CONSTRAINT no CHECK (id <> 3 OR embedding IS NULL) NOT VALID")
    result = rebuilt(database)
    assert (result.exit_code, [one.state for one in result.indexes]) == (3, ["built"])
    outdate(connect, "id = 5")
    connect.execute(
        "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.title := 'x'; RETURN NEW; END $$;"
        "CREATE TRIGGER spoils BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION spoil()"
    )
    with pytest.raises(VecfillError, match=r"trigger"):
        rebuilt(database)
    assert shape(connect) == before
    assert waiting(connect) == []


def test_a_signal_leaves_the_index_to_the_next_run_whatever_that_has_to_do(connect, database, caplog):
    indexed_docs(connect, database)
    before = shape(connect)
    outdate(connect)
    result = stopped(database, "SIGTERM")
    assert (result.exit_code, [one.state for one in result.indexes]) == (143, ["waiting"])
    assert "waits to be built again (the run was stopped by SIGTERM): the next `vecfill run`" in caplog.text
    assert 'or: CREATE INDEX CONCURRENTLY "docs_near" ON public.docs USING hnsw' in caplog.text
    assert (shape(connect), waiting(connect)) == ([], ["docs_near"])
    caplog.clear()
    assert [one.state for one in fill(database).indexes] == ["built"]
    assert "docs_near waits to be built again, since a run has dropped it" in caplog.text
    assert (shape(connect), waiting(connect)) == (before, [])
    outdate(connect)
    assert stopped(database, "max-seconds").indexes[0].state == "built"
    assert shape(connect) == before


def test_what_others_did_with_the_index_meanwhile(connect, database, caplog):
    indexed_docs(connect, database)
    invalid = f"{HNSW}; UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'docs_near'::regclass"
    for meanwhile, state, name in (
        (HNSW, "present", "docs_near"),
        (HNSW.replace("docs_near", "by_hand"), "present", "by_hand"),
        (HNSW.replace("'4'", "'5'"), "present", "docs_near"),
        (invalid, "built", "docs_near"),
        ("CREATE TABLE other (id int); CREATE INDEX docs_near ON other (id)", "waiting", None),
    ):
        connect.execute(f"DROP INDEX IF EXISTS by_hand, docs_near; {HNSW}")
        outdate(connect)
        assert stopped(database, "SIGTERM").exit_code == 143
        connect.execute(meanwhile)
        result = fill(database)
        assert [one.state for one in result.indexes] == [state], meanwhile
        assert [found for found, *_ in shape(connect)] == [name] * (name is not None)
        assert (result.exit_code, waiting(connect)) == ((0, []) if name else (5, ["docs_near"]))
    assert "index public.docs_near is CREATE INDEX docs_near" in caplog.text
    assert "exists, and is not on public.docs: rename it" in caplog.text
