"""Judgements of figures that no test can make in time: each is a function of rows alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from vecfill.diagnosis import index_checks, replication_checks, server_checks, session_checks, storage_checks
from vecfill.diagnosis.table_checks import covered
from vecfill.postgres.replication import Replication
from vecfill.read.survey import Coverage


def by_severity(found):
    return [(one.name, one.severity) for one in found]


def row(**values):
    return SimpleNamespace(**values)


TABLE = {"name": "public.docs", "live": 10_000, "dead": 0, "updated": 5_000, "hot": 100, "options": []}


@pytest.mark.parametrize(
    ("changes", "indexed", "severity"),
    [
        ({}, [], "advice"),
        ({}, ["seen"], "ok"),
        ({"hot": 4_000}, [], "ok"),
        ({"options": ["fillfactor=85"]}, [], "ok"),
    ],
)
def test_hot_updates(changes, indexed, severity):
    (found,) = storage_checks.hot_updates([row(**TABLE | changes)], indexed=indexed, toasted=False)
    assert found.severity == severity
    if severity == "advice":
        assert found.remedy == ("ALTER TABLE public.docs SET (fillfactor = 85, toast_tuple_target = 128);",)


def test_dead_rows_and_statistics():
    late = row(**TABLE | {"dead": 5_000, "vacuumed": datetime(2026, 11, 1, tzinfo=UTC), "analyzed": None})
    (dead,) = storage_checks.dead_rows([late])
    assert (dead.severity, dead.remedy) == ("advice", ("VACUUM (ANALYZE) public.docs;",))
    assert "last vacuumed 2026-11-01 00:00 UTC" in dead.what
    assert by_severity(storage_checks.statistics([late])) == [("statistics", "advice")]


SESSION = {
    **{"pid": 7, "role": "app", "application": "web", "state": "idle in transaction", "seconds": 600.0},
    **{"xmin_age": 12, "query": "SELECT 1", "ours": False, "prepared": None},
}


def test_old_transactions():
    (idle,) = session_checks.old([row(**SESSION)])
    assert (idle.severity, idle.remedy) == ("problem", ("SELECT pg_terminate_backend(7);",))
    (prepared,) = session_checks.old([row(**SESSION | {"prepared": "it's", "pid": None, "state": "prepared"})])
    assert prepared.remedy == ("ROLLBACK PREPARED 'it''s';",)
    (busy,) = session_checks.old([row(**SESSION | {"state": "active", "seconds": 7_200.0})])
    assert (busy.severity, busy.remedy) == ("advice", ("SELECT pg_cancel_backend(7);",))
    assert by_severity(session_checks.old([row(**SESSION | {"seconds": 5.0})])) == [("old-transaction", "ok")]


def test_replication():
    calm = Replication(position=10**10, replayed=10**10, lag_s=0.1, kept_bytes=0, slot=None)
    states = [calm, replace(calm, lag_s=60.0), replace(calm, replayed=10**9), replace(calm, replayed=None)]
    found = [one.severity for state in states for one in replication_checks.behind(state, "run")]
    assert found == ["ok", "advice", "advice", "ok"]


def test_slots():
    slots = [
        row(name="it's", active=False, wal_status="extended", kept=6 * 10**9, xmin_age=None),
        row(name="slow", active=True, wal_status="extended", kept=6 * 10**9, xmin_age=5),
        row(name="gone", active=False, wal_status="lost", kept=None, xmin_age=None),
        row(name="fine", active=True, wal_status="reserved", kept=1_000, xmin_age=None),
        row(name="old", active=True, wal_status="reserved", kept=1_000, xmin_age=2_000_000),
    ]
    found = list(replication_checks.retained(slots))
    assert [one.severity for one in found] == ["problem", "advice", "problem", "problem"]
    assert found[0].remedy == ("SELECT pg_drop_replication_slot('it''s');",)
    assert by_severity(replication_checks.retained([])) == [("replication-slot", "ok")]


def test_operators_that_no_index_serves():
    index = row(
        opclass="vector_l2_ops", definition="CREATE INDEX near ON public.docs USING hnsw (embedding vector_l2_ops)"
    )
    searches = [row(query='SELECT id FROM docs ORDER BY "embedding" <=> $1 LIMIT 10', calls=50)]
    (found,) = index_checks.unserved(searches, {"<->"}, "embedding", index)
    assert (found.severity, found.what.startswith("50 searches by <=>")) == ("problem", True)
    assert found.remedy == ("CREATE INDEX CONCURRENTLY ON public.docs USING hnsw (embedding vector_cosine_ops);",)
    (found,) = index_checks.unserved(searches, {"<=>"}, "embedding", index)
    assert found.severity == "ok"


def test_an_index_that_no_search_uses_once_it_is_no_longer_new():
    index = row(name="public.near", method="hnsw", bytes=5_000_000, scans=0, age=20)
    assert not list(index_checks.never_scanned([index]))
    index.age = 20_000
    (found,) = index_checks.never_scanned([index])
    assert found.remedy == ("DROP INDEX CONCURRENTLY public.near;",)


@pytest.mark.parametrize(
    ("filled", "missing", "severity"), [(0, 100, "advice"), (95, 5, "advice"), (50, 50, "problem"), (100, 0, "ok")]
)
def test_coverage(filled, missing, severity):
    found = Coverage(total=filled + missing, filled=filled, missing=missing, empty=0)
    assert by_severity(covered(found, "run")) == [("coverage", severity)]


def test_old_servers():
    def judged(version):
        return [one.severity for one in server_checks.server_version(row(server=row(version=version), name='"t"'))]

    assert [judged(version) for version in (130_005, 140_002, 140_004, 180_001)] == [
        *(["problem"], ["problem"], ["ok"], ["ok"]),
    ]


def test_short_time_limits():
    limits = row(role="app", statement_timeout_ms=1_000, transaction_timeout_ms=0, idle_timeout_ms=60_000)
    (found,) = server_checks.short_timeouts(limits, '"app"')
    assert found.remedy == ("ALTER ROLE \"app\" SET statement_timeout = '60s';",)
