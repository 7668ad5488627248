"""Tracked targets under faults: what leaves and comes back, other roles, other runs, kills, and a ledger that goes."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace

import psycopg
import pytest
from tests.ledger.tracked import assert_current, fill, make_partitioned_docs, queue, tracked_docs
from tests.tables import (
    DOCS,
    INLINE,
    MODEL,
    assert_every_vector_is_its_texts,
    make_docs,
    meanwhile,
    role,
)

from vecfill import ConfigError, LeaseError, MixedModelsError, VecfillError, run, track, untrack
from vecfill.config.engine import EngineOptions
from vecfill.config.run import RunOptions
from vecfill.ledger.trigger_sql import TRIGGERS

pytestmark = pytest.mark.slow

OTHER = replace(MODEL, truncate_dim=8)
"""The same vectors under another fingerprint."""

ZERO = "array_fill(0, ARRAY[8])::vector"
DIMENSION, ZEROS = replace(DOCS, dim=8), replace(DOCS, zero_is_missing=True)

EDIT_2 = "UPDATE docs_2 SET title = 'unseen' WHERE id < 4"


@pytest.mark.parametrize(
    "edit",
    [
        f"ALTER TABLE docs DETACH PARTITION docs_2; {EDIT_2};"
        "ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES IN (2)",
        f"ALTER TABLE docs_2 DISABLE TRIGGER USER; {EDIT_2}",
        "UPDATE docs SET title = 'moved', part = 3 - part WHERE id IN (3, 4)",
    ],
    ids=["detached", "disabled", "moved with another text"],
)
def test_edits_that_a_partition_hides_are_found(database, connect, edit):
    make_partitioned_docs(connect)
    track(DOCS, database=database)
    assert fill(database).updated == 20
    connect.execute(edit)
    assert fill(database).updated == 2
    assert_current(connect)


def test_another_model_in_a_detached_partition_does_not_count(database, connect):
    make_partitioned_docs(connect)
    track(DOCS, database=database)
    assert fill(database).updated == 20
    connect.execute("ALTER TABLE docs DETACH PARTITION docs_2")
    assert fill(database, model=OTHER, select="all").updated == 10
    connect.execute("UPDATE docs SET title = 'x' WHERE id = 2")
    assert fill(database, model=OTHER).updated == 1
    connect.execute(f"ALTER TABLE docs ATTACH PARTITION docs_2 FOR VALUES IN (2); {EDIT_2}")
    with pytest.raises(MixedModelsError, match="holds 10 by hash:8"):
        fill(database, model=OTHER)


def test_edits_while_triggers_were_disabled_are_found_after_track_is_repeated(database, connect):
    tracked_docs(connect, database)
    connect.execute("ALTER TABLE docs DISABLE TRIGGER USER; UPDATE docs SET title = 'unseen' WHERE id < 4")
    track(DOCS, database=database)
    assert fill(database).updated == 3
    assert_current(connect)


def test_edits_of_rows_that_where_excludes_do_not_stay_in_the_queue(database, connect):
    """Here of rows whose vectors another target of the column made."""
    make_docs(connect, 10)
    first, second = (replace(DOCS, where=f"id % 2 = {n}") for n in (0, 1))
    for target in (first, second):
        track(target, database=database)
        assert fill(database, target).updated == 5
    connect.execute("UPDATE docs SET title = 'x ' || id WHERE id < 5")
    for number, target in enumerate((first, second), 1):
        found = fill(database, target)
        assert (found.updated, found.queued_after, queue(connect, number)) == (2, 0, {})
    connect.execute("UPDATE docs SET id = 101 WHERE id = 2")  # from one target to the other
    assert [fill(database, target).updated for target in (first, second)] == [0, 1]
    assert_current(connect)


def test_what_a_policy_hides_from_a_role_stays_in_the_queue(database, connect):
    tracked_docs(connect, database)
    with role(connect, database) as uri:
        name = connect.execute("SELECT 'filler_' || current_database()").fetchone()[0]
        for grant in track(DOCS, database=database).grants:
            connect.execute(grant.replace("TO ROLE", f'TO "{name}"'))
        connect.execute(
            "ALTER TABLE docs ENABLE ROW LEVEL SECURITY; CREATE POLICY half ON docs USING (id > 10);"
            "UPDATE docs SET title = 'x ' || id WHERE id IN (9, 11); DELETE FROM docs WHERE id IN (8, 12)"
        )
        found = fill(uri)
        assert (found.updated, found.row_security) == (1, True)
        assert fill(database).updated == 1
    assert queue(connect) == {}
    assert_current(connect)
    assert connect.execute("SELECT count(*) FROM vecfill.vector_1").fetchone() == (18,)


def rights_of(connect, database, target=DOCS):
    """The rights that ``track --dry-run`` prints, one a statement, for the role that ``role`` makes."""
    name = connect.execute("SELECT 'filler_' || current_database()").fetchone()[0]
    for grant in track(target, database=database, dry_run=True).grants:
        what, _, where = grant.removeprefix("GRANT ").partition(" ON ")
        for right in what.split(", "):
            yield right, where.removesuffix(" TO ROLE"), f'"{name}"'


def test_a_role_needs_the_grants_that_track_prints_each_of_them_and_no_more(database, connect):
    """Nor TEMPORARY: it sends arrays."""
    tracked_docs(connect, database, filled=False)
    connect.execute("ALTER TABLE docs ADD CHECK (title NOT LIKE 'bad%' OR embedding IS NULL)")
    connect.execute(f'REVOKE TEMPORARY ON DATABASE "{connect.info.dbname}" FROM PUBLIC')
    with role(connect, database, "SELECT, UPDATE (embedding)") as uri:
        rights = list(rights_of(connect, database))
        for right, where, name in rights:
            connect.execute(f"GRANT {right} ON {where} TO {name}")
        for right, where, name in rights:
            connect.execute(f"REVOKE {right} ON {where} FROM {name}")
            with pytest.raises(ConfigError, match=f"{right}.*GRANT|GRANT.*{right}|permission denied.*GRANT") as refused:
                fill(uri)
            assert "\n" not in str(refused.value)
            connect.execute(f"GRANT {right} ON {where} TO {name}")
        assert fill(uri).updated == 20
        connect.execute(
            "UPDATE docs SET title = 'x' WHERE id = 1; UPDATE docs SET title = 'bad', embedding = NULL WHERE id = 2;"
            "UPDATE docs SET title = '' WHERE id = 3; DELETE FROM docs WHERE id = 4"
        )
        found = fill(uri)
        assert (found.updated, found.failed, found.cleared, found.exit_code) == (1, 1, 1, 3)
        assert fill(uri, model=OTHER, select="all").updated == 17
        assert fill(uri, model=OTHER, select="missing", audit=True).exit_code == 0


@pytest.mark.parametrize(
    ("make", "target"),
    [
        ("id int, title text, embedding vector(8), sub text, PRIMARY KEY (sub, id)", DOCS),
        ("id text PRIMARY KEY, title text, embedding halfvec(8), sub text", DOCS),
        ("id numeric PRIMARY KEY, title text, embedding real[], sub text", DIMENSION),
        (f"id uuid PRIMARY KEY, title text, embedding vector(8) NOT NULL DEFAULT {ZERO}, sub text", ZEROS),
    ],
    ids=["composite", "text, halfvec", "numeric, array", "not null"],
)
def test_keys_and_columns_of_any_kind(database, connect, make, target):
    connect.execute(f"CREATE TABLE docs ({make})")
    kind = make.split()[1].rstrip(",")
    key = "md5({}::text)::uuid" if kind == "uuid" else f"{{}}::{kind}"
    connect.execute(
        f"INSERT INTO docs (id, title, sub) SELECT {key.format('n')}, 'title ' || n, 'ä''\"'"
        " FROM generate_series(1, 9) n"
    )
    target = replace(target, state_schema="other")
    track(target, database=database)
    assert fill(database, target).updated == 9
    connect.execute(
        f"UPDATE docs SET title = 'x' WHERE id = {key.format('1')}; DELETE FROM docs WHERE id = {key.format('2')};"
        f"UPDATE docs SET id = {key.format('22')} WHERE id = {key.format('3')};"
        f"UPDATE docs SET embedding = DEFAULT WHERE id = {key.format('4')}"
    )
    assert (fill(database, target).updated, fill(database, target).queued_after) == (3, 0)
    assert_every_vector_is_its_texts(connect, rows=8, tolerance=1e-3 if "halfvec" in make else 0.0)


def test_a_ledger_of_a_newer_version_is_refused(database, connect):
    tracked_docs(connect, database)
    connect.execute("UPDATE vecfill.ledger SET version = 99")
    for act in (fill, lambda database: track(DOCS, database=database), lambda one: untrack(DOCS, database=one)):
        with pytest.raises(ConfigError, match=r"has version 99.*upgrade vecfill"):
            act(database)


@pytest.mark.parametrize("schema", ["vecfill", "other"])
def test_two_columns_of_a_table_are_tracked_apart(database, connect, schema):
    make_docs(connect, 5)
    connect.execute("ALTER TABLE docs ADD other vector(8)")
    targets = (DOCS, replace(DOCS, text="{note}", column="other", state_schema=schema))
    for target in targets:
        track(target, database=database)
    assert [fill(database, target).updated for target in targets] == [5, 5]
    connect.execute("UPDATE docs SET title = 'x' WHERE id < 3; UPDATE docs SET note = 'y' WHERE id = 1")
    assert [fill(database, target).updated for target in targets] == [2, 1]
    assert queue(connect) == {}
    assert connect.execute(f"SELECT count(*) FROM {schema}.change_2").fetchone() == (0,)
    untrack(targets[0], database=database)
    connect.execute("UPDATE docs SET note = 'z'")
    assert fill(database, targets[1]).updated == 5


@pytest.mark.parametrize(
    ("before", "after", "updated"), [("int", "bigint", 2), ("varchar(4)", "varchar(40)", 2), ("bigint", "text", 1)]
)
def test_a_key_of_another_type_is_tracked_again(database, connect, before, after, updated):
    connect.execute(f"CREATE TABLE docs (id {before} PRIMARY KEY, title text, embedding vector(8))")
    connect.execute("INSERT INTO docs SELECT n, 'title ' || n FROM generate_series(1, 5) n")
    track(DOCS, database=database)
    fill(database)
    for name in TRIGGERS:
        connect.execute(f"DROP TRIGGER vecfill_1_{name} ON docs")
    connect.execute(f"ALTER TABLE docs ALTER id TYPE {after}; UPDATE docs SET title = 'x' WHERE id = 1::{after}")
    assert track(DOCS, database=database).changed
    connect.execute("INSERT INTO docs VALUES ('5000000000', 'new')")
    assert fill(database).updated == updated
    assert connect.execute("SELECT count(*) FROM vecfill.vector_1").fetchone()[0] == (6 if updated == 2 else 1)


@pytest.mark.parametrize("table", ["vector_1", "change_1", "failure_1", "model"])
def test_a_table_of_the_ledger_that_was_dropped_is_named_and_untrack_still_works(database, connect, table):
    tracked_docs(connect, database, 3)
    connect.execute(f"DROP TABLE vecfill.{table} CASCADE")
    with pytest.raises(
        ConfigError, match=f"dropped .*{table}.* of the ledger: run `vecfill untrack`, then `vecfill track`"
    ):
        fill(database)
    untrack(DOCS, database=database)
    connect.execute("UPDATE docs SET title = 'x' WHERE id = 1")
    track(DOCS, database=database)
    assert fill(database, select="all").updated == 3
    assert_current(connect)


@pytest.mark.parametrize("table", ["vector_1", "change_1", "failure_1"])
def test_track_makes_a_table_of_its_target_that_was_dropped(database, connect, table):
    tracked_docs(connect, database, 3)
    connect.execute(f"DROP TABLE vecfill.{table}")
    assert track(DOCS, database=database).changed
    connect.execute("UPDATE docs SET title = 'x' WHERE id = 1")
    assert fill(database).updated == 1
    assert_current(connect)


def test_an_embedding_column_that_was_renamed_is_not_taken_for_untracked(database, connect):
    tracked_docs(connect, database, 3)
    connect.execute("ALTER TABLE docs RENAME embedding TO vec; UPDATE docs SET title = 'x' WHERE id = 1")
    renamed = replace(DOCS, column="vec")
    for verb in (fill, lambda database, target: track(target, database=database)):
        with pytest.raises(ConfigError, match="its column embedding, which it no longer has"):
            verb(database, renamed)
    untrack(DOCS, database=database)
    assert not connect.execute("SELECT FROM pg_trigger WHERE tgname LIKE 'vecfill%'").fetchall()
    assert connect.execute("SELECT to_regnamespace('vecfill')").fetchone() == (None,)


def test_another_holder_is_named_and_taken_over_when_its_lease_has_ended(database, connect):
    tracked_docs(connect, database, filled=False)
    hold = (
        "UPDATE vecfill.target SET holder = 'x', holder_name = 'ann@far, process 7', held_since = '2026-01-02 03:04Z'"
    )
    connect.execute(f"{hold}, held_until = clock_timestamp() + '1 h'::interval")
    with pytest.raises(LeaseError, match=r"ann@far, process 7 since 2026-01-02 03:04:00 UTC") as refused:
        fill(database)
    assert refused.value.exit_code == 4
    connect.execute("UPDATE vecfill.target SET held_until = clock_timestamp()")
    assert fill(database).updated == 20
    assert connect.execute("SELECT holder, held_until FROM vecfill.target").fetchone() == (None, None)


@pytest.mark.parametrize(
    ("change", "error", "step"),
    [
        ("DROP SCHEMA vecfill CASCADE", "was dropped while this run worked", "engine"),
        ("DROP SCHEMA vecfill CASCADE", "was dropped while this run worked", "sweep"),
        ("UPDATE vecfill.target SET holder = 'another'", "no longer holds", "engine"),
        ("UPDATE vecfill.target SET holder = 'another'", "no longer holds", "sweep"),
    ],
    ids=["dropped before", "dropped after a block", "taken over before", "taken over after a block"],
)
def test_a_run_that_loses_the_ledger_or_the_lease_ends_with_one_line(database, connect, change, error, step):
    tracked_docs(connect, database)
    connect.execute(
        "ALTER TABLE docs ADD old vector(8); UPDATE docs SET old = embedding; UPDATE docs SET title = 'x ' || id"
    )

    def act(progress):
        if progress.step == step and (step == "engine" or progress.done):
            with contextlib.suppress(psycopg.errors.UndefinedTable):
                connect.execute(change)

    with pytest.raises(VecfillError, match=error) as ended:
        run(DOCS, MODEL, database=database, options=INLINE, progress=act)
    assert "\n" not in str(ended.value)
    assert ended.value.exit_code == (4 if "holds" in error else 1)
    written = connect.execute("SELECT embedding IS DISTINCT FROM old FROM docs").fetchall()
    assert set(written) == {(step == "sweep",)}
    connect.execute("UPDATE docs SET embedding = NULL WHERE embedding = old")
    assert_every_vector_is_its_texts(connect)


def test_a_run_beside_an_application_that_edits_all_the_time_ends(database, connect):
    tracked_docs(connect, database, 300)
    with meanwhile(lambda done: edit_until(done, database)):
        found = [fill(database) for _ in range(3)]
    assert all(one.exit_code in (0, 5) for one in found)
    assert fill(database).exit_code == 0
    assert queue(connect) == {}
    assert_current(connect)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own settings, at its import
def test_a_run_on_ray_beside_an_application_that_edits_all_the_time_ends(database, connect, warm):
    tracked_docs(connect, database, 300, filled=False)
    ray = RunOptions(engine=EngineOptions(engine="ray"))
    with meanwhile(lambda done: edit_until(done, database)):
        assert run(DOCS, MODEL, database=database, options=ray, warm=warm).exit_code in (0, 5)
    assert fill(database).exit_code == 0
    assert queue(connect) == {}
    assert_current(connect)


def edit_until(done, database):
    """Edits of one session after the other, each of a few rows, a key, a deleted and a new one."""
    with psycopg.connect(database, autocommit=True) as session:
        for number in itertools.count(1_000):
            if done.wait(0.01):  # or it would take the run's processor
                return
            first = number % 300
            session.execute(
                f"UPDATE docs SET title = 'edit {number} ' || id WHERE id BETWEEN {first} AND {first + 3};"
                f"UPDATE docs SET id = {number} WHERE id = {first}; DELETE FROM docs WHERE id = {first + 1};"
                f"INSERT INTO docs (id, title, note) VALUES ({-number}, 'new', '');"
                f"UPDATE docs SET title = '' WHERE id = {first + 2}"
            )
