"""Failures are remembered: left alone, tried again when there is a reason, forgotten when they no longer matter."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.ledger.test_models import OTHER
from tests.ledger.tracked import assert_current, fill, tracked_docs
from tests.tables import DOCS, MODEL, make_docs, role

from vecfill import ConfigError, RetryOptions, failures, retry, status, track

pytestmark = pytest.mark.slow

RAISE = "BEGIN IF NEW.title LIKE 'bad%' THEN {} END IF; RETURN NEW; END"
TRIGGER = (
    "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ {} $$;"
    "CREATE TRIGGER no BEFORE UPDATE OF embedding ON docs FOR EACH ROW EXECUTE FUNCTION no()"
)
FAULTS = {
    "constraint": ("ALTER TABLE docs ADD CONSTRAINT no CHECK (embedding IS NULL OR title NOT LIKE 'bad%')", "failed"),
    "trigger that raises": (TRIGGER.format(RAISE.format("RAISE 'no';")), "refused"),
    "trigger that returns nothing": (TRIGGER.format(RAISE.format("RETURN NULL;")), "refused"),
}
REMOVED = {"constraint": "ALTER TABLE docs DROP CONSTRAINT no"}

REASONS = {
    "text": lambda connect, database: connect.execute("UPDATE docs SET title = 'good' WHERE id = 3") and None,
    "model": lambda connect, database: {"model": OTHER, "allow_mixed": True},
    "time": lambda connect, database: connect.execute("UPDATE vecfill.failure_1 SET next_try = now()") and None,
    "key": lambda connect, database: retry(DOCS, RetryOptions(keys=("3",)), database=database) and None,
    "stage": lambda connect, database: retry(DOCS, RetryOptions(stage="write"), database=database) and None,
    "all": lambda connect, database: retry(DOCS, RetryOptions(all=True), database=database) and None,
}


def failed_docs(connect, database, fault="constraint"):
    """Row 3 fails, the others are filled; returns the run."""
    make_docs(connect, 20)
    connect.execute(FAULTS[fault][0])
    connect.execute("UPDATE docs SET title = 'bad' WHERE id = 3")
    track(DOCS, database=database)
    return fill(database)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_failed_row_is_left_alone_and_counted_beside_the_coverage(database, connect, fault):
    found = failed_docs(connect, database, fault)
    assert (found.exit_code, found.updated, getattr(found, FAULTS[fault][1])) == (3, 19, 1)
    for options in ({}, {"audit": True}):
        again = fill(database, **options)
        assert (again.exit_code, again.outcome, again.eligible, again.remaining) == (0, "complete", 0, 0)
        assert (again.after.failed, again.after.missing) == (1, 0)
    assert (again.after.filled, again.after.total) == (19, 20)
    (row,) = failures(DOCS, database=database).rows
    assert (row.key, row.model, row.stage, row.error_class, row.attempts) == ("3", "hash:8", "write", "row", 1)
    assert row.next_try - row.last_try == timedelta(minutes=15)
    retry(DOCS, RetryOptions(all=True), database=database)
    connect.execute(REMOVED.get(fault, "DROP TRIGGER no ON docs"))
    assert fill(database).updated == 1
    assert failures(DOCS, database=database).rows == ()
    assert_current(connect)


@pytest.mark.parametrize("reason", REASONS)
def test_a_failed_row_is_tried_again_for_a_reason(database, connect, reason):
    failed_docs(connect, database)
    assert fill(database).eligible == 0
    connect.execute(REMOVED["constraint"])
    options = REASONS[reason](connect, database) or {}
    found = fill(database, **options)
    assert (found.exit_code, found.updated) == (0, 1)
    assert failures(DOCS, database=database).rows == ()
    assert_current(connect)


def test_what_fails_again_waits_longer_and_a_new_text_begins_anew(database, connect):
    failed_docs(connect, database)
    for attempts in range(2, 10):
        retry(DOCS, RetryOptions(all=True), database=database)
        assert fill(database).exit_code == 3
        (row,) = failures(DOCS, database=database).rows
        assert row.attempts == attempts
        assert row.next_try - row.last_try == min(timedelta(minutes=15) * 2 ** (attempts - 1), timedelta(days=1))
    connect.execute("UPDATE docs SET title = 'bad again' WHERE id = 3")
    assert fill(database).exit_code == 3
    (row,) = failures(DOCS, database=database).rows
    assert row.attempts == 1


@pytest.mark.parametrize(
    "edit",
    [
        "DELETE FROM docs WHERE id = 3",
        "TRUNCATE docs",
        "UPDATE docs SET title = ' ' WHERE id = 3",
        "UPDATE docs SET id = 300, title = 'good' WHERE id = 3",
    ],
)
def test_a_failure_that_no_longer_matters_is_forgotten(database, connect, edit):
    failed_docs(connect, database)
    connect.execute(edit)
    found = fill(database)
    assert (found.exit_code, found.after.failed) == (0, 0)
    assert failures(DOCS, database=database).rows == ()


@pytest.mark.parametrize("audit", [False, True])
def test_a_row_that_keeps_its_outdated_vector_counts_as_filled_and_failed(database, connect, audit):
    tracked_docs(connect, database)
    connect.execute(FAULTS["trigger that raises"][0])
    connect.execute("UPDATE docs SET title = 'bad' WHERE id = 3; ANALYZE docs")
    assert fill(database).exit_code == 3
    after = fill(database, audit=audit).after
    assert (after.total, after.filled, after.missing, after.changed, after.failed) == (20, 20, 0, 0, 1)


def test_the_verbs_list_and_retry_by_any_key(database, connect, vecfill):
    connect.execute(
        "CREATE TABLE pairs (a int, b text, title text, embedding vector(8), PRIMARY KEY (a, b));"
        "INSERT INTO pairs SELECT n, 'b ' || n, 'title' FROM generate_series(1, 3) n;"
        "ALTER TABLE pairs ADD CHECK (embedding IS NULL OR a <> 2)"
    )
    target = replace(DOCS, table="pairs")
    track(target, database=database)
    assert fill(database, target).exit_code == 3
    given = ("-d", database, "-t", "pairs", "--text", "{title}")
    found = vecfill("failures", *given, "--json").json
    assert (found["table"], found["failures"][0]["key"]) == ("public.pairs", '(2,"b 2")')
    assert '(2,"b 2")' in vecfill("failures", *given).out
    ended = vecfill("retry", *given, "--key", '(2,"b 2")', "--key", "7", "--json")
    assert ended.json == {"table": "public.pairs", "rows": 1, "not_found": ["7"]}
    assert "no failure is remembered for key 7" in ended.err
    assert fill(database, target).eligible == 1
    assert vecfill("retry", *given).code == 2
    assert vecfill("retry", *given, "--all", "--stage", "write").code == 2
    assert "due now: 0;" in vecfill("retry", *given, "--stage", "encode").out


def test_an_untracked_target_remembers_nothing(database, connect):
    make_docs(connect, 3)
    with pytest.raises(ConfigError, match="failures needs a tracked target"):
        failures(DOCS, database=database)
    with pytest.raises(ConfigError, match="retry needs a tracked target"):
        retry(DOCS, RetryOptions(all=True), database=database)
    assert fill(database, model=MODEL).updated == 3


def test_who_may_only_read_is_told_what_is_missing(database, connect):
    failed_docs(connect, database)
    with role(connect, database, "SELECT") as place:
        found = status(DOCS, database=place)
        assert (found.coverage.total, found.ledger) == (20, None)
        assert "GRANT this role USAGE on the schema" in found.run_needs
        name = conninfo_to_dict(place)["user"]
        connect.execute(f'GRANT USAGE ON SCHEMA vecfill TO "{name}"')
        connect.execute(f'GRANT SELECT ON ALL TABLES IN SCHEMA vecfill TO "{name}"')
        assert status(DOCS, database=place).ledger.runs[0].exit_code == 3
        assert len(failures(DOCS, database=place).rows) == 1
        with pytest.raises(ConfigError, match="needs the grants"):
            retry(DOCS, RetryOptions(all=True), database=place)
