"""A watch looks twice a second, so a look must cost next to nothing, and scans are announced and rare."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest
from tests.costs import BUFFERS_OF_A_LOOK
from tests.ledger.tracked import assert_current, fill, queue, tracked_docs
from tests.read.test_partial_index import buffers, make_filled
from tests.tables import DOCS, INLINE, MODEL, make_docs, wait_until
from tests.watching.watched import watched, watching

from vecfill.backfill.prepare import prepare
from vecfill.postgres.database import Database
from vecfill.postgres.session import Session
from vecfill.watching import drains, patience, rounds
from vecfill.watching.patience import LOOK_PAGES

LOOKS = 20


def looks(database: str, number: int) -> int:
    """Entries that the last look of a prepared source found."""
    with closing(Session.connect(Database(database))) as session:
        source = prepare(session, DOCS, MODEL, INLINE).source
        return [source.look() for _ in range(number)][-1].rows


@pytest.mark.parametrize("tracked", [True, False])
def test_a_look_that_finds_nothing_costs_few_buffers(database, connect, tracked):
    if tracked:
        tracked_docs(connect, database, 2_000)
        connect.execute("VACUUM vecfill.change_1")
    else:
        make_filled(connect, 40_000, 20)
        assert fill(database, allow_mixed=True).updated == 20
        looks(database, 1)  # marks the entries of rows that have their vector now
    one, _ = buffers(connect, lambda: looks(database, 1))
    many, found = buffers(connect, lambda: looks(database, 1 + LOOKS))
    assert found == 0
    assert (many - one) / LOOKS < BUFFERS_OF_A_LOOK


def test_without_an_index_the_table_is_scanned_only_after_changes_and_that_is_said(
    database, connect, caplog, monkeypatch
):
    caplog.set_level("INFO", "vecfill")
    monkeypatch.setattr(patience, "SCAN_EVERY_S", 0.05)
    make_docs(connect, 5)
    with watching(watched(database)):
        wait_until(lambda: connect.execute("SELECT count(embedding) = 5 FROM docs").fetchone()[0])
        wait_until(lambda: any("no partial index" in one.getMessage() for one in caplog.records))
    (said,) = [one.getMessage() for one in caplog.records if "no partial index" in one.getMessage()]
    assert 'CREATE INDEX CONCURRENTLY ON "public"."docs" ("id") WHERE "embedding" IS NULL' in said


def test_the_queue_is_vacuumed_after_a_bulk_change_so_that_looks_stay_cheap(database, connect, monkeypatch):
    monkeypatch.setattr(rounds, "TIDY_S", 0.05)
    tracked_docs(connect, database, 4_000)
    connect.execute("ALTER TABLE vecfill.change_1 SET (autovacuum_enabled = off); UPDATE docs SET title = 'new ' || id")
    pages = "SELECT pg_relation_size('vecfill.change_1') / current_setting('block_size')::int"
    assert connect.execute(pages).fetchone()[0] > LOOK_PAGES
    with watching(watched(database, options=replace(INLINE, yes=True))):
        wait_until(lambda: connect.execute(pages).fetchone()[0] <= LOOK_PAGES)
    assert_current(connect)


def test_the_connections_stay_the_same_while_the_target_is_checked_again(database, connect, monkeypatch):
    monkeypatch.setattr(drains, "REFRESH_S", 0.05)
    checked = []
    prepare_again = drains.prepare
    monkeypatch.setattr(drains, "prepare", lambda *given, **more: checked.append(1) or prepare_again(*given, **more))
    tracked_docs(connect, database, 3, filled=False)
    ours = (
        "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity"
        " WHERE application_name = 'vecfill' AND datname = current_database()"
    )
    with watching(watched(database, options=replace(INLINE, lease=0.2))):
        wait_until(lambda: connect.execute("SELECT count(embedding) = 3 FROM docs").fetchone()[0])
        (before,) = wait_until(lambda: len((row := connect.execute(ours).fetchone())[0]) == 3 and row)
        wait_until(lambda: len(checked) > 5)
        connect.execute("UPDATE docs SET title = 'new'")
        wait_until(lambda: not queue(connect))
        assert connect.execute(ours).fetchone()[0] == before
    assert_current(connect)
