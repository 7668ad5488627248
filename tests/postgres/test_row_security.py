"""A role that does not see every row: the verbs say so, and a table that only looks empty is no success."""

from __future__ import annotations

import logging

import pytest
from tests.tables import DOCS, INLINE, MODEL, make_docs, role

from vecfill import ConfigError, run, search, status

VERBS = {
    "run": lambda uri: run(DOCS, MODEL, database=uri, options=INLINE),
    "status": lambda uri: status(DOCS, database=uri),
    "search": lambda uri: search(DOCS, MODEL, "a text", database=uri),
}
OWN_ROWS = "CREATE POLICY own ON docs USING (note = 'note ' || current_setting('app.tenant', true))"


def secured(connect, rows, policy=""):
    make_docs(connect, rows)
    connect.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    connect.execute(policy)


@pytest.mark.parametrize("policy", ["", OWN_ROWS], ids=["no policy", "a policy that no row meets"])
@pytest.mark.parametrize(("analyzed", "held"), [(False, "8 kB of rows not analyzed yet"), (True, "about 40 rows")])
def test_a_table_that_only_looks_empty_is_no_success(connect, database, policy, analyzed, held):
    secured(connect, 40, policy)
    if analyzed:
        connect.execute("ANALYZE docs")
    with role(connect, database) as uri:
        for verb in VERBS.values():
            with pytest.raises(ConfigError, match=f"hides every row of public.docs from role .*, .* holds {held}: "):
                verb(uri)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("current_setting('app.tenant')", 'unrecognized configuration parameter "app.tenant" .SQLSTATE 42704.'),
        (
            "coalesce(current_setting('app.tenant', true), '')",
            'invalid input syntax for type bigint: "" .SQLSTATE 22P02.',
        ),
    ],
)
def test_a_policy_that_fails_without_its_setting_names_the_remedy(connect, database, setting, said):
    secured(connect, 40, f"CREATE POLICY own ON docs USING (id = ({setting})::bigint)")
    with role(connect, database) as uri:
        for verb in VERBS.values():
            with pytest.raises(ConfigError, match=f"on public.docs fails for role .*: {said}: set what the policies"):
                verb(uri)


def test_the_rows_of_partitions_are_counted_once(connect, database):
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8)) PARTITION BY RANGE (id)")
    connect.execute("CREATE TABLE docs_1 PARTITION OF docs DEFAULT; ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    connect.execute("INSERT INTO docs SELECT n, 'title ' || n FROM generate_series(1, 40) n; ANALYZE docs")
    with role(connect, database) as uri, pytest.raises(ConfigError, match="the table holds about 40 rows: "):
        VERBS["run"](uri)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_that_it_sees_some_rows_only(connect, database, verb, caplog):
    secured(connect, 40, OWN_ROWS)
    with role(connect, database) as uri, caplog.at_level(logging.WARNING):
        found = VERBS[verb](f"{uri} options='-c app.tenant=7'")
    assert found.row_security
    assert [record.message[:42] for record in caplog.records] == ["row-level security on public.docs applies "]
    if verb == "run":
        assert (found.exit_code, found.updated, found.after.total) == (0, 1, 1)


def test_an_empty_table_is_complete(connect, database):
    secured(connect, 0)
    with role(connect, database) as uri:
        assert VERBS["run"](uri).outcome == "complete"


def test_policies_of_a_partition_do_not_hide_rows_of_the_whole_table(connect, database):
    """They apply to a query of the partition alone, so the role reads it through its parent."""
    connect.execute("CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8)) PARTITION BY RANGE (id)")
    connect.execute("CREATE TABLE docs_1 PARTITION OF docs DEFAULT; ALTER TABLE docs_1 ENABLE ROW LEVEL SECURITY")
    connect.execute("INSERT INTO docs SELECT n, 'title ' || n FROM generate_series(1, 40) n")
    with role(connect, database) as uri:
        connect.execute(f"GRANT SELECT ON docs_1 TO filler_{connect.info.dbname}")
        assert VERBS["run"](uri).updated == 40
