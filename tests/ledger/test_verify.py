"""What is wrong with stored vectors, by key, and how a fix ends it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tests.ledger.tracked import assert_current, fill, tracked_docs
from tests.tables import DOCS, INLINE, MODEL, make_docs, role

from vecfill import ConfigError, LeaseError, MixedModelsError, VerifyOptions, run, track, verify
from vecfill.postgres.database import Database

pytestmark = pytest.mark.slow

OTHER = replace(MODEL, truncate_dim=8)
"""The same vectors under another fingerprint."""

ALL, FIX = VerifyOptions(all=True), VerifyOptions(fix=True)

OVERWRITE = "UPDATE docs SET embedding = (SELECT embedding FROM docs WHERE id = 20) WHERE id < 4"
FORGET = "DELETE FROM vecfill.vector_1 WHERE key0 < 4"
WRONG = {
    "old_text": "UPDATE docs SET title = 'x' WHERE id < 4",
    "overwritten": OVERWRITE,
    "zero": "UPDATE docs SET embedding = array_fill(0, ARRAY[8])::vector WHERE id < 4",
    "odd_norm": "UPDATE docs SET embedding = (SELECT array_agg(2 * x) FROM unnest(embedding::real[]) x)::vector"
    " WHERE id < 4",
    "differs": f"{FORGET}; {OVERWRITE}",
}


def states(found):
    return {row.key: row.state for row in found.rows}


@pytest.mark.parametrize("options", [VerifyOptions(sample=20), ALL])
@pytest.mark.parametrize("state", WRONG)
def test_what_is_wrong_with_a_vector_is_told_by_key_and_fixed(database, connect, state, options):
    tracked_docs(connect, database)
    found = verify(DOCS, MODEL, database=database, options=options)
    assert (found.counts, found.exit_code, found.rows) == ({"right": 20}, 0, ())
    connect.execute(WRONG[state])
    found = verify(DOCS, MODEL, database=database, options=options)
    assert (found.counts, found.off, found.exit_code) == ({"right": 17, state: 3}, 3, 1)
    assert states(found) == dict.fromkeys("123", state)
    assert all((row.cosine >= 0.98) == (state == "odd_norm") for row in found.rows)
    fixed = verify(DOCS, MODEL, database=database, options=replace(options, fix=True))
    assert (fixed.off, fixed.fixed.updated, fixed.exit_code) == (3, 3, 0)
    assert_current(connect)
    assert verify(DOCS, MODEL, database=database).counts == {"right": 20}


def test_the_ledger_tells_another_model_though_its_vectors_agree(database, connect):
    tracked_docs(connect, database, 5)
    found = verify(DOCS, OTHER, database=database)
    assert (found.counts, found.exit_code, found.rows[0].cosine) == ({"other_model": 5}, 1, 1.0)
    with pytest.raises(MixedModelsError, match=r"5 by hash:8 \(model 1 of the ledger\)"):
        verify(DOCS, OTHER, database=database, options=FIX)
    assert verify(DOCS, MODEL, database=database).off == 0


def test_vectors_without_provenance_are_compared_too_and_need_no_fix(database, connect):
    make_docs(connect, 5)
    fill(database)
    track(DOCS, database=database)
    found = verify(DOCS, MODEL, database=database, options=FIX)
    assert (found.counts, found.fixed, found.exit_code) == ({"unknown": 5}, None, 0)


@pytest.mark.parametrize("state", ["differs", "zero", "odd_norm"])
def test_an_untracked_target_tells_as_much_as_recomputing_does(database, connect, state):
    make_docs(connect, 20)
    fill(database)
    connect.execute(WRONG[state].removeprefix(f"{FORGET}; "))
    found = verify(DOCS, MODEL, database=database)
    assert (found.counts, found.tracked, found.exit_code) == ({"agrees": 17, state: 3}, False, 1)
    with pytest.raises(ConfigError, match="--fix needs a tracked target"):
        verify(DOCS, MODEL, database=database, options=FIX)


def test_where_selects_rows_of_the_tracked_target(database, connect):
    target = replace(DOCS, where="id <= 10 -- a half")
    make_docs(connect, 20)
    track(target, database=database)
    fill(database, target)
    run(replace(DOCS, where="id > 10", state_schema="elsewhere"), MODEL, database=database, options=INLINE)
    connect.execute(OVERWRITE)
    part = replace(DOCS, where="id % 2 = 1 OR id > 7")
    assert verify(part, MODEL, database=database).counts == {"right": 5, "overwritten": 2}
    assert verify(part, MODEL, database=database, options=FIX).fixed.updated == 2
    assert verify(DOCS, MODEL, database=database).counts == {"right": 9, "overwritten": 1}


def test_a_row_without_a_vector_or_a_text_is_not_compared(database, connect):
    tracked_docs(connect, database, 5)
    connect.execute("UPDATE docs SET embedding = NULL WHERE id = 1; UPDATE docs SET title = ' ' WHERE id = 2")
    assert verify(DOCS, MODEL, database=database).counts == {"right": 3}
    zero = "UPDATE docs SET embedding = array_fill(0, ARRAY[8])::vector WHERE id = 3"
    connect.execute(zero)
    assert verify(replace(DOCS, zero_is_missing=True), MODEL, database=database).counts == {"right": 2}


@pytest.mark.parametrize("options", [VerifyOptions(sample=7), ALL])
def test_a_composite_key_in_partitions(database, connect, options):
    connect.execute(
        "CREATE TABLE docs (id text, part int, title text, embedding real[], PRIMARY KEY (id, part))"
        " PARTITION BY LIST (part);"
        "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES IN (1);"
        "CREATE TABLE docs_2 PARTITION OF docs FOR VALUES IN (2);"
        "INSERT INTO docs SELECT 'a ''' || n, 1 + n % 2, 'title ' || n FROM generate_series(1, 7) n"
    )
    target = replace(DOCS, dim=8)
    track(target, database=database)
    fill(database, target)
    connect.execute("UPDATE docs SET embedding = '{1,2,3}' WHERE part = 2")
    found = verify(target, MODEL, database=database, options=options)
    assert found.counts == {"right": 3, "overwritten": 4}
    assert '("a \'1",2)' in states(found)
    fixed = verify(target, MODEL, database=database, options=replace(options, fix=True))
    assert (fixed.fixed.updated, fixed.exit_code) == (4, 0)
    assert verify(target, MODEL, database=database).counts == {"right": 7}


def test_an_index_finds_the_rows_or_not(database, connect):
    tracked_docs(connect, database, 200)
    assert verify(DOCS, MODEL, database=database).recall is None
    connect.execute(
        "UPDATE docs SET title = 'same' WHERE id <= 20;"
        "CREATE INDEX near ON docs USING hnsw (embedding vector_cosine_ops) WHERE seen = 0"
    )
    fill(database)
    assert verify(DOCS, MODEL, database=database).recall is None
    found = verify(replace(DOCS, where="seen = 0"), MODEL, database=database, options=ALL).recall
    assert (found.index, found.rows, found.found) == ("near", 100, 100)
    connect.execute(
        "DROP INDEX near; CREATE INDEX far ON docs USING ivfflat (embedding vector_cosine_ops) WITH (lists = 1);"
        "SET allow_system_table_mods = on; UPDATE pg_index SET indisready = false WHERE indexrelid = 'far'::regclass"
    )
    connect.execute("UPDATE docs SET embedding = (SELECT array_agg(-x) FROM unnest(embedding::real[]) x)::vector")
    connect.execute("UPDATE pg_index SET indisready = true WHERE indexrelid = 'far'::regclass")
    found = verify(DOCS, MODEL, database=database).recall
    assert (found.index, found.rows, found.found) == ("far", 100, 0)


@pytest.mark.parametrize(
    ("kind", "index"), [("halfvec(8)", "embedding halfvec_ip_ops"), ("real[]", "(embedding::vector(8)) vector_l1_ops")]
)
def test_an_index_of_any_kind_finds_rows_by_a_composite_key(database, connect, kind, index):
    connect.execute(
        f"CREATE TABLE docs (id text, part int, title text, embedding {kind}, PRIMARY KEY (id, part));"
        "INSERT INTO docs SELECT 'a, (' || n, n % 2, 'title ' || n FROM generate_series(1, 50) n"
    )
    fill(database)
    connect.execute(f"CREATE INDEX near ON docs USING hnsw ({index})")
    found = verify(DOCS, MODEL, database=database).recall
    assert (found.index, found.rows, found.found) == ("near", 50, 50)


def test_a_run_in_progress_keeps_the_fix_out(database, connect):
    tracked_docs(connect, database, 3)
    connect.execute(OVERWRITE.replace("20", "3"))
    connect.execute("UPDATE vecfill.target SET holder = 'x', held_until = now() + '1 h', held_since = now()")
    with pytest.raises(LeaseError, match="being worked on"):
        verify(DOCS, MODEL, database=database, options=FIX)


def test_a_role_that_may_only_read_can_verify(database, connect):
    tracked_docs(connect, database, 3)
    with role(connect, database, "SELECT") as reader:
        connect.execute(
            "GRANT USAGE ON SCHEMA vecfill TO PUBLIC; GRANT SELECT ON ALL TABLES IN SCHEMA vecfill TO PUBLIC"
        )
        assert verify(DOCS, MODEL, database=Database(reader)).counts == {"right": 3}


def test_the_command_names_the_rows_and_ends_with_1(database, connect, vecfill):
    tracked_docs(connect, database)
    given = ("verify", "-d", database, "-t", "docs", "--text", "{title}", "-m", "hash:8")
    assert vecfill(*given).out == "public.docs, hash:8: 20 compared: 20 right\n"
    connect.execute(WRONG["zero"])
    ended = vecfill(*given)
    assert (ended.code, len(ended.out.splitlines())) == (1, 4)
    assert "  zero: key 1: cosine 0.0000, length 0\n" in ended.out
    ended = vecfill(*given, "--json", "--fix")
    found = json.loads(ended.out)
    assert (ended.code, found["counts"], found["fixed"]["updated"]) == (0, {"right": 17, "zero": 3}, 3)
