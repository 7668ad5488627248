"""A run holds back: at most so many rows a second, and not while a standby lags or a slot keeps too much WAL."""

from __future__ import annotations

import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.needs import needs
from tests.tables import DOCS, INLINE, MODEL, add_docs, assert_every_vector_is_its_texts, make_docs, wait_until

from vecfill.backfill.run import run
from vecfill.config.limits import NO_WRITE_LIMITS, WriteLimits
from vecfill.errors import ConfigError
from vecfill.job import Hold, Stop, Worker
from vecfill.postgres import server_programs
from vecfill.postgres.database import Database
from vecfill.postgres.replication import role_without_replication_stats
from vecfill.postgres.session import Session
from vecfill.write.throttle import Throttle

# -- what a user writes


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (None, None, None)),
        ({"max_replication_lag": "30s"}, (30.0, None, None)),
        ({"max_replication_lag": "1.5 min"}, (90.0, None, None)),
        ({"max_replication_lag": "256MB"}, (None, 256 << 20, None)),
        ({"max_slot_wal": "10GB"}, (None, None, 10 << 30)),
    ],
)
def test_amounts(given, expected):
    limits = WriteLimits(max_rate=0.5, **given)
    assert (limits.max_lag_s, limits.max_lag_bytes, limits.max_slot_bytes) == expected
    assert (limits.max_rate, WriteLimits()) == (0.5, NO_WRITE_LIMITS)


@pytest.mark.parametrize(
    "given",
    [
        {"max_rate": 0},
        {"max_replication_lag": "30"},
        {"max_replication_lag": "0s"},
        {"max_replication_lag": "fast"},
        {"max_slot_wal": "10s"},
        {"max_slot_wal": "-1GB"},
    ],
)
def test_what_is_no_amount_is_told(given):
    (name,) = given
    with pytest.raises(ConfigError, match=name.replace("_", "-")):
        WriteLimits(**given)


def test_writers_share_the_rate_and_batches_hold_a_second_of_it():
    def most(rate: float | None, peers: int = 1, **hold: float) -> int:
        worker = Worker(peers=peers, hold=lambda: Hold(**hold))
        return Throttle(WriteLimits(max_rate=rate), worker).max_batch_rows(2_000)

    assert [most(rate) for rate in (None, 10_000, 100.5, 0.1)] == [2_000, 2_000, 100, 1]
    assert [most(100, peers=4), most(100, peers=4, max_rate=400), most(100, max_rate=math.inf)] == [25, 100, 2_000]
    assert [most(None, share=0.5), most(100, share=0.5), most(None, share=0.0001)] == [1_000, 100, 250]


@pytest.mark.parametrize(("share", "allowed"), [(1.0, True), (0.5, False)])
def test_a_writer_rests_after_a_batch_if_it_may_not_write_all_the_time(share, allowed):
    """A stop ends the rest, and only that asks for a stop."""
    throttle = Throttle(worker=Worker(hold=lambda: Hold(share=share), stopped=lambda: True))
    throttle.wrote(20.0)
    assert throttle.wait_until_allowed(1, Session(Database(""))) is allowed


# -- rows a second

STAMPED = replace(DOCS, set=("at = clock_timestamp()",))


def assert_never_above(connect: psycopg.Connection, started: float, rate: float, rows: int) -> None:
    """At each moment no more rows were written than the rate allows since the run began."""
    query = "SELECT extract(epoch FROM at)::float8 - %s FROM docs WHERE embedding IS NOT NULL ORDER BY at"
    times = [at for (at,) in connect.execute(query, [started]).fetchall()]
    assert len(times) == rows
    assert all(number <= rate * at + 1 for number, at in enumerate(times, 1))


def stamped(connect: psycopg.Connection, rows: int) -> float:
    make_docs(connect, rows)
    connect.execute("ALTER TABLE docs ADD at timestamptz")
    return connect.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()[0]


@pytest.mark.slow
def test_the_whole_run_stays_under_the_rate(connect, database):
    started = stamped(connect, 300)
    result = run(STAMPED, MODEL, database=database, options=replace(INLINE, write_limits=WriteLimits(max_rate=200)))
    assert (result.outcome, result.updated) == ("complete", 300)
    assert 1.5 <= result.seconds < 15
    assert_never_above(connect, started, 200, 300)
    assert_every_vector_is_its_texts(connect, rows=300)


@pytest.mark.slow
def test_a_stop_does_not_wait_for_rows_that_are_held_back(connect, database):
    make_docs(connect, 1_000)
    options = replace(INLINE, write_limits=WriteLimits(max_rate=20), max_seconds=1.5)
    result = run(DOCS, MODEL, database=database, options=options)
    assert (result.outcome, result.exit_code) == ("incomplete", 5)
    assert result.updated <= 40
    assert result.seconds < 15
    assert result.after.filled - result.before.filled == result.updated
    assert run(DOCS, MODEL, database=database, options=INLINE).remaining == 0


# -- replication


def some_wal(connect: psycopg.Connection, megabytes: int = 3) -> None:
    connect.execute("SET synchronous_commit = on")  # off, it may be in the server's memory yet, and not counted
    connect.execute("CREATE TABLE IF NOT EXISTS ballast (it text)")
    connect.execute("ALTER TABLE ballast ALTER it SET STORAGE EXTERNAL")
    connect.execute("INSERT INTO ballast SELECT repeat('x', 100000) FROM generate_series(1, %s)", [megabytes * 10])


def said(caplog: pytest.LogCaptureFixture, start: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(start)]


@contextmanager
def when_paused(caplog: pytest.LogCaptureFixture, act) -> Iterator[None]:
    """Acts once the run says that it pauses, after looking whether it does."""

    def watch() -> None:
        wait_until(lambda: said(caplog, "pausing"))
        act()

    thread = threading.Thread(target=watch)
    with caplog.at_level(logging.INFO, "vecfill"):
        thread.start()
        yield
    thread.join()


@pytest.fixture
def slot(connect) -> Iterator[str]:
    name = f"slot_{os.getpid()}"
    connect.execute("SELECT pg_create_physical_replication_slot(%s, true)", [name])
    yield name
    connect.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", [name])


@pytest.mark.slow
def test_a_run_pauses_while_a_slot_keeps_too_much_wal(connect, database, slot, caplog):
    make_docs(connect, 1_000)
    some_wal(connect)
    filled = []

    def drop() -> None:
        time.sleep(1.2)  # a check later it still waits
        filled.append(connect.execute("SELECT count(embedding) FROM docs").fetchone()[0])
        connect.execute("SELECT pg_drop_replication_slot(%s)", [slot])

    with when_paused(caplog, drop):
        result = run(
            DOCS, MODEL, database=database, options=replace(INLINE, write_limits=WriteLimits(max_slot_wal="1MB"))
        )
    assert filled == [0]
    assert (result.outcome, result.updated) == ("complete", 1_000)
    assert said(caplog, "pausing")[0].startswith(f"pausing: slot {slot} keeps ")
    assert said(caplog, "pausing")[0].endswith(" MB of WAL, and the limit is 1.0 MB")
    assert len(said(caplog, "continuing after a pause of")) == 1


def test_a_slot_within_the_limit_pauses_nothing(connect, database, slot, caplog):
    make_docs(connect, 1_000)
    with caplog.at_level(logging.INFO, "vecfill"):
        options = replace(INLINE, write_limits=WriteLimits(max_slot_wal="10GB", max_replication_lag="1s"))
        assert run(DOCS, MODEL, database=database, options=options).updated == 1_000
    assert not said(caplog, "pausing")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stop", "max_seconds"])
def test_a_pause_ends_with_the_run(connect, database, slot, caplog, how):
    make_docs(connect, 1_000)
    some_wal(connect)
    stop = Stop()
    options = replace(INLINE, write_limits=WriteLimits(max_slot_wal="1MB"))
    if how == "max_seconds":
        options = replace(options, max_seconds=2)
    with when_paused(caplog, lambda: stop.set("SIGTERM") if how == "stop" else None):
        result = run(DOCS, MODEL, database=database, options=options, stop=stop)
    assert (result.outcome, result.exit_code) == (("stopped", 143) if how == "stop" else ("incomplete", 5))
    assert (result.updated, result.remaining) == (0, 1_000)
    assert said(caplog, "stopped after a pause")


@pytest.fixture
def standby(request, server, database, connect) -> Iterator[psycopg.Connection]:
    """A connection to the test's database on a physical standby of the embedded server."""
    if request.config.getoption("--test-dsn"):
        needs("the embedded server, of whose files a standby is made")
    primary = Path(conninfo_to_dict(server)["host"])
    home, data = primary.parent, primary.parent / "standby"
    chosen, version = (request.config.getoption(name) for name in ("--pg-bin", "--pg-version"))
    folder = chosen or server_programs.reachable(version, home)
    if not (folder / "pg_basebackup").exists():
        needs(f"server programs with pg_basebackup, and {folder} has none")
    data.mkdir(mode=0o700)
    if account := server_programs.server_account():
        os.chown(data, account.pw_uid, account.pw_gid)

    def execute(program: str, *arguments: str) -> None:
        done = server_programs.execute(folder, home, program, *arguments, "-D", str(data))
        assert done.returncode == 0, done.stdout

    at = ("-h", str(primary), "-p", "5432", "-U", "postgres")
    execute("pg_basebackup", *at, "-R", "-X", "stream", "-c", "fast", "--no-sync")
    (data / ".s.PGSQL.5432.lock").unlink()  # the primary's, whose socket lies in its data folder
    execute("pg_ctl", "start", "-w", "-l", str(data / "server.log"))
    try:
        wait_until(lambda: connect.execute("SELECT count(*) FROM pg_stat_replication").fetchone() == (1,))
        with psycopg.connect(make_conninfo(database, host=str(data)), autocommit=True) as replica:
            yield replica
    finally:
        execute("pg_ctl", "stop", "-m", "immediate", "-w")
        shutil.rmtree(data)


@pytest.mark.slow
def test_a_run_pauses_while_a_real_standby_lags(connect, database, standby, caplog):
    make_docs(connect, 1_000)
    # The second is noticed while rows are written: a replay that stands is late only after a while.
    for limit, rate, says in (("1MB", None, "and the limit is 1.0 MB"), ("1s", 400, "s behind, and the limit is 1 s")):
        caplog.clear()
        connect.execute("UPDATE docs SET embedding = NULL")
        at = connect.execute("SELECT pg_current_wal_lsn()").fetchone()
        reached = partial(standby.execute, "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", at)
        wait_until(lambda reached=reached: reached().fetchone()[0])
        standby.execute("SELECT pg_wal_replay_pause()")
        some_wal(connect)
        options = replace(INLINE, write_limits=WriteLimits(max_replication_lag=limit, max_rate=rate), max_seconds=60)
        with when_paused(caplog, lambda: standby.execute("SELECT pg_wal_replay_resume()")):
            result = run(DOCS, MODEL, database=database, options=options)
        assert (result.outcome, result.updated) == ("complete", 1_000)
        assert says in said(caplog, "pausing: a standby is")[0]
        assert said(caplog, "continuing after a pause of")


def test_a_role_that_may_not_see_the_standbys_is_told_once(connect, database, caplog):
    make_docs(connect, 10)
    role = f"narrow_{os.getpid()}"
    connect.execute(f"CREATE ROLE {role} LOGIN; GRANT SELECT, UPDATE ON docs TO {role}")
    theirs = Database(database + f"&user={role}")
    options = replace(INLINE, write_limits=WriteLimits(max_replication_lag="1s", max_slot_wal="10GB"))
    try:
        with caplog.at_level(logging.INFO, "vecfill"):
            assert run(DOCS, MODEL, database=theirs, options=options).updated == 10
        assert len(said(caplog, f"cannot watch --max-replication-lag: role {role} does not see")) == 1
        connect.execute(f"GRANT pg_read_all_stats TO {role}")
        with theirs.connect() as connection:
            assert role_without_replication_stats(connection) is None
        add_docs(connect, 11, 20)
        caplog.clear()
        with caplog.at_level(logging.INFO, "vecfill"):
            assert run(DOCS, MODEL, database=theirs, options=options).updated == 10
        assert not said(caplog, "max_replication_lag")
    finally:
        connect.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")
