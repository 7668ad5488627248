"""The origin's fault, named from the database alone: an upsert without required columns, and the queue behind it."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.diagnosis.sick import JOBS, NOT_NULL, UPSERT, examiner, findings, make_board, severities, understood
from tests.tables import MODEL, make_docs, role

from vecfill.config.queue_options import QueueOptions
from vecfill.diagnosis.task_tables import is_queue_of, meaning
from vecfill.diagnosis.upserts import Table, is_not_null_fault, missing_columns, without_detail

BOARD = Table(schema="public", name="jobs", embedding="embedding", required=("title", "company"))


def test_the_fault_of_the_origin_is_named_with_what_mends_it(connect, database, vecfill):
    make_board(connect)
    connect.execute(f"CREATE FUNCTION store(job uuid, vec vector) RETURNS void LANGUAGE sql AS $$ {UPSERT} $$")
    found = examiner(database, JOBS, MODEL)()
    assert found.exit_code == 1
    (fault,) = findings(found, "upsert-without-columns")
    assert fault.severity == "problem"
    assert "ON CONFLICT without title, company (NOT NULL, no default): public.store does" in fault.what
    assert f"public.embedding_queue has 100 times the error: {NOT_NULL}" in fault.what
    update, run = fault.remedy
    assert update.startswith('UPDATE "public"."jobs" SET "embedding" = $1 WHERE "id" = $2;')
    assert run == (
        "vecfill run --table public.jobs --text '{title} at {company}' --queue-table public.embedding_queue"
        " --queue-key job_id --queue-error error_message --model hash:8 --queue-rest"
    )
    for finding in found.findings:
        if finding.name.startswith("queue-") and finding.remedy:
            connect.execute(finding.remedy[0])
    assert vecfill(*shlex.split(run)[1:], "--allow-mixed", "-d", database).code == 0
    assert connect.execute("SELECT count(*) FROM jobs WHERE embedding IS NULL").fetchone() == (0,)
    assert understood(found) == ["run"]
    assert severities(found) == dict.fromkeys(
        ("upsert-without-columns", "queue-failing", "queue-stuck", "queue-without-vector", "coverage", "newest-vector"),
        "problem",
    )


def test_a_trigger_that_may_fill_the_columns_speaks_for_a_function(connect, database):
    make_board(connect)
    connect.execute("DELETE FROM embedding_queue; UPDATE jobs SET embedding = '[1,2,3,4,5,6,7,8]'")
    connect.execute(f"CREATE FUNCTION store(job uuid, vec vector) RETURNS void LANGUAGE sql AS $$ {UPSERT} $$")
    assert severities(examiner(database, JOBS)(), "model") == {"upsert-without-columns": "problem"}
    connect.execute(
        "CREATE FUNCTION filled() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.title := 'a'; NEW.company := 'b'; RETURN NEW; END $$;"
        "CREATE TRIGGER fill BEFORE INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION filled();"
        "SELECT store(id, embedding) FROM jobs"
    )
    assert severities(examiner(database, JOBS)(), "model") == {}


def test_the_statements_of_the_queue_put_its_tasks_back(connect, database):
    make_board(connect)
    examine = examiner(database, JOBS)
    for finding in examine().findings:
        if finding.name.startswith("queue-"):
            for statement in finding.remedy:
                connect.execute(statement)
    assert dict(connect.execute("SELECT status, count(*) FROM embedding_queue GROUP BY 1").fetchall()) == {
        "completed": 70,
        "pending": 253,
    }
    assert not {"queue-failing", "queue-stuck", "queue-without-vector"} & severities(examine()).keys()


@pytest.mark.parametrize("ever", [True, False])
def test_a_queue_that_stopped_and_keeps_no_error_text_raises_a_suspicion(connect, database, ever):
    """As on the board of the origin, where only the application's code had the statement."""
    make_board(connect, errors="")
    connect.execute("DELETE FROM embedding_queue WHERE status = 'failed'")
    if not ever:
        connect.execute("DELETE FROM embedding_queue WHERE status IN ('completed', 'pending')")
    (fault,) = findings(examiner(database, JOBS)(), "upsert-without-columns")
    assert fault.what.startswith("suspected: vectors of public.jobs are stored by INSERT … ON CONFLICT without title")
    done = " and 2 are done although their row has no vector" if ever else ""
    assert (
        f"of the entries of public.embedding_queue 3 stay in progress{done}, and no error text says why" in fault.what
    )


def test_another_error_or_a_young_queue_raises_none(connect, database):
    make_board(connect, errors="connection refused")
    assert "upsert-without-columns" not in severities(examiner(database, JOBS)())
    connect.execute("UPDATE embedding_queue SET error_message = NULL, created_at = now(), updated_at = now()")
    connect.execute("UPDATE embedding_queue SET status = 'pending' WHERE status = 'failed'")
    assert "upsert-without-columns" not in severities(examiner(database, JOBS)())


def test_jobs_and_errors_of_pg_cron_are_read(connect, database):
    make_board(connect, errors="")
    connect.execute("DROP TABLE embedding_queue; CREATE SCHEMA cron")
    connect.execute("CREATE TABLE cron.job (jobid int, command text)")
    connect.execute("CREATE TABLE cron.job_run_details (status text, command text, return_message text)")
    connect.execute("INSERT INTO cron.job VALUES (7, %s)", [UPSERT])
    connect.execute("INSERT INTO cron.job_run_details VALUES ('failed', 'SELECT fill()', %s)", [f"ERROR:  {NOT_NULL}"])
    (fault,) = findings(examiner(database, JOBS)(), "upsert-without-columns")
    assert "the job of pg_cron 7 does; cron.job_run_details has 1 time the error" in fault.what


def test_statements_that_were_planned_and_never_succeeded_and_searches_that_no_index_serves(connect, database):
    """A stand-in for pg_stat_statements, which the embedded server lacks; tried with the real one on 17.10."""
    make_board(connect)
    connect.execute(
        "DROP TABLE embedding_queue; CREATE SCHEMA stats; CREATE INDEX ON jobs USING hnsw (embedding vector_l2_ops)"
    )
    connect.execute("CREATE TABLE stats.pg_stat_statements (dbid oid, query text, calls int8)")
    connect.execute(
        "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)"
        " VALUES (99999, 'pg_stat_statements', 10, 'stats'::regnamespace, false, '1.11')"
    )
    for query, calls in ((UPSERT, 0), ("SELECT id FROM jobs ORDER BY embedding <=> $1", 5)):
        connect.execute(
            "INSERT INTO stats.pg_stat_statements SELECT oid, %s, %s FROM pg_database"
            " WHERE datname = current_database()",
            [query, calls],
        )
    found = examiner(database, JOBS)()
    assert (
        "a statement in pg_stat_statements that never succeeded does"
        in findings(found, "upsert-without-columns")[0].what
    )
    assert findings(found, "index-operator")[0].what.startswith("5 searches by <=>, which no index serves")
    connect.execute("UPDATE stats.pg_stat_statements SET calls = 3")
    assert "upsert-without-columns" not in severities(examiner(database, JOBS)())


def test_a_queue_without_a_foreign_key_is_known_by_its_names(connect, database):
    make_board(connect)
    connect.execute("ALTER TABLE embedding_queue DROP CONSTRAINT embedding_queue_job_id_fkey")
    assert findings(examiner(database, JOBS)(), "queue-failing")


def test_a_queue_table_of_the_settings_is_judged_as_a_run_sees_it(connect, database):
    make_board(connect)
    connect.execute(
        "INSERT INTO jobs (title, company) VALUES ('new', 'x');"
        "UPDATE embedding_queue SET status = 'dead' WHERE status = 'failed'"
    )
    queue = QueueOptions(
        **{"table": "embedding_queue", "key": ("job_id",), "failed": "dead"},
        **{"claimed": "updated_at", "error": "error_message"},
    )
    found = examiner(database, replace(JOBS, queue=queue, set=("updated_at = now()",)))()
    said = {
        (one.name, one.severity, one.remedy[0])
        for one in found.findings
        if one.name.startswith("queue-") and one.remedy
    }
    given = (
        "--table public.jobs --queue-table embedding_queue --queue-key job_id --queue-failed dead"
        " --queue-claimed updated_at --queue-error error_message"
    )
    run = f"vecfill run {given.replace('--queue-table', QUEUED)} --model MODEL"
    assert said == {
        ("queue-failing", "problem", f"vecfill retry {given} --all"),
        ("queue-stuck", "problem", run),
        ("queue-without-vector", "problem", f"vecfill retry {given} --lost"),
        ("queue-without-vector", "advice", f"{run} --queue-rest"),
        ("queue-table", "advice", 'CREATE INDEX CONCURRENTLY ON "public"."embedding_queue" ("job_id");'),
    }
    assert understood(found) == ["retry", "run"]
    assert NOT_NULL in findings(found, "upsert-without-columns")[0].what


def test_few_failed_entries_of_the_queue_table_wait_for_a_retry(connect, database):
    make_board(connect)
    connect.execute(
        "UPDATE embedding_queue SET status = 'completed';"
        "UPDATE embedding_queue SET status = 'failed' WHERE job_id = (SELECT job_id FROM embedding_queue LIMIT 1)"
    )
    queue = QueueOptions(table="embedding_queue", key=("job_id",))
    (found,) = findings(examiner(database, replace(JOBS, queue=queue))(), "queue-failing")
    assert (found.severity, found.remedy[0].split()[1], found.remedy[0].split()[-1]) == ("advice", "retry", "--all")


QUEUED = "--text '{title} at {company}' --set 'updated_at = now()' --queue-table"


def test_a_role_that_may_not_write_the_queue_table_of_the_settings(connect, database):
    make_board(connect)
    make_docs(connect)
    target = replace(JOBS, queue=QueueOptions(table="embedding_queue", key=("job_id",)))
    with role(connect, database) as uri:
        connect.execute(f"GRANT SELECT, UPDATE ON jobs TO {conninfo_to_dict(uri)['user']}")
        connect.execute(f"GRANT SELECT ON embedding_queue TO {conninfo_to_dict(uri)['user']}")
        (lacks,) = [one for one in findings(examiner(uri, target)(), "privileges") if one.severity == "problem"]
        connect.execute(lacks.remedy[0])
        assert "privileges" not in severities(examiner(uri, target)())


def test_a_queue_that_this_role_may_not_read_is_named(connect, database):
    make_board(connect)
    make_docs(connect)
    with role(connect, database) as uri:
        connect.execute(f"GRANT SELECT ON jobs TO {conninfo_to_dict(uri)['user']}")
        found = examiner(uri, JOBS)()
    (queue,) = findings(found, "queue-table")
    assert (queue.severity, "permission denied for table embedding_queue" in queue.what) == ("unknown", True)


@pytest.mark.parametrize(
    ("source", "absent"),
    [
        (UPSERT, [("title", "company")]),
        ('insert into "public"."jobs" as j ("id", "embedding", title) values (1)', [("company",)]),
        ("INSERT INTO jobs (id, title, company, embedding) VALUES (1)", []),
        ("INSERT INTO jobs (id, seen) VALUES (1)", []),
        ("INSERT INTO other.jobs (id, embedding) VALUES (1)", []),
        ("INSERT INTO jobs SELECT * FROM old", []),
        ('INSERT INTO "Jobs" (id, embedding) VALUES (1)', []),
    ],
)
def test_inserts_of_vectors_without_required_columns(source, absent):
    assert list(missing_columns(f"BEGIN {source}; END", BOARD)) == absent


def test_error_texts_of_a_missing_value():
    assert is_not_null_fault(NOT_NULL)
    assert is_not_null_fault("ERROR: 23502: Nullwert in Spalte", ["jobs"])
    assert [is_not_null_fault(NOT_NULL, [name]) for name in ("jobs", "listings")] == [True, False]
    assert not is_not_null_fault("connection refused on port 23502x")
    assert without_detail(f"{NOT_NULL}\nDETAIL:  Failing row contains (7, null, secret).") == NOT_NULL


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        *(
            (name, True)
            for name in ("embedding_queue", "job_queue", "jobs_outbox", "queue", "to_embed", "vector_tasks")
        ),
        *((name, False) for name in ("applications", "job_tasks", "email_queue", "jobs_archive", "job_alert_queue")),
    ],
)
def test_names_of_queues_of_embeddings(name, ours):
    assert is_queue_of(name, "jobs") is ours


def test_a_table_with_a_status_that_is_no_queue_is_left_alone(connect, database):
    make_board(connect)
    connect.execute("ALTER TABLE embedding_queue RENAME TO applications")
    assert not findings(examiner(database, JOBS)(), "queue-table")


def test_the_queue_of_another_table_is_left_alone(connect, database):
    """It refers to another table by a foreign key, or its schema has a table of the target's name."""
    make_board(connect)
    connect.execute(
        "CREATE SCHEMA other; CREATE TABLE other.jobs AS TABLE jobs; ALTER TABLE other.jobs ADD PRIMARY KEY (id);"
        "ALTER TABLE embedding_queue SET SCHEMA other; ALTER TABLE other.embedding_queue"
        " DROP CONSTRAINT embedding_queue_job_id_fkey, ADD FOREIGN KEY (job_id) REFERENCES other.jobs"
    )
    assert not findings(examiner(database, JOBS)(), "queue-table")
    connect.execute("ALTER TABLE other.jobs RENAME TO listings")
    assert not findings(examiner(database, JOBS)(), "queue-table")
    connect.execute("ALTER TABLE other.embedding_queue DROP CONSTRAINT embedding_queue_job_id_fkey")
    assert findings(examiner(database, JOBS)(), "queue-table")


def test_words_for_a_status():
    assert [meaning(word) for word in ("In Progress", "COMPLETED", "queued", "error", "blue")] == [
        *("taken", "done", "pending", "failed"),
        None,
    ]
