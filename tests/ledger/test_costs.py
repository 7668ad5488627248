"""What following changes costs the server: it does not grow with the table."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.cli.test_run import process
from tests.costs import BUFFERS_A_CHANGE, BUFFERS_A_QUEUED_CHANGE, BUFFERS_OF_A_TRACKED_RUN
from tests.ledger.tracked import fill, queue, tracked_docs
from tests.needs import needs
from tests.read.test_partial_index import buffers, prepared
from tests.tables import DOCS, assert_every_vector_is_its_texts, role, wait_until

import vecfill.ledger.queue
from vecfill import ConfigError, track


def made_current(connect: psycopg.Connection, database: str, rows: int) -> None:
    """A tracked table of so many rows whose vectors and ledger are generated."""
    tracked_docs(connect, database, rows, filled=False)
    connect.execute(
        "UPDATE docs SET embedding = array_fill(1, ARRAY[8])::vector; TRUNCATE vecfill.change_1;"
        "INSERT INTO vecfill.vector_1 SELECT id, 1, substr(sha256(title::bytea), 1, 16) FROM docs"
    )
    connect.execute("VACUUM ANALYZE docs")
    assert fill(database).updated == 0  # reads all of it once


OTHERS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
RUN = ("run", "-t", "public.docs", "--text", "{title}", "-m", "hash:8")
SCANS = "SELECT seq_scan FROM pg_stat_user_tables WHERE relname IN ('docs', 'vector_1') ORDER BY relname"


def scans(connect: psycopg.Connection) -> list[tuple]:
    """Sequential scans so far; a session adds its own at the latest when it ends."""
    if connect.info.server_version < 150_000:
        needs("PostgreSQL 15: pg_stat_force_next_flush")
    wait_until(lambda: connect.execute(OTHERS).fetchone() == (0,))
    connect.execute("SELECT pg_stat_force_next_flush()")
    return connect.execute(SCANS).fetchall()


@pytest.mark.slow
def test_a_hundred_changes_among_many_rows_cost_few_buffers_and_no_scan(database, connect):
    made_current(connect, database, 100_000)
    connect.execute("UPDATE docs SET title = 'new ' || id WHERE id % 1000 = 0")
    before = scans(connect)
    found, survey = buffers(connect, lambda: prepared(database).found)
    assert (survey.eligible, found < BUFFERS_OF_A_TRACKED_RUN + BUFFERS_A_QUEUED_CHANGE * 100) == (100, True), found
    found, result = buffers(connect, lambda: fill(database))
    assert (result.updated, result.queued_after, result.exit_code) == (100, 0, 0)
    assert scans(connect) == before
    assert found < BUFFERS_OF_A_TRACKED_RUN + BUFFERS_A_CHANGE * 100
    assert buffers(connect, lambda: fill(database))[0] < BUFFERS_OF_A_TRACKED_RUN


def test_what_track_has_checked_is_checked_again_once_there_is_something_to_do(database, connect):
    tracked_docs(connect, database)
    with role(connect, database, "SELECT") as uri:
        name = conninfo_to_dict(uri)["user"]
        for grant in track(DOCS, database=database, dry_run=True).grants:
            connect.execute(grant.replace("TO ROLE", f'TO "{name}"'))
        connect.execute(f'REVOKE UPDATE ON docs FROM "{name}"; REVOKE UPDATE (embedding) ON docs FROM "{name}"')
        assert fill(uri).outcome == "complete"
        refused = pytest.raises(ConfigError, match="UPDATE on embedding and what --set assigns: GRANT it")
        with refused:
            fill(uri, replace(DOCS, set=("seen = 1",)))
        connect.execute("UPDATE docs SET title = 'new' WHERE id = 1")
        with refused:
            fill(uri)
    assert fill(database).updated == 1


@pytest.mark.soak
@pytest.mark.timeout(1_800)
def test_with_a_big_ledger_a_run_with_nothing_to_do_takes_as_long_as_an_untracked_one(database, connect):
    made_current(connect, database, 10_000_000)
    connect.execute("CREATE INDEX ON docs (id) WHERE embedding IS NULL")
    seconds: dict[str, list[float]] = {"vecfill": [], "none": []}
    for _ in range(7):
        for schema, times in seconds.items():
            start = time.perf_counter()
            ended, _ = process(*RUN, "-d", database, "--state-schema", schema)
            times.append(time.perf_counter() - start)
            assert "complete: nothing to do" in ended.stdout, ended.stderr
    tracked, plain = (statistics.median(times) for times in seconds.values())
    print(f"tracked {tracked:.3f} s, untracked {plain:.3f} s")
    assert tracked < 2 * plain


@pytest.mark.slow
def test_a_big_queue_is_drained_in_pieces_and_units(database, connect, monkeypatch):
    tracked_docs(connect, database, 12_000)
    connect.execute("UPDATE docs SET title = 'new ' || id; UPDATE docs SET note = 'x'")
    monkeypatch.setattr(vecfill.ledger.queue, "PIECE_PAGES", 10)
    found = fill(database, yes=True)
    assert (found.updated, found.queued_after, found.exit_code) == (12_000, 0, 0)
    assert queue(connect) == {}
    assert_every_vector_is_its_texts(connect, rows=12_000)
