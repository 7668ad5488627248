"""Everything through PgBouncer in transaction mode: it works, and strangers who get our connection notice nothing."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

import psycopg
import pytest
from tests.adjusting import paused_slowed_and_let_go
from tests.migration.moving import begin, give_up, move, searched_docs, swap_back, swap_it
from tests.pooler import POOL
from tests.tables import DOCS, INLINE, MODEL, assert_every_vector_is_its_texts, make_docs

from vecfill.backfill.run import run
from vecfill.config.engine import EngineOptions
from vecfill.config.queue_options import QueueOptions
from vecfill.config.run import RunOptions
from vecfill.diagnosis.examination import doctor
from vecfill.encode.hash_encoder import HashEncoder
from vecfill.target_tracking import track

ROWS = 3_000

OURS = ("application_name", "client_encoding")
"""What a client may say at its start: PgBouncer keeps them by client and sets them anew for each."""

LEFT = """
SELECT json_build_object(
  'pid', pg_backend_pid(),
  'temporary', (SELECT count(*) FROM pg_class WHERE relpersistence = 't'),
  'prepared', (SELECT count(*) FROM pg_prepared_statements),
  'cursors', (SELECT count(*) FROM pg_cursors WHERE name <> ''),
  'locks', (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
  'settings', (SELECT json_object_agg(name, setting) FROM pg_settings WHERE name <> ALL (%s)))
"""


def left_behind(uri: str, connections: int) -> list[dict]:
    """What each server connection holds, seen from as many transactions at once."""
    found = []
    with ExitStack() as open_ones:
        for _ in range(connections):
            connection = open_ones.enter_context(psycopg.connect(uri, prepare_threshold=None))
            connection.execute("LOAD 'vector'; LOAD 'plpgsql'")  # their settings are known to a server that has them
            found.append(connection.execute(LEFT, [list(OURS)]).fetchone()[0])
    assert len({one.pop("pid") for one in found}) == connections
    return found


def assert_nothing_left(pooler: str, database: str) -> None:
    (fresh,) = left_behind(database, 1)
    for one in left_behind(pooler, POOL):
        differing = {name for name, value in one.pop("settings").items() if value != fresh["settings"][name]}
        assert (one, differing) == (dict.fromkeys(one, 0), set())


@pytest.fixture
def docs(connect, database):
    """A table to fill, in a database whose own settings differ from those that a transaction of ours pins."""
    make_docs(connect, ROWS)
    for setting in (
        "TimeZone = 'Asia/Tokyo'",
        "DateStyle = 'German'",
        "lock_timeout = '77s'",
        "bytea_output = 'escape'",
    ):
        connect.execute(f"ALTER DATABASE {connect.info.dbname} SET {setting}")
    return connect


def test_the_check_sees_what_is_left(docs, pooler, database):
    with psycopg.connect(pooler, autocommit=True) as connection:
        connection.execute("SET work_mem = '5MB'; CREATE TEMP TABLE stage (); PREPARE one AS SELECT 1")
    (fresh,) = left_behind(database, 1)
    seen = next(one for one in left_behind(pooler, POOL) if one["settings"] != fresh["settings"])
    assert (seen["temporary"], seen["prepared"], seen["settings"]["work_mem"]) == (1, 1, "5120")


def test_a_run_in_this_process(docs, pooler, database):
    docs.execute("UPDATE docs SET title = 'bad ' || id WHERE id <= 3")
    docs.execute("ALTER TABLE docs ADD CHECK (title NOT LIKE 'bad %' OR embedding IS NULL)")
    result = run(DOCS, MODEL, database=pooler, options=INLINE)
    assert (result.outcome, result.updated, result.failed) == ("quarantined", ROWS - 3, 3)
    assert_every_vector_is_its_texts(docs, rows=ROWS - 3)
    assert_nothing_left(pooler, database)


def test_status_and_search(docs, pooler, database, vecfill):
    docs.execute(
        "UPDATE docs SET embedding = %s::real[] WHERE id = 7", [HashEncoder(8).encode_query("title 7").tolist()]
    )
    docs.execute("CREATE INDEX ON docs USING hnsw (embedding vector_cosine_ops)")
    given = ("-d", pooler, "-t", "docs", "--json")
    assert vecfill("status", *given, "--text", "title").json["missing"] == ROWS - 1
    assert vecfill("search", *given, "-m", "hash:8", "title 7").json["hits"][0]["key"] == "7"
    assert_nothing_left(pooler, database)


def test_doctor_knows_that_it_is_there(docs, pooler, database):
    found = doctor(DOCS, MODEL, database=pooler)
    (said,) = (one.what for one in found.findings if one.name == "pooler")
    assert said.startswith("a pooler in transaction mode")
    assert_nothing_left(pooler, database)


def test_sslmode_gets_through(docs, pooler, vecfill):
    """PgBouncer has no TLS here: whoever insists on it is refused before a password is sent."""
    ended = vecfill("status", "-d", f"{pooler} sslmode=require", "-t", "docs")
    assert (ended.code, ended.out) == (2, "")
    assert "server does not support SSL, but SSL was required" in ended.err


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own settings, at its import
def test_a_run_on_ray_is_adjusted(docs, pooler, database, caplog, warm):
    options = RunOptions(engine=EngineOptions(engine="ray"))
    result = paused_slowed_and_let_go(docs, pooler, caplog, options, warm)
    assert (result.engine, result.outcome, result.updated) == ("ray", "complete", ROWS)
    assert_every_vector_is_its_texts(docs, rows=ROWS)
    assert_nothing_left(pooler, database)


def test_a_tracked_target(docs, pooler, database):
    track(DOCS, database=pooler)
    assert run(DOCS, MODEL, database=pooler, options=INLINE).updated == ROWS
    docs.execute("UPDATE docs SET title = 'x ' || id WHERE id < 4")
    result = run(DOCS, MODEL, database=pooler, options=INLINE)
    assert (result.updated, result.queued_after) == (3, 0)
    assert_every_vector_is_its_texts(docs, rows=ROWS)
    assert_nothing_left(pooler, database)


def test_a_queue_table(docs, pooler, database):
    docs.execute("CREATE TABLE queue (doc bigint REFERENCES docs, status text DEFAULT 'pending', at timestamptz)")
    docs.execute("INSERT INTO queue SELECT id FROM docs WHERE id <= 1000")
    target = replace(DOCS, queue=QueueOptions(table="queue", claimed="at"))
    result = run(target, MODEL, database=pooler, options=INLINE)
    assert (result.updated, result.queue.after) == (1_000, {"completed": 1_000})
    assert_nothing_left(pooler, database)


@pytest.mark.slow
def test_a_migration_with_a_swap(connect, pooler, database):
    searched_docs(connect, database, partitioned=True)
    begin(pooler)
    assert move(pooler).phase == "indexed"
    assert swap_it(pooler).done
    assert swap_back(pooler).done
    assert give_up(pooler).done
    assert_nothing_left(pooler, database)
