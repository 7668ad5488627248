"""What a run says that it will cost, beside what the server then counts; and the yes that a big one wants."""

from __future__ import annotations

import json
import logging
import os
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from tests.tables import DIM, DOCS, INLINE, add_docs, make_docs, relation_of, survey_of

import vecfill.backfill.forecast
from vecfill.backfill.forecast import Forecast, IndexForecast, check_confirmed, forecast, size
from vecfill.backfill.prepare import prepare
from vecfill.backfill.run import run
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database
from vecfill.postgres.session import Session
from vecfill.postgres.update_effects import update_effects

NOTHING = Forecast(rows=0, wal_bytes=0, growth_bytes=0, dead_rows=0, triggers=(), publications=(), vector_indexes=())


def fill(database: str, dim: int = 8, target: Target = DOCS, **more):
    return run(target, Model(name=f"hash:{dim}"), database=database, **({"options": INLINE} | more))


def ahead(database: str, target: Target = DOCS, limit: int | None = None) -> Forecast:
    relation = relation_of(database, target)
    with Database(database).connect() as connection:
        return forecast(relation, survey_of(database, relation), update_effects(connection, relation), limit)


def wal(connect: psycopg.Connection) -> int:
    return connect.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::int8").fetchone()[0]


def bytes_of_table(connect: psycopg.Connection) -> int:
    return connect.execute("SELECT pg_total_relation_size('docs')").fetchone()[0]


@pytest.mark.parametrize(
    ("vector", "dim", "index"),
    [
        ("vector(8)", 8, ""),
        ("vector(384)", 384, ""),
        ("halfvec(384)", 384, "CREATE INDEX ON docs (note); CREATE INDEX ON docs (title)"),
        ("vector(768)", 768, ""),  # out of line
    ],
)
def test_wal_and_growth_are_about_what_was_said(connect, database, vector, dim, index):
    make_docs(connect, 4_000, vector=vector)
    connect.execute("VACUUM (ANALYZE) docs")
    connect.execute(index)
    before = wal(connect), bytes_of_table(connect)
    said = fill(database, dim).forecast
    after = wal(connect), bytes_of_table(connect)
    assert said.rows == said.dead_rows == 4_000
    assert 0.7 < (after[0] - before[0]) / said.wal_bytes < 1.4
    assert 0.7 < (after[1] - before[1]) / said.growth_bytes < 1.4


def test_a_row_of_384_dimensions_is_about_two_kilobytes_of_wal(connect, database):
    """2.05 KB were measured (FACTS)."""
    make_docs(connect, 10_000, vector="vector(384)")
    connect.execute("ANALYZE docs")
    assert ahead(database).wal_bytes / 10_000 == pytest.approx(2_050, rel=0.15)
    assert ahead(database, limit=100).rows == 100


def test_triggers_publications_and_vector_indexes_are_named(connect, database, caplog):
    make_docs(connect, 10)
    connect.execute("CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$")
    for name, when in (
        ("always", "BEFORE UPDATE ON docs FOR EACH ROW"),
        ("vectors", "AFTER UPDATE OF embedding ON docs FOR EACH ROW"),
        ("assigned", "AFTER INSERT OR UPDATE OF seen ON docs FOR EACH ROW"),
        ("titles", "AFTER UPDATE OF title ON docs FOR EACH ROW"),
        ("inserts", "BEFORE INSERT ON docs FOR EACH ROW"),
        ("statements", "AFTER UPDATE ON docs FOR EACH STATEMENT"),
        ("off", "BEFORE UPDATE ON docs FOR EACH ROW"),
    ):
        connect.execute(f"CREATE TRIGGER {name} {when} EXECUTE FUNCTION act()")
    connect.execute("ALTER TABLE docs DISABLE TRIGGER off")
    connect.execute("CREATE PUBLICATION theirs FOR TABLE docs; CREATE PUBLICATION everything FOR ALL TABLES")
    connect.execute("CREATE PUBLICATION inserts FOR TABLE docs WITH (publish = 'insert')")
    connect.execute("CREATE INDEX near ON docs USING hnsw (embedding vector_cosine_ops)")
    connect.execute("CREATE INDEX half ON docs USING hnsw ((embedding::halfvec(8)) halfvec_cosine_ops)")
    connect.execute("ALTER TABLE docs ADD COLUMN old vector(8)")
    connect.execute("CREATE INDEX before ON docs USING hnsw (old vector_cosine_ops)")
    found = ahead(database)
    assert found.triggers == ("always", "vectors")
    assert found.publications == ("everything", "theirs")
    assert (found.vector_indexes, found.indexes_beside) == (("half", "near"), ("before",))
    assert ahead(database, replace(DOCS, set=("seen = 1",))).triggers == ("always", "assigned", "vectors")
    with caplog.at_level(logging.INFO, "vecfill"):
        assert fill(database).forecast == found
    said = [record.getMessage() for record in caplog.records]
    assert any("public.docs: 10 rows to write, about" in line for line in said)
    assert "each row fires the triggers always, vectors" in said
    assert "each row is replicated by the publications everything, theirs" in said
    assert any("updates the vector indexes half, near, at 60 to 170 times the cost" in line for line in said)
    assert any("also updates the index before of another column" in line for line in said)


def test_what_the_partitions_have_counts(connect, database):
    connect.execute(
        "CREATE TABLE docs (id int PRIMARY KEY, title text, embedding vector(8)) PARTITION BY RANGE (id);"
        "CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (100);"
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;"
        "CREATE TRIGGER leaf BEFORE UPDATE ON docs_1 FOR EACH ROW EXECUTE FUNCTION act();"
        "CREATE TRIGGER root AFTER UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act();"
        "CREATE INDEX near ON docs_1 USING hnsw (embedding vector_cosine_ops);"
        "CREATE PUBLICATION tree FOR TABLE docs; CREATE PUBLICATION leaf FOR TABLE docs_1;"
        "INSERT INTO docs VALUES (1, 'one', NULL)"
    )
    for table in ("docs", "docs_1"):
        found = ahead(database, replace(DOCS, table=table))
        assert (found.triggers, found.publications, found.vector_indexes) == (
            ("leaf", "root"),
            ("leaf", "tree"),
            ("near",),
        )


# -- the yes


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (replace(NOTHING, rows=5_000_000, wal_bytes=10**10), None),
        (replace(NOTHING, rows=50_000, vector_indexes=("near",)), None),
        (
            replace(NOTHING, rows=50_001, indexes_beside=("before",)),
            "50,001 rows to write through the vector index before exceed the confirmation limit of 50,000",
        ),
        (replace(NOTHING, rows=5_000_001), "5,000,001 rows to write exceed the confirmation limit of 5,000,000"),
        (replace(NOTHING, wal_bytes=12_340_000_000), "about 12.3 GB of WAL exceeds the confirmation limit of 10.0 GB"),
        (
            replace(NOTHING, rows=50_001, vector_indexes=("near",)),
            "50,001 rows to write through the vector index near exceed the confirmation limit of 50,000",
        ),
    ],
)
def test_what_is_above_a_bound(found, says):
    assert found.excess() == says


def test_no_option_is_recommended_that_the_verb_does_not_take():
    indexed = IndexForecast(names=("near",), keep_s=200.0, build_s=30.0)
    found = replace(NOTHING, rows=50_001, vector_indexes=("near",), indexed=indexed)
    with pytest.raises(ConfigError, match=r"see --index rebuild.*--limit to do part"):
        check_confirmed(found, lambda _: False, RunOptions())
    assert "--index rebuild" in found.lines("docs")[-1]
    assert "--index" not in found.lines("docs", offered=())[-1]
    with pytest.raises(ConfigError, match=r"near \(about 3 min\) exceed the .*; pass --yes to proceed$"):
        check_confirmed(found, lambda _: False, RunOptions(offered=()))


def test_a_run_above_a_bound_wants_a_yes(connect, database, monkeypatch):
    monkeypatch.setattr(vecfill.backfill.forecast, "MAX_ROWS", 5)
    make_docs(connect, 10)
    with pytest.raises(ConfigError, match="10 rows to write exceed the confirmation limit of 5; pass --yes") as error:
        fill(database)
    assert error.value.exit_code == 2
    asked: list[str] = []
    with pytest.raises(ConfigError, match="refusing to start"):
        fill(database, consent=lambda excess: bool(asked.append(excess)))
    assert asked == ["10 rows to write exceed the confirmation limit of 5"]
    assert connect.execute("SELECT count(embedding) FROM docs").fetchone() == (0,)
    assert fill(database, options=replace(INLINE, limit=5)).updated == 5
    assert fill(database, consent=lambda _: True).updated == 5
    add_docs(connect, 11, 20)
    assert fill(database, options=replace(INLINE, yes=True)).updated == 10


ASK = """
import sys
import vecfill.backfill.forecast
vecfill.backfill.forecast.MAX_ROWS = 5
from vecfill.cli import main
sys.argv = ["vecfill", "run", "-d", sys.argv[1], "-t", "docs", "--text", "title", "-m", "hash:8", "--engine", "inline",
            *sys.argv[2:]]
main()
"""


def test_without_a_terminal_the_command_ends_with_2(connect, database, vecfill, monkeypatch):
    monkeypatch.setattr("vecfill.backfill.forecast.MAX_ROWS", 5)
    make_docs(connect, 10)
    with Path(os.devnull).open() as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        command = ("run", "-d", database, "-t", "docs", "--text", "title", "-m", "hash:8", "--engine", "inline")
        found = vecfill(*command)
        assert found.code == 2
        assert "10 rows to write exceed the confirmation limit of 5; pass --yes" in found.err
        assert vecfill(*command, "--yes").code == 0


@pytest.mark.slow
def test_on_a_terminal_the_command_asks(connect, database):
    make_docs(connect, 10)
    for answer, code in (("n\n", 2), ("y\n", 0)):
        assert on_a_terminal([sys.executable, "-c", ASK, database], answer) == code


def on_a_terminal(command: list[str], answer: str) -> int:
    import pty

    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)
    seen = b""
    while b"Continue?" not in seen:
        seen += os.read(terminal, 1_000)
    os.write(terminal, answer.encode())
    try:
        while os.read(terminal, 1_000):
            pass
    except OSError:  # the terminal's other end is closed
        pass
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0.0 kB"),
        (1_500, "1.5 kB"),
        (999_000, "999.0 kB"),
        (10**6, "1.0 MB"),
        (10**10, "10.0 GB"),
        (10**16, "10,000.0 TB"),
    ],
)
def test_sizes(count, text):
    assert size(count) == text


def test_the_log_says_which_prompt_rows_get(connect, database, caplog, tmp_path):
    """By the model's small files, before it is loaded, so that the line shows with every engine."""
    files = {
        "modules.json": [{"type": "Transformer", "path": ""}, {"type": "Pooling", "path": "pool"}],
        "config.json": {"hidden_size": DIM},
        "pool/config.json": {"embedding_dimension": DIM},
        "config_sentence_transformers.json": {"prompts": {"query": "q: ", "document": "d: "}},
    }
    (tmp_path / "pool").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    make_docs(connect, 3)
    with caplog.at_level(logging.INFO, "vecfill"), closing(Session.connect(Database.resolve(database))) as session:
        prepare(session, DOCS, Model(name=str(tmp_path)), RunOptions())
        with pytest.raises(
            ConfigError, match=r"--prompt-name is 'x' but model .* has only these prompts: document, query"
        ):
            prepare(session, DOCS, Model(name=str(tmp_path), prompt_name="x"), RunOptions())
    assert "rows get the prompt 'd: '; the model also has query ('q: '): see --prompt-name" in caplog.messages
