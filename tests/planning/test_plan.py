"""A plan counts what a run then takes, says in the run's words why it would not start, and writes nothing."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from tests.ledger.test_failures import failed_docs
from tests.ledger.test_models import OTHER
from tests.ledger.tracked import fill, make_partitioned_docs, tracked_docs
from tests.queue_table.boards import add_jobs, board, make_board
from tests.tables import DOCS, INLINE, MODEL, make_docs, role

from vecfill import ConfigError, EngineOptions, LeaseError, Model, PlanOptions, RunOptions, Target, plan, run, track
from vecfill.ledger.lease import Lease
from vecfill.ledger.registry import find_tracked
from vecfill.planning import texts
from vecfill.postgres.database import Database
from vecfill.postgres.introspect import inspect
from vecfill.postgres.session import Session
from vecfill.read import units

PARTIAL = "CREATE INDEX docs_open ON docs (id) WHERE embedding IS NULL"


@contextmanager
def reader(connect, database):
    """A role with SELECT alone, whose transactions are read-only unless it says otherwise."""
    with role(connect, database, "SELECT") as uri:
        name = sql.Identifier(conninfo_to_dict(uri)["user"])
        connect.execute(sql.SQL("ALTER ROLE {} SET default_transaction_read_only = on").format(name))
        if connect.execute("SELECT to_regnamespace('vecfill') IS NOT NULL").fetchone()[0]:
            grant = "GRANT USAGE ON SCHEMA vecfill TO {0}; GRANT SELECT ON ALL TABLES IN SCHEMA vecfill TO {0}"
            connect.execute(sql.SQL(grant).format(name))
        yield uri


def planned(connect, database, target=DOCS, model=MODEL, **options):
    """The plan, made by a role that may not write; it is the same for one that may, which has no refusal."""
    with reader(connect, database) as uri:
        looked = plan(target, model, database=uri, options=replace(INLINE, **options))
    found = plan(target, model, database=database, options=replace(INLINE, **options))
    assert "default_transaction_read_only" in looked.refusals[0].message
    assert (looked.rows, looked.reasons, looked.cleared, looked.left) == (
        *(found.rows, found.reasons),
        *(found.cleared, found.left),
    )
    assert (found.refusals, found.exit_code) == ((), 0)
    return found


def assert_a_run_takes_it(connect, database, target=DOCS, model=MODEL, **options):
    """Plans and runs; returns both."""
    found = planned(connect, database, target, model, **options)
    result = fill(database, target, model, **options)
    assert (found.rows, found.cleared) == (result.updated, result.cleared)
    assert sum(found.reasons.values()) == result.updated + (result.remaining or 0)
    return found, result


UNTRACKED = {
    "all missing": ("", {}),
    "some empty": ("UPDATE docs SET title = NULL WHERE id % 3 = 0", {}),
    "few missing, by an index": (PARTIAL, {}),
    "limit": ("", {"limit": 7}),
    "where": ("", {"target": replace(DOCS, where="id > 11")}),
    "set": ("", {"target": replace(DOCS, set=("seen = 1",))}),
    "zeros": (
        "UPDATE docs SET embedding = array_fill(0, ARRAY[8])::vector WHERE id > 30",
        {"target": replace(DOCS, zero_is_missing=True)},
    ),
}


@pytest.mark.parametrize("case", UNTRACKED)
def test_a_run_takes_what_was_planned(connect, database, case):
    setup, options = UNTRACKED[case]
    make_docs(connect, 40)
    connect.execute("UPDATE docs SET embedding = array_fill(1, ARRAY[8])::vector WHERE id > 35")
    connect.execute(setup)
    found, result = assert_a_run_takes_it(connect, database, allow_mixed=True, **options)
    assert (found.before, found.forecast) == (result.before, result.forecast)
    assert (found.reasons, found.tracked) == (result.selected, False)


def test_a_run_of_partitions_takes_what_was_planned(connect, database):
    make_partitioned_docs(connect)
    connect.execute("UPDATE docs SET title = '' WHERE id = 3")
    found, result = assert_a_run_takes_it(connect, database)
    assert (found.rows, found.left, found.before) == (19, {"empty": 1}, result.before)


def test_a_run_under_row_level_security_takes_what_was_planned(connect, database):
    make_docs(connect, 20)
    connect.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON docs USING (id > 10)")
    with role(connect, database) as uri:
        found, result = plan(DOCS, MODEL, database=uri, options=INLINE), run(DOCS, MODEL, database=uri, options=INLINE)
    assert (found.rows, found.row_security, found.exit_code) == (result.updated, True, 0)


EDITS = """
UPDATE docs SET title = 'new ' || id WHERE id IN (1, 2);
UPDATE docs SET title = 'newer' WHERE id = 2;
UPDATE docs SET title = title WHERE id = 3;
UPDATE docs SET title = 'x' WHERE id = 4; UPDATE docs SET title = 'title 4' WHERE id = 4;
UPDATE docs SET embedding = NULL WHERE id IN (5, 6); UPDATE docs SET title = 'x' WHERE id = 6;
DELETE FROM docs WHERE id IN (7, 8);
INSERT INTO docs (id, title, note) VALUES (51, 'a', ''), (52, NULL, '');
UPDATE docs SET title = ' ' WHERE id = 9;
UPDATE docs SET id = 100 WHERE id = 10; UPDATE docs SET id = 101, title = 'x' WHERE id = 11;
UPDATE docs SET embedding = array_fill(1, ARRAY[8])::vector WHERE id = 12;
INSERT INTO docs SELECT 60, 'a', '', 0, embedding FROM docs WHERE id = 13;
INSERT INTO docs SELECT 61, 'a', '', 0, embedding FROM docs WHERE id = 13; UPDATE docs SET title = 'b' WHERE id = 61
"""
"""Every kind of edit, of a row that the ledger knows and of one that it does not."""

OPTIONS = [({}, 9), ({"audit": True}, 9), ({"select": "missing"}, 3), ({"select": "all"}, 9), ({"limit": 2}, 2)]


@pytest.mark.parametrize(("options", "rows"), OPTIONS, ids=str)
def test_a_run_of_a_tracked_target_takes_what_was_planned(connect, database, options, rows):
    tracked_docs(connect, database)
    connect.execute(EDITS)
    queued = connect.execute("SELECT * FROM vecfill.change_1 ORDER BY ctid").fetchall()
    found = planned(connect, database, **options)
    assert connect.execute("SELECT * FROM vecfill.change_1 ORDER BY ctid").fetchall() == queued
    result = fill(database, **options)
    assert (found.rows, found.cleared) == (rows, 1)
    assert (result.updated, result.cleared) == (rows, 1)
    if not {"audit", "select"} & set(options):  # a run that reads all sees the queue only in its second sweep
        assert found.reasons == result.selected
    while fill(database).updated:
        pass
    assert plan(DOCS, MODEL, database=database).rows == 0


def test_a_run_after_truncate_takes_what_was_planned(connect, database):
    tracked_docs(connect, database)
    connect.execute("TRUNCATE docs; INSERT INTO docs (id, title, note) VALUES (1, 'a', '')")
    assert assert_a_run_takes_it(connect, database)[0].reasons == {"missing": 1, "changed": 0}


@pytest.mark.parametrize(("rest", "rows"), [(False, 25), (True, 35)])
def test_a_run_of_a_queue_table_takes_what_was_planned(connect, database, rest, rows):
    make_board(connect, 30)
    add_jobs(connect, 31, 40)
    connect.execute(
        "UPDATE embedding_queue SET status = 'processing', started_at = now() - interval '1 day' WHERE job_id <= 5;"
        "UPDATE embedding_queue SET status = 'processing', started_at = now() WHERE job_id IN (6, 7, 8);"
        "UPDATE jobs SET embedding = array_fill(1, ARRAY[8])::vector WHERE id = 9;"
        "UPDATE jobs SET title = NULL WHERE id = 10; DELETE FROM jobs WHERE id = 11;"
        "INSERT INTO embedding_queue (job_id, status) VALUES (1, 'pending')"
    )
    entries = connect.execute("SELECT * FROM embedding_queue ORDER BY id").fetchall()
    options = replace(INLINE, allow_mixed=True)
    found = plan(board(rest=rest), MODEL, database=database, options=options)
    assert connect.execute("SELECT * FROM embedding_queue ORDER BY id").fetchall() == entries
    result = run(board(rest=rest), MODEL, database=database, options=options)
    assert (found.rows, found.texts.distinct, found.refusals) == (rows, rows, ())
    assert found.reasons == result.selected == {"missing": rows - 1, "queued": 1}
    assert (result.updated, result.exit_code) == (rows, 0)


def test_an_edit_of_a_vector_of_unknown_origin_counts(connect, database):
    """The scan of the first run does not see it, its queue does."""
    make_docs(connect, 20)
    run(DOCS, MODEL, database=database, options=INLINE)
    track(DOCS, database=database)
    connect.execute(
        "UPDATE docs SET title = 'new' WHERE id = 1; UPDATE docs SET title = '' WHERE id = 2;"
        "UPDATE docs SET embedding = NULL WHERE id = 3"
    )
    found, _ = assert_a_run_takes_it(connect, database)
    assert (found.reasons, found.cleared, found.left) == ({"missing": 1, "changed": 1}, 1, {"unknown": 17})
    connect.execute("UPDATE docs SET title = 'newer ' || id WHERE id IN (11, 12)")
    for options in (RunOptions(), RunOptions(audit=True)):
        found = plan(DOCS, MODEL, database=database, options=options)
        assert (found.rows, found.texts.distinct, found.texts.sampled) == (2, 2, 2)


def test_an_attached_partition_is_counted_beside_the_queue(connect, database):
    make_partitioned_docs(connect)
    track(DOCS, database=database)
    fill(database)
    connect.execute(
        "ALTER TABLE docs DETACH PARTITION docs_2; UPDATE docs_2 SET title = 'edited' WHERE id IN (3, 5);"
        "ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES IN (2);"
        "UPDATE docs SET title = 'new' WHERE id IN (2, 3)"
    )
    found, _ = assert_a_run_takes_it(connect, database)
    assert found.reasons == {"missing": 0, "changed": 3}


def test_a_failed_row_is_planned_when_its_next_attempt_is_due(connect, database):
    failed_docs(connect, database)
    connect.execute("ALTER TABLE docs DROP CONSTRAINT no")
    found = plan(DOCS, MODEL, database=database)
    assert (found.rows, found.left) == (0, {"failed": 1})
    connect.execute("UPDATE vecfill.failure_1 SET next_try = now(); UPDATE docs SET title = 'new' WHERE id = 7")
    found, _ = assert_a_run_takes_it(connect, database)
    assert found.reasons == {"missing": 1, "changed": 1}


def test_another_model_is_planned_where_it_replaces(connect, database):
    tracked_docs(connect, database)
    refused = plan(DOCS, OTHER, database=database, options=INLINE)
    assert (refused.rows, refused.exit_code, refused.refusals) == (0, 0, ())
    connect.execute("UPDATE docs SET embedding = NULL WHERE id = 1")
    refused = plan(DOCS, OTHER, database=database, options=INLINE)
    assert (refused.rows, refused.exit_code) == (1, 2)
    with pytest.raises(ConfigError) as error:
        fill(database, model=OTHER)
    said = refused.refusals[0].message.replace("not in the ledger yet", "model 2 of the ledger")
    assert said == str(error.value)
    found, _ = assert_a_run_takes_it(connect, database, model=OTHER, select="all")
    assert found.reasons == {"missing": 1, "changed": 0, "other_model": 19, "unknown": 0}
    assert connect.execute("SELECT count(*) FROM vecfill.model").fetchone() == (2,)


def test_what_prevents_a_run_is_said_in_its_words(connect, database, monkeypatch):
    make_docs(connect, 40)
    monkeypatch.setattr("vecfill.backfill.forecast.MAX_ROWS", 30)
    with role(connect, database, "SELECT") as uri:
        found = plan(DOCS, MODEL, database=uri, options=INLINE)
        with pytest.raises(ConfigError) as error:
            run(DOCS, MODEL, database=uri, options=INLINE)
    assert [refusal.message for refusal in found.refusals] == [
        str(error.value),
        "refusing to start: 40 rows to write exceed the confirmation limit of 30; pass --yes to proceed or --limit to "
        "do part of it",
    ]
    assert (found.rows, found.exit_code) == (40, 2)
    assert plan(DOCS, MODEL, database=database, options=replace(INLINE, yes=True)).exit_code == 0


def test_a_run_in_progress_is_said(connect, database):
    tracked_docs(connect, database)
    with (
        closing(Session(Database(database))) as session,
        Lease(session, 30, stop=print) as lease,
    ):
        session.run(lambda held: lease.take(held, find_tracked(held, inspect(held, DOCS), DOCS)))
        found = plan(DOCS, MODEL, database=database, options=INLINE)
        with pytest.raises(LeaseError) as error:
            fill(database)
    (refusal,) = found.refusals
    assert (refusal.message.split("; if it died")[0], found.exit_code) == (str(error.value).split("; if it died")[0], 4)
    assert plan(DOCS, MODEL, database=database, options=INLINE).exit_code == 0


def test_what_a_plan_needs_too_is_an_error(connect, database):
    make_docs(connect, 3)
    with pytest.raises(ConfigError, match="--where does not work"):
        plan(replace(DOCS, where="true) or (true"), MODEL, database=database)
    with pytest.raises(ConfigError, match="needs a tracked target"):
        plan(DOCS, MODEL, database=database, options=RunOptions(audit=True))
    with pytest.raises(ConfigError, match="--measure would send texts to the API"):
        plan(DOCS, Model(name="openai:x"), database=database, estimates=PlanOptions(measure=True))


def test_a_sample_comes_from_all_over_the_table_and_says_so(connect, database, monkeypatch):
    monkeypatch.setattr(units, "MIN_BLOCK_ROWS", 64)
    monkeypatch.setattr(texts, "MIN_BLOCK_ROWS", 64)
    make_docs(connect, 3_000)
    connect.execute("UPDATE docs SET title = 'title ' || id % 10")
    target = Target(table="docs", text="{title}")
    found = plan(target, MODEL, database=database, options=INLINE, estimates=PlanOptions(sample=300))
    assert (found.texts.exact, found.texts.distinct) == (False, 10)
    assert 250 <= found.texts.sampled <= 320
    whole = plan(target, MODEL, database=database, options=INLINE, estimates=PlanOptions(sample=3_000))
    assert (whole.texts.exact, whole.texts.distinct, whole.texts.sampled) == (True, 10, 3_000)


def test_the_rate_is_that_of_the_last_run_or_measured_or_a_guess(connect, database):
    tracked_docs(connect, database, 600)
    connect.execute("UPDATE docs SET title = 'new' WHERE id < 100")
    last = plan(DOCS, MODEL, database=database, options=INLINE)
    (recorded,) = connect.execute("SELECT (counts->>'rows_per_s')::float FROM vecfill.run").fetchone()
    assert (last.rate.source, last.rate.rows_per_s, last.seconds) == ("run", recorded, 99 / recorded)
    assert "which wrote 600 rows" in last.rate.detail
    measured = plan(DOCS, MODEL, database=database, options=INLINE, estimates=PlanOptions(measure=True))
    assert (measured.rate.source, measured.rate.detail.split(",")[0]) == ("measured", "embedding 1 text here")
    limited = replace(INLINE, write_limits=replace(INLINE.write_limits, max_rate=1.0))
    assert plan(DOCS, MODEL, database=database, options=limited).seconds == 99
    unknown = Model(name="hash:8", truncate_dim=8)
    connect.execute("UPDATE vecfill.run SET model = 'another'")
    assert plan(DOCS, unknown, database=database, options=replace(INLINE, allow_mixed=True)).rate.source == "assumed"


def test_a_run_chooses_the_engine_that_was_planned(connect, database, caplog):
    make_docs(connect, 40)
    options = RunOptions(limit=7)
    found = plan(DOCS, MODEL, database=database, options=options).resources
    with caplog.at_level("INFO", "vecfill"):
        result = run(DOCS, MODEL, database=database, options=options)
    assert (found.engine, found.device) == (result.engine, result.device) == ("inline", "cpu")
    assert f"engine: inline ({found.reason})" in caplog.messages
    assert found.reason.startswith("7 rows are about 0 s of work")
    on_ray = plan(DOCS, MODEL, database=database, options=RunOptions(engine=EngineOptions(engine="ray", writers=2)))
    assert (on_ray.resources.reason, on_ray.resources.workers["write"]) == ("as asked", 2)
    absent = plan(DOCS, MODEL, database=database, options=RunOptions(engine=EngineOptions(gpus_per_actor=0.5)))
    assert (absent.exit_code, absent.resources.engine) == (0, "inline")


def test_measuring_compares_a_sample_of_the_vectors_with_the_model(connect, database):
    make_docs(connect, 40)
    connect.execute("UPDATE docs SET embedding = array_fill(1, ARRAY[8])::vector WHERE id > 20")
    without = plan(DOCS, MODEL, database=database, options=INLINE)
    assert without.exit_code == 0
    assert any("is not checked: --measure does" in note for note in without.notes)
    found = plan(DOCS, MODEL, database=database, options=INLINE, estimates=PlanOptions(measure=True))
    with pytest.raises(ConfigError) as error:
        run(DOCS, MODEL, database=database, options=INLINE)
    assert (found.refusals[0].message, found.exit_code, found.rate.source) == (str(error.value), 2, "measured")
