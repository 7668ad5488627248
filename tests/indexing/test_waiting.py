"""An index that waits to be built again: who says so, who may not, and what a failed build leaves."""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.indexing.indexed import indexed_docs, outdate, rebuilt, shape, stopped, waiting
from tests.ledger.tracked import fill
from tests.migration.moving import begin, give_up
from tests.tables import DOCS, role
from tests.watching.watched import watched, watching

from vecfill import Model, status, track, untrack
from vecfill.config.migrate import MigrateOptions
from vecfill.diagnosis.examination import doctor
from vecfill.errors import ConfigError
from vecfill.migration.start import start_migration
from vecfill.migration.state import migration_status

pytestmark = pytest.mark.slow  # builds HNSW indexes

BUILD = 'CREATE INDEX CONCURRENTLY "docs_near" ON public.docs USING hnsw'


def test_everybody_says_that_it_waits_and_nobody_forgets_it(connect, database, caplog):
    indexed_docs(connect, database)
    before = shape(connect)
    outdate(connect, "id < 4")
    assert status(DOCS, database=database).ledger.waiting_indexes == ()
    stopped(database, "SIGTERM")
    (said,) = status(DOCS, database=database).ledger.waiting_indexes
    assert said.startswith("index public.docs_near waits to be built again")
    assert BUILD in said
    (finding,) = [one for one in doctor(DOCS, database=database).findings if one.name == "index-waiting"]
    assert finding.severity == "problem"
    assert "vecfill run" in finding.remedy[0]
    assert finding.remedy[1].startswith(BUILD)
    with pytest.raises(ConfigError, match=r"docs_near waits to be built again.*no migration of"):
        migration_status(DOCS, database=database)
    with pytest.raises(ConfigError, match=r"docs_near waits to be built again.*CREATE INDEX.*run `vecfill run`"):
        untrack(DOCS, database=database)
    with pytest.raises(ConfigError, match=r"docs_near waits to be built again"):
        start_migration(DOCS, Model(name="hash:16"), database=database, options=MigrateOptions())
    with watching(watched(database)) as going:
        while "a run does it at its end, a watch does not" not in caplog.text:
            assert going.thread.is_alive()
            time.sleep(0.01)
    assert shape(connect) == []
    track(replace(DOCS, text="{title}!"), database=database)
    assert waiting(connect) == ["docs_near"]
    connect.execute("ALTER TABLE docs RENAME embedding TO vector")
    with pytest.raises(ConfigError, match=r"docs_near waits to be built again"):
        untrack(DOCS, database=database)
    connect.execute("ALTER TABLE docs RENAME vector TO embedding")
    connect.execute(finding.remedy[1])
    assert status(replace(DOCS, text=None), database=database).ledger.waiting_indexes == ()
    assert shape(connect) == before
    untrack(DOCS, database=database)


def test_a_build_that_fails_leaves_it_to_the_next_run(connect, database, caplog):
    indexed_docs(connect, database)
    before = shape(connect)
    outdate(connect)
    connect.execute(
        "CREATE FUNCTION no_space() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$;"
        "CREATE EVENT TRIGGER no_space ON ddl_command_start WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION no_space()"
    )
    result = rebuilt(database)
    assert (result.exit_code, result.outcome, result.updated) == (5, "incomplete", 20)
    assert result.indexes[0].error.startswith("could not extend file: No space left on device")
    assert BUILD in caplog.text
    assert fill(database).exit_code == 5
    connect.execute("DROP EVENT TRIGGER no_space")
    assert [one.state for one in fill(database).indexes] == ["built"]
    assert shape(connect) == before


def test_a_role_that_owns_no_index_is_refused_and_says_what_waits(connect, database, caplog):
    indexed_docs(connect, database)
    outdate(connect, "id = 1")
    with role(connect, database) as as_role:
        name = conninfo_to_dict(as_role)["user"]
        for grant in track(DOCS, database=database, dry_run=True).grants:
            connect.execute(grant.replace("ROLE", name))
        with pytest.raises(ConfigError, match=rf"role {name} does not own it: run it as postgres"):
            rebuilt(as_role)
        with caplog.at_level(logging.INFO, "vecfill"):
            assert fill(as_role, index="auto").updated == 1
        assert "--index auto keeps the indexes" in caplog.text
        outdate(connect, "id = 1")
        stopped(database, "SIGTERM")
        result = fill(as_role)
        assert (result.exit_code, result.updated, result.indexes[0].state) == (0, 1, "waiting")
        assert f"role {name} does not own public.docs" in caplog.text
    assert [one.state for one in fill(database).indexes] == ["built"]


def test_the_status_of_a_migration_that_has_ended_names_it_too(connect, database):
    indexed_docs(connect, database)
    begin(database)
    give_up(database)
    outdate(connect, "id < 4")
    stopped(database, "SIGTERM")
    said = migration_status(DOCS, database=database).next
    assert said.startswith("index public.docs_near waits to be built again")
    assert said.endswith("the next `vecfill run` does it")
