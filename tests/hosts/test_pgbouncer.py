"""Everything through PgBouncer in transaction mode: it works, and strangers who get our connection notice nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from tests.hosts.conftest import POOL
from tests.tables import DOCS, INLINE, MODEL, assert_every_vector_is_its_texts, make_docs, meanwhile

from vecfill.backfill.run import run
from vecfill.encode.hash_encoder import HashEncoder

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
            connection.execute("LOAD 'vector'")  # its settings are known to a server that has it
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


def test_sslmode_gets_through(docs, pooler, vecfill):
    """PgBouncer has no TLS here: whoever insists on it is refused before a password is sent."""
    ended = vecfill("status", "-d", f"{pooler} sslmode=require", "-t", "docs")
    assert (ended.code, ended.out) == (2, "")
    assert "server does not support SSL, but SSL was required" in ended.err


@pytest.fixture
def short():
    """A folder for temporary files that is near enough to the root for Ray's sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.ray
def test_two_targets_on_ray(docs, pooler, database, tmp_path, short):
    """The second takes the cluster that the first started: Ray's folder is made once."""
    make_docs(docs, 10, table="others")
    file = tmp_path / "vecfill.toml"
    common = 'text = "title"\nmodel = "hash:8"\nengine = "ray"\njson = true\n'
    file.write_text(f'{common}[[target]]\ntable = "docs"\n[[target]]\ntable = "others"\n')
    seen = set()

    def look(done: threading.Event) -> None:
        while not done.wait(0.02):
            seen.update(path.name for path in short.glob("vf-*"))

    command = [sys.executable, "-m", "vecfill", "run", "-d", pooler, "--config", file]
    environ = {**os.environ, "TMPDIR": str(short)}
    with meanwhile(look):
        ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environ)
    assert ended.returncode == 0, ended.stderr
    assert [one["updated"] for one in json.loads(ended.stdout)["targets"]] == [ROWS, 10]
    assert len(seen) == 1
    assert_every_vector_is_its_texts(docs, rows=ROWS)
    assert_nothing_left(pooler, database)
