"""Another session changes the target during a run: the run goes on with what is there, or stops with one clear line."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from tests.tables import DIM, DOCS, INLINE, MODEL, assert_every_vector_is_its_texts, role

import vecfill.backfill.drain
from vecfill import track
from vecfill.backfill.run import run
from vecfill.config.engine import EngineOptions
from vecfill.config.run import RunOptions
from vecfill.errors import ConfigError, PartialRunError
from vecfill.read.source import TableSource

pytestmark = pytest.mark.slow

ROWS = 600
"""Of each of three partitions; the third is attached only by the other session."""

PARTITIONED = f"""
CREATE TABLE docs (id bigint PRIMARY KEY, title text, note text, embedding vector({DIM})) PARTITION BY RANGE (id);
CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO ({ROWS});
CREATE TABLE docs_2 PARTITION OF docs FOR VALUES FROM ({ROWS}) TO ({2 * ROWS});
CREATE TABLE docs_3 (LIKE docs INCLUDING ALL);
INSERT INTO docs_3 SELECT n, 'title ' || n, '' FROM generate_series({2 * ROWS}, {3 * ROWS - 1}) n;
INSERT INTO docs SELECT n, 'title ' || n, '' FROM generate_series(0, {2 * ROWS - 1}) n;
"""
PLAIN = f"""
CREATE TABLE docs (id bigint PRIMARY KEY, title text, note text, embedding vector({DIM}));
INSERT INTO docs SELECT n, 'title ' || n, '' FROM generate_series(0, {2 * ROWS - 1}) n;
"""
REWRITING = """
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN NEW.title := upper(NEW.title); RETURN NEW; END $$;
CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()
"""
ATTACHED = f"ALTER TABLE docs ATTACH PARTITION docs_3 FOR VALUES FROM ({2 * ROWS}) TO ({3 * ROWS})"

GOES_ON = [
    (PARTITIONED, "DROP TABLE docs_2", ROWS),
    (PARTITIONED, "ALTER TABLE docs DETACH PARTITION docs_2", ROWS),
    (PARTITIONED, ATTACHED, 3 * ROWS),
    (PARTITIONED, "ALTER TABLE docs_2 RENAME TO renamed", 2 * ROWS),
    (PARTITIONED, "TRUNCATE docs_2", ROWS),
    (PLAIN, "VACUUM FULL docs", 2 * ROWS),
    (PLAIN, "ALTER TABLE docs DROP COLUMN note", 2 * ROWS),
    (PLAIN, "ALTER TABLE docs ALTER title TYPE varchar(80)", 2 * ROWS),
    (PLAIN, f"ALTER TABLE docs ALTER embedding TYPE halfvec({DIM})", 2 * ROWS),
]

STOPS = [
    ("ALTER TABLE docs DROP COLUMN embedding", "--column embedding: public.docs has no such column"),
    ("ALTER TABLE docs RENAME COLUMN title TO headline", r"--text names \{title\}, which is not a column"),
    ("ALTER TABLE docs DROP COLUMN id", "public.docs has no primary key"),
    ("ALTER TABLE docs RENAME COLUMN id TO key", r"the key \(key\) takes the place of \(id\): run again"),
    ("ALTER TABLE docs ALTER id TYPE int", r"the key \(id\) has another type than at the start: run again"),
    ("ALTER TABLE docs DROP CONSTRAINT docs_pkey", "public.docs has no primary key"),
    ("ALTER TABLE docs ALTER embedding TYPE vector(9) USING NULL", r"is vector\(9\) and .* vectors of 8 dimensions"),
    ("ALTER TABLE docs RENAME TO other", "there is no such table"),
    ("ALTER TABLE docs RENAME TO o; CREATE TABLE docs (LIKE o INCLUDING ALL)", "another table has this name now"),
    ("REVOKE UPDATE ON docs FROM filler", "permission denied for table docs .* GRANT it"),
    ("REVOKE SELECT ON docs FROM filler", "permission denied for table docs .* GRANT it"),
    (REWRITING, "a trigger on public.docs changed the text"),
]

MOMENTS = {"before the first block": 0, "in the first sweep": 200, "after it": 2 * ROWS}
"""Rows that the run has finished when the other session changes the target."""


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(vecfill.backfill.drain, "max_block_rows", lambda *_: 100)


def run_while(connect, database, statement, *, after, options=INLINE, warm=None):
    """A run during which ``statement`` is executed once, when ``after`` rows of a sweep are finished."""
    done = []

    def act(now):
        if not done and now.step == "sweep" and now.done >= after:
            done.append(now)
            connect.execute(statement)

    return run(DOCS, MODEL, database=database, options=options, progress=act, warm=warm)


@pytest.mark.parametrize("after", MOMENTS.values(), ids=MOMENTS)
@pytest.mark.parametrize("case", GOES_ON, ids=lambda case: case[1][:40].strip())
def test_it_goes_on_with_what_is_there(connect, database, case, after):
    make, statement, rows = case
    connect.execute(make)
    result = run_while(connect, database, statement, after=after)
    assert (result.outcome, result.exit_code, result.remaining) == ("complete", 0, 0)
    assert result.sweeps <= 2
    assert result.quarantine == ()
    assert_every_vector_is_its_texts(connect, rows=rows, tolerance=0.01 if "halfvec" in statement else 0.0)
    if rows == 2 * ROWS:  # none came or went
        assert result.updated == rows


@pytest.mark.parametrize(
    ("after", "statement", "message"),
    [(0, *STOPS[0]), *((200, *case) for case in STOPS)],
    ids=lambda value: str(value)[:40].strip(),
)
def test_it_stops_and_says_what_changed_and_what_was_committed(connect, database, after, statement, message):
    connect.execute(PLAIN)
    with role(connect, database) if "filler" in statement else nullcontext(database) as uri:
        filler = connect.execute("SELECT 'filler_' || current_database()").fetchone()[0]
        with pytest.raises(PartialRunError if after else ConfigError, match=message) as error:
            run_while(connect, uri, statement.replace("filler", filler), after=after)
    told = str(error.value)
    assert ("rows were committed before" in told) is bool(after)
    assert "LINE" not in told
    assert "\n" not in told


@pytest.mark.parametrize("survey", [1, 2], ids=["the first count", "the last count"])
def test_a_count_of_what_is_no_longer_there_is_repeated(connect, database, monkeypatch, survey):
    connect.execute(PARTITIONED)
    calls, counts = [], TableSource.survey

    def changed(self, **more):
        calls.append(self)
        if len(calls) == survey:
            connect.execute(f"DROP TABLE docs_2; {ATTACHED}")
        return counts(self, **more)

    monkeypatch.setattr(TableSource, "survey", changed)
    result = run(DOCS, MODEL, database=database, options=INLINE)
    assert (result.outcome, result.exit_code, result.remaining) == ("complete", 0, 0)
    assert_every_vector_is_its_texts(connect, rows=2 * ROWS)


def test_few_rows_that_fail_because_of_a_change_are_not_set_aside(connect, database):
    """Too few for a shared fault: each seems to fail alone, until the run looks at the target again."""
    connect.execute(PLAIN + "DELETE FROM docs WHERE id >= 10")
    result = run_while(connect, database, f"ALTER TABLE docs ALTER embedding TYPE halfvec({DIM})", after=0)
    assert (result.exit_code, result.failed, result.updated) == (0, 0, 10)


@pytest.mark.ray
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own settings, at its import
def test_a_run_on_ray_goes_on_too(connect, database, warm):
    connect.execute(PARTITIONED)
    options = RunOptions(engine=EngineOptions(engine="ray"))
    result = run_while(connect, database, f"DROP TABLE docs_2; {ATTACHED}", after=0, options=options, warm=warm)
    assert (result.outcome, result.exit_code, result.engine) == ("complete", 0, "ray")
    assert_every_vector_is_its_texts(connect, rows=2 * ROWS)


@pytest.mark.parametrize("after", MOMENTS.values(), ids=MOMENTS)
def test_a_tracked_target_keeps_its_ledger(connect, database, after):
    """A partition that is attached is read as a whole; changes of it are queued from then on."""
    connect.execute(PARTITIONED)
    track(DOCS, database=database)
    result = run_while(connect, database, f"DROP TABLE docs_2; {ATTACHED}", after=after)
    assert (result.outcome, result.exit_code, result.remaining) == ("complete", 0, 0)
    assert_every_vector_is_its_texts(connect, rows=2 * ROWS)
    connect.execute("UPDATE docs_3 SET title = 'new' WHERE id = (SELECT min(id) FROM docs_3)")
    again = run(DOCS, MODEL, database=database, options=INLINE)
    assert (again.exit_code, again.updated) == (0, 1)
    assert_every_vector_is_its_texts(connect, rows=2 * ROWS)
