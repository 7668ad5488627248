"""A run pauses for a file, a query or an operator, and slows down while the server is slow."""

from __future__ import annotations

import logging
import os
import re
from contextlib import closing
from dataclasses import replace

import pytest
from tests.ledger.tracked import fill, tracked_docs
from tests.tables import DOCS, INLINE, MODEL, make_docs, meanwhile, relation_of, role, wait_until

from vecfill import run, track
from vecfill.backfill.latency import LEAST, WritingShare
from vecfill.backfill.probing import Probing
from vecfill.config.adjustments import parse_adjustments
from vecfill.config.limits import WriteLimits
from vecfill.errors import ConfigError
from vecfill.job import Stop
from vecfill.postgres import pacing_sql
from vecfill.postgres.database import Database
from vecfill.postgres.session import Session

FLAG = "SELECT active FROM maintenance"


@pytest.fixture
def said(caplog):
    """Whether the run has said this."""
    with caplog.at_level(logging.INFO, "vecfill"):
        yield lambda text: text in caplog.text


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch):
    for name in ("pacing.LOOK_S", "pacing.QUERY_EVERY_S", "probing.PROBE_EVERY_S"):
        monkeypatch.setattr(f"vecfill.backfill.{name}", 0.05)


def paused(**limits) -> dict:
    return {"write_limits": WriteLimits(**limits)}


def test_a_run_pauses_while_a_file_exists(database, connect, said, tmp_path):
    make_docs(connect, 50)
    path = tmp_path / "pause"
    path.touch()
    filled = []

    def operate(_) -> None:
        wait_until(lambda: said(f"pausing: {path} exists"))
        filled.append(connect.execute("SELECT count(embedding) FROM docs").fetchone()[0])
        path.unlink()

    with meanwhile(operate):
        assert fill(database, **paused(pause_file=str(path))).updated == 50
    assert filled == [0]
    assert said("continuing after a pause of")


@pytest.mark.slow
def test_a_file_that_comes_during_a_run_pauses_it_and_it_is_seen_in_the_ledger(database, connect, said, tmp_path):
    tracked_docs(connect, database, 8, filled=False)
    path = tmp_path / "pause"
    progress = "SELECT progress ->> 'waiting_for' FROM vecfill.run WHERE outcome IS NULL"

    def operate(_) -> None:
        wait_until(lambda: connect.execute("SELECT count(embedding) FROM docs").fetchone()[0])
        path.touch()
        wait_until(lambda: said(f"pausing: {path} exists"))
        expected = f"the end of a pause ({path} exists)"
        wait_until(lambda: connect.execute(progress).fetchone()[0] == expected)
        path.unlink()

    with meanwhile(operate):
        assert fill(database, lease=1.0, **paused(pause_file=str(path), max_rate=4)).updated == 8
    assert said("continuing after a pause of")


def test_a_run_pauses_while_a_query_is_true_or_fails(database, connect, said):
    make_docs(connect, 50)
    connect.execute("CREATE TABLE maintenance (active bool); INSERT INTO maintenance VALUES (true)")

    def operate(_) -> None:
        wait_until(lambda: said("pausing: --pause-query is true"))
        connect.execute("ALTER TABLE maintenance RENAME TO gone")
        wait_until(lambda: said('pausing: --pause-query fails: relation "maintenance" does not exist'))
        connect.execute("ALTER TABLE gone RENAME TO maintenance; UPDATE maintenance SET active = NULL")

    with meanwhile(operate):
        assert fill(database, **paused(pause_query=FLAG)).updated == 50
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (50,)


@pytest.mark.parametrize("how", ["stop", "max_seconds"])
def test_a_stop_ends_a_pause_at_once(database, connect, said, tmp_path, how):
    make_docs(connect, 50)
    stop = Stop()
    limits = {**paused(pause_file=str(tmp_path)), **({"max_seconds": 1.0} if how == "max_seconds" else {})}

    def operate(_) -> None:
        wait_until(lambda: said("pausing"))
        if how == "stop":
            stop.set("SIGTERM")

    with meanwhile(operate):
        result = run(DOCS, MODEL, database=database, options=replace(INLINE, **limits), stop=stop)
    assert (result.outcome, result.exit_code) == (("stopped", 143) if how == "stop" else ("incomplete", 5))
    assert (result.updated, result.remaining) == (0, 50)
    assert said("stopped after a pause of")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("nothing", "syntax error"),
        ("SELECT 1", "cannot be matched"),
        ("SELECT true, false", "only one column"),
        ("SELECT true UNION ALL SELECT false", "more than one row"),
        ("SELECT true; DROP TABLE docs", "multiple commands"),
        ("SELECT true) OR (SELECT true", "syntax error"),
        ("DELETE FROM docs RETURNING true", "syntax error"),
        ("WITH gone AS (DELETE FROM docs RETURNING true) SELECT true", "must not contain data-modifying"),
        ("SELECT setval('s', 1) > 0", "read-only transaction"),
        ("SELECT active FROM absent", "does not exist"),
    ],
)
def test_what_is_no_query_of_one_boolean_is_refused(database, connect, query, why):
    make_docs(connect, 3)
    connect.execute("CREATE SEQUENCE s")
    with pytest.raises(ConfigError, match=f"--pause-query does not work as one SELECT of one boolean: .*{why}"):
        fill(database, **paused(pause_query=query))
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (0,)


def test_a_query_that_takes_too_long_is_refused_before_the_run(database, connect, monkeypatch):
    monkeypatch.setitem(pacing_sql.SETTINGS, "statement_timeout", "50ms")
    make_docs(connect, 3)
    with pytest.raises(ConfigError, match="--pause-query takes longer than its limit of 50ms"):
        fill(database, **paused(pause_query="SELECT true FROM pg_sleep(9)"))


@pytest.mark.parametrize(
    "given", [{"max_latency": "50"}, {"max_latency": "0ms"}, {"pause_file": " "}, {"pause_query": ""}]
)
def test_limits_that_mean_nothing_are_refused(given):
    (name,) = given
    with pytest.raises(ConfigError, match=name.replace("_", "-")):
        WriteLimits(**given)


def test_the_share_of_writing_falls_fast_rises_slowly_and_is_never_zero():
    share = WritingShare()
    shares = [share.value for took in [2, 2, 1, 1] if share.update(took, 1.0) is None]
    assert shares == [0.5, 0.25, 0.3125, 0.375]
    for _ in range(20):
        share.update(2, 1.0)
    assert share.value == LEAST
    for _ in range(20):
        share.update(1, 1.0)
    assert share.value == 1.0


def test_a_slow_server_is_said_and_so_is_its_end(database, connect, said, caplog, monkeypatch):
    monkeypatch.setattr("vecfill.backfill.probing.PROBE_EVERY_S", 0.0)
    make_docs(connect, 50)
    with closing(Session(Database(database))) as session:
        probing = Probing(session, relation_of(database))
        assert probing.share("1h", 3_600.0) == 1.0
        assert [probing.share("1ns", 1e-9) for _ in range(7)] == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, LEAST, LEAST]
        assert said("ms, and the limit is 1ns; writing 50% of the time")
        assert said("writing 2% of the time")
        assert probing.share(None, 1e-9) == LEAST
        for _ in range(3):
            probing.share("1h", 3_600.0)
            assert [probing.share("1ns", 1e-9) for _ in range(4)][-1] == LEAST
        assert caplog.text.count("writing 2% of the time") == 1
        assert [probing.share("1h", 3_600.0) for _ in range(16)][-1] == 1.0
        assert said("writing at full speed again after")
        probing.share("1ns", 1e-9)
        assert probing.share(None, None) == 1.0


def test_a_run_on_a_slow_server_still_ends(database, connect, said):
    make_docs(connect, 10)
    assert fill(database, **paused(max_latency="0.0001ms")).updated == 10
    assert said("slowing down: a probe of the server took")


def test_a_probe_needs_no_right_that_a_run_has_not(database, connect, said, monkeypatch):
    monkeypatch.setattr("vecfill.backfill.probing.PROBE_EVERY_S", 0.0)
    make_docs(connect, 50)
    functions = "SELECT oid::regprocedure::text FROM pg_proc WHERE proname = 'pg_logical_emit_message'"
    for (function,) in connect.execute(functions).fetchall():
        connect.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
    with role(connect, database) as theirs, closing(Session(Database(theirs))) as session:
        probing = Probing(session, relation_of(database))
        assert probing.share("1ns", 1e-9) == 0.5
        connect.execute("ALTER TABLE docs RENAME TO other")
        assert probing.share("1ns", 1e-9) == 0.5
        assert said('--max-latency cannot be measured, and the run goes on as fast as before: relation "public.docs"')
        connect.execute("ALTER TABLE other RENAME TO docs")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("max_rate=500", {"max_rate": 500.0}),
        (" max_latency = 50ms", {"max_latency": "50ms"}),
        ("pause=true", {"pause": True}),
        ("pause=off", {"pause": False}),
        ("max_rate=", {"max_rate": None}),
    ],
)
def test_adjustments(given, expected):
    assert parse_adjustments([given]) == expected


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("max_rate=0", "--max-rate.*greater than 0"),
        ("max_rate=fast", "--max-rate 'fast'"),
        ("max_latency=50", "--max-latency '50'"),
        ("pause=maybe", "pause 'maybe'"),
        ("limit=5", "with one of max_rate, max_latency, pause"),
        ("updated_at = now()", "with one of max_rate, max_latency, pause"),
        ("max_rate", "write NAME=VALUE"),
    ],
)
def test_what_cannot_be_set_is_one_clear_line(vecfill, database, given, why):
    ended = vecfill("status", "-d", database, "-t", "docs", "--set", given)
    assert ended.code == 2
    assert re.search(why, ended.err)
    assert ended.err.count(os.linesep) == 1


def test_without_a_run_or_a_ledger_nothing_is_set(vecfill, database, connect):
    make_docs(connect, 3)
    given = ("status", "-d", database, "-t", "docs", "--set", "max_rate=500")
    assert "--set needs a tracked target, and public.docs.embedding is not tracked" in (ended := vecfill(*given)).err
    assert ended.code == 2
    track(DOCS, database=database)
    assert "no run of public.docs is in progress" in (ended := vecfill(*given)).err
    assert ended.code == 2
