"""What doctor finds on real tables, healthy and sick, and that it neither writes nor waits."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.diagnosis.sick import examiner, findings, severities, understood
from tests.ledger.tracked import fill, make_partitioned_docs, tracked_docs
from tests.tables import DOCS, MODEL, another, make_docs, meanwhile, rest, role, vectors, wait_until

import vecfill as package
from vecfill import ConfigError, Model, Target, doctor
from vecfill.diagnosis import table_checks
from vecfill.diagnosis.meanings import MEANINGS

PAGE = Path(package.__file__).parents[2] / "docs" / "doctor.md"


@pytest.fixture
def examine(database):
    return examiner(database, DOCS, MODEL)


def test_a_healthy_tracked_table_has_no_finding(connect, database, examine):
    tracked_docs(connect, database)
    found = examine(measure=True)
    assert (severities(found), found.exit_code) == ({}, 0)
    assert {"tracking-triggers", "change-queue", "update-cost", "ledger-rows", "last-run"} <= {
        one.name for one in found.findings
    }


@pytest.mark.parametrize("rows", [0, 20])
def test_a_table_that_was_never_filled_is_advised_to_be(connect, examine, rows):
    make_docs(connect, rows)
    found = examine()
    assert severities(found, "update-cost") == ({"coverage": "advice"} if rows else {})


def test_a_partitioned_table_is_measured_in_its_biggest_partition(connect, database, examine):
    make_partitioned_docs(connect)
    before = vectors(connect)
    assert severities(examine(measure=True)) == {"coverage": "advice"}
    assert vectors(connect) == before


def test_the_measurement_leaves_nothing(connect, database, examine):
    tracked_docs(connect, database)
    connect.execute("CREATE INDEX near ON docs USING hnsw (embedding vector_cosine_ops)")
    before = rest(connect), sorted(vectors(connect))
    (cost,) = findings(examine(measure=True), "update-cost")
    assert re.match(
        r"\d+\.\d\d ms per row, [\d,]+ blocks of its indexes: near \d+ .* \(10 rows, rolled back\)", cost.what
    )
    assert "docs_pkey" in cost.what
    assert (rest(connect), sorted(vectors(connect))) == before
    assert connect.execute("SELECT count(*) FROM vecfill.change_1").fetchone() == (0,)


def test_rows_that_others_hold_are_not_measured(connect, database, examine):
    make_docs(connect, 5)
    with another(database) as holder:
        holder.execute("SELECT FROM docs FOR UPDATE")
        (cost,) = findings(examine(measure=True), "update-cost")
    assert (cost.severity, "no row to try it on" in cost.what) == ("unknown", True)


def test_a_trigger_that_keeps_or_changes_vectors_is_found_and_named(connect, examine):
    make_docs(connect, 5)
    connect.execute(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF OLD.id = 1 THEN RETURN NULL; END IF; NEW.embedding := OLD.embedding; RETURN NEW; END $$;"
        "CREATE TRIGGER guard BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION keep()"
    )
    found = examine(measure=True)
    (refused,) = findings(found, "update-refused")
    assert "1 were not updated and 4 hold another vector" in refused.what
    assert [one.what for one in findings(found, "triggers")] == ["guard calls public.keep, enabled"]


def test_a_constraint_that_refuses_random_vectors_is_advice(connect, examine):
    make_docs(connect, 5)
    connect.execute("ALTER TABLE docs ADD CONSTRAINT no CHECK (embedding IS NULL)")
    (refused,) = findings(examine(measure=True), "update-refused")
    assert (refused.severity, 'violates check constraint "no"' in refused.what) == ("advice", True)


def test_a_table_without_the_column_is_a_finding_with_the_statement_that_adds_it(connect, database, examine):
    make_docs(connect, 3)
    connect.execute("ALTER TABLE docs RENAME embedding TO old")
    found = examine()
    (broken,) = findings(found, "target")
    assert broken.what == "public.docs has no column embedding; it has old vector(8)"
    assert broken.remedy == ('ALTER TABLE "public"."docs" ADD COLUMN "embedding" vector(8);',)
    assert findings(found, "table-lock")
    connect.execute(broken.remedy[0])
    assert not findings(examine(), "target")


def test_a_model_of_another_dimension_and_a_table_without_a_key(connect, database):
    make_docs(connect, 3)
    connect.execute("ALTER TABLE docs DROP CONSTRAINT docs_pkey")
    found = examiner(database, DOCS, Model(name="hash:4"))()
    assert severities(found) == {"key": "problem", "model": "problem", "coverage": "advice"}
    assert findings(found, "key")[0].remedy == ('ALTER TABLE "public"."docs" ADD PRIMARY KEY ("id");',)
    assert findings(found, "model")[0].remedy == ('ALTER TABLE "public"."docs" ADD COLUMN "embedding_4" vector(4);',)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"table": "nowhere"}, "no such table"), ({"text": "{titel}"}, "titel"), ({"where": "tilte = 1"}, "--where")],
)
def test_what_the_user_wrote_wrong_is_an_error_of_configuration(connect, database, wrong, says):
    make_docs(connect)
    with pytest.raises(ConfigError, match=says):
        doctor(replace(DOCS, **wrong), database=database)
    with pytest.raises(ConfigError, match=r"holds no embedder|there is no folder"):
        doctor(DOCS, Model(name="./nowhere"), database=database)


def test_invalid_and_harmful_indexes_with_their_statements(connect, examine):
    make_docs(connect, 3)
    connect.execute(
        "CREATE INDEX near ON docs USING hnsw (embedding vector_l2_ops);"
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'near'::regclass;"
        "UPDATE pg_extension SET extversion = '0.8.1' WHERE extname = 'vector'"
    )
    found = examine()
    (invalid,) = findings(found, "index-invalid")
    assert invalid.remedy == ("REINDEX INDEX CONCURRENTLY public.near;",)
    mends = [one.remedy for one in findings(found, "pgvector-version")]
    assert ("ALTER EXTENSION vector UPDATE;", "REINDEX INDEX CONCURRENTLY public.near;") in mends
    assert "serves <->" in findings(found, "vector-index")[0].what


def test_an_index_that_a_search_cannot_use(connect, examine):
    make_docs(connect, 3)
    connect.execute("CREATE INDEX near ON docs USING hnsw ((binary_quantize(embedding)::bit(8)) bit_hamming_ops)")
    (found,) = findings(examine(), "index-operator")
    assert "`vecfill search` can use none of public.near (hnsw, bit_hamming_ops)" in found.what


def test_a_big_table_is_estimated_from_a_sample(connect, examine, monkeypatch):
    make_docs(connect, 2_000)
    connect.execute("ALTER TABLE docs ADD created_at timestamptz DEFAULT now()")
    monkeypatch.setattr(table_checks, "COUNTED_PAGES", 1)
    monkeypatch.setattr(table_checks, "SAMPLED_PAGES", 10)
    found = examine()
    (coverage,) = findings(found, "coverage")
    assert re.match(r"about [\d,]+ of [\d,]+ rows have a text but no vector \(100%\)", coverage.what)
    assert not findings(found, "newest-vector")


def test_a_ledger_of_a_newer_version_is_a_finding(connect, database, examine):
    tracked_docs(connect, database)
    connect.execute("UPDATE vecfill.ledger SET version = 99")
    (ledger,) = findings(examine(), "ledger")
    assert (ledger.severity, "the ledger has version 99" in ledger.what) == ("problem", True)


def test_disabled_triggers_and_a_replication_role_with_what_mends_them(connect, database, examine):
    tracked_docs(connect, database)
    name = connect.execute("SELECT current_database()").fetchone()[0]
    connect.execute(
        f"ALTER TABLE docs DISABLE TRIGGER vecfill_1_edit;ALTER DATABASE {name} SET session_replication_role = replica"
    )
    found = examine()
    assert severities(found) == {"tracking-triggers": "problem", "replication-role": "problem"}
    for problem in found.findings[:2]:
        assert problem.remedy[1].endswith("--model hash:8 --audit")
        connect.execute(problem.remedy[0])
    assert severities(examine()) == {}


def test_a_tracked_target_is_migrated_to_a_model_of_another_dimension(connect, database):
    tracked_docs(connect, database)
    (model,) = findings(examiner(database, DOCS, Model(name="hash:4"))(), "model")
    assert model.remedy == ("vecfill migrate start --table public.docs --model hash:4",)


def test_what_the_ledger_says(connect, database, examine):
    tracked_docs(connect, database)
    connect.execute(
        "UPDATE docs SET title = 'new' WHERE id = 1; UPDATE vecfill.change_1 SET at = now() - interval '2 hours';"
        "ALTER TABLE docs DISABLE TRIGGER ALL; DELETE FROM docs WHERE id = 2; ALTER TABLE docs ENABLE TRIGGER ALL;"
        "UPDATE vecfill.run SET outcome = 'failed', exit_code = 1, counts = '{\"error\": \"the disk is full\"}'"
    )
    found = examine()
    assert understood(found) == ["run"]
    assert severities(found) == {"change-queue": "problem", "last-run": "problem", "ledger-rows": "advice"}
    assert "the disk is full" in findings(found, "last-run")[0].what
    connect.execute(findings(found, "ledger-rows")[0].remedy[0])
    assert fill(database).updated == 1
    assert severities(examine()) == {}


def test_a_role_that_may_only_read_is_told_what_it_lacks_and_what_was_not_checked(connect, database):
    make_docs(connect, 3)
    with role(connect, database, "SELECT") as uri:
        found = examiner(uri, DOCS, MODEL)(measure=True)
        assert severities(found) == {
            "privileges": "problem",
            "coverage": "advice",
            **dict.fromkeys(("old-transaction", "replication-lag", "update-cost"), "unknown"),
        }
        for statement in findings(found, "privileges")[0].remedy:
            connect.execute(statement)
        assert "privileges" not in severities(examiner(uri, DOCS, MODEL)())


def test_a_role_without_any_right_gets_a_page_too(connect, database):
    make_docs(connect, 3)
    with role(connect, database, "REFERENCES") as uri:
        found = examiner(uri, DOCS, MODEL)(measure=True)
    unchecked = ("old-transaction", "replication-lag", "update-cost", "coverage")
    assert severities(found) == {"privileges": "problem", **dict.fromkeys(unchecked, "unknown")}


def test_rights_on_the_ledger_that_are_missing_are_granted_by_the_statements(connect, database):
    tracked_docs(connect, database)
    with role(connect, database) as uri:
        name = conninfo_to_dict(uri)["user"]
        connect.execute(
            f"GRANT USAGE ON SCHEMA vecfill TO {name}; GRANT SELECT ON vecfill.ledger, vecfill.target TO {name}"
        )
        (lacks,) = findings(examiner(uri, DOCS)(), "ledger")
        for statement in lacks.remedy:
            connect.execute(statement)
        assert "ledger" not in severities(examiner(uri, DOCS, MODEL)())


def test_odd_names_are_quoted_in_every_statement(connect, database):
    make_docs(connect)
    connect.execute('CREATE TABLE "Odd {t}" ("I d" int, "te {x} t" text, "em{b}" vector(8))')
    target = Target(table='"Odd {t}"', text="te {x} t", column="em{b}")
    with role(connect, database) as uri:
        found = examiner(uri, target)()
        for statement in findings(found, "privileges")[0].remedy:
            connect.execute(statement)
        assert "privileges" not in severities(examiner(uri, target)())


def test_policies_that_hide_every_row(connect, database):
    make_docs(connect, 3)
    connect.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY; ANALYZE docs")
    with role(connect, database) as uri:
        found = examiner(uri, DOCS, MODEL)()
    (hidden,) = findings(found, "row-level-security")
    assert (hidden.severity, "hide every row" in hidden.what) == ("problem", True)


def test_a_table_that_another_session_has_locked_is_left_alone(connect, database, examine):
    make_docs(connect, 3)
    with another(database) as holder:
        holder.execute("LOCK docs IN ACCESS EXCLUSIVE MODE")
        found = examine(measure=True)
        assert severities(found) == {"table-lock": "problem", "target": "unknown"}
        (lock,) = findings(found, "table-lock")
        assert f"process {holder.info.backend_pid} of " in lock.what
        connect.execute(lock.remedy[0])
        with pytest.raises(psycopg.OperationalError):
            holder.execute("SELECT 1")


def test_a_request_that_waits_is_reported_with_who_it_waits_for(connect, database, examine):
    make_docs(connect, 3)
    with another(database) as reader, another(database) as owner:
        reader.execute("SELECT FROM docs")
        with meanwhile(lambda _: owner.execute("LOCK docs IN ACCESS EXCLUSIVE MODE")):
            wait_until(lambda: connect.execute("SELECT 1 FROM pg_locks WHERE NOT granted").fetchone())
            (lock,) = findings(examine(), "table-lock")
            reader.rollback()
        assert f"waits for AccessExclusiveLock on the table behind process {reader.info.backend_pid}" in lock.what


def test_a_policy_that_fails_hides_nothing_else(connect, database):
    make_docs(connect, 3)
    connect.execute("ALTER TABLE docs ENABLE ROW LEVEL SECURITY")
    connect.execute("CREATE POLICY own ON docs USING (id = current_setting('app.tenant')::int)")
    with role(connect, database) as uri:
        found = examiner(uri, DOCS, MODEL)()
    assert findings(found, "row-level-security")[0].severity == "problem"
    assert findings(found, "coverage")[0].severity == "unknown"
    assert findings(found, "key")[0].severity == "ok"


def test_a_target_without_text_or_model_is_examined_too(connect, database):
    make_docs(connect, 3)
    found = doctor(Target(table="docs"), database=database)
    assert severities(found) == {"coverage": "advice", "model": "unknown"}
    assert findings(found, "coverage")[0].remedy == ("vecfill run --table docs --text '{TITLE}' --model MODEL",)


def test_the_page_explains_every_finding_and_no_other():
    named = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert named == list(MEANINGS)


def test_the_command_prints_a_page_or_json_and_exits_by_what_it_found(connect, database, vecfill):
    make_docs(connect, 3)
    arguments = ("doctor", "-d", database, "-t", "docs", "--text", "{title}", "-m", "hash:8", "--no-measure")
    ended = vecfill(*arguments)
    assert (ended.code, ended.err) == (0, "")
    assert re.match(r"public\.docs\.embedding: 0 problems, [12] advice, 0 not checked, \d+ ok\n", ended.out)
    assert "\nok          key: id\n" in ended.out
    assert "update-cost" not in ended.out
    connect.execute("ALTER TABLE docs SET (autovacuum_enabled = off)")
    ended = vecfill(*arguments, "--json")
    assert (ended.code, ended.json["exit_code"], ended.json["counts"]["problem"]) == (1, 1, 1)
    worst = ended.json["findings"][0]
    assert (worst["name"], worst["why"]) == ("autovacuum", MEANINGS["autovacuum"])
    assert worst["remedy"] == ["ALTER TABLE public.docs RESET (autovacuum_enabled);"]
    assert vecfill("doctor", "-d", database, "-t", "nowhere", "--json").code == 2
