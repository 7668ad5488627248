"""What every engine does: the same rows, errors as they were, a stop that drains. Over both engines."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace
from functools import partial

import psycopg
import pyarrow as pa
import pytest
from tests.encode.api.server import serving
from tests.tables import (
    DOCS,
    assert_every_vector_is_its_texts,
    counts,
    job_of,
    make_docs,
    meanwhile,
    ranges_of,
    rewrite_titles,
    unwritten,
    vectors,
    wait_until,
)

from vecfill.backfill.order import keys as order_keys
from vecfill.backfill.work import commits_told
from vecfill.config.api import ApiOptions
from vecfill.config.limits import WriteLimits
from vecfill.config.model import Model
from vecfill.engine.signals import stopping
from vecfill.errors import MixedModelsError, PartialRunError
from vecfill.job import Hold, Job, Stop
from vecfill.read.units import PageRange, RowUnit

ROWS = 6_000


def job_and_units(connect: psycopg.Connection, database: str, rows: int = ROWS, **job) -> tuple[Job, list[RowUnit]]:
    make_docs(connect, rows)
    target = job_of(database, DOCS, **job)
    return target, ranges_of(database, target.sink.relation)


def test_an_error_of_the_encoder_comes_out_as_it_was_and_a_sample_is_paid_for_once(connect, database, open_engine):
    with serving() as api:
        model = Model(name="openai:test", api=ApiOptions(base_url=api.url))
        job, units = job_and_units(connect, database, model=model)
        sample = tuple((f"text {n}", (1.0, float(n)) * 4) for n in range(20))
        engine = open_engine(replace(job, encode=replace(job.encode, sample=sample)))
        with (
            pytest.raises(MixedModelsError, match="0 of 20 sampled vectors") as error,
            commits_told(engine),
        ):
            list(engine.stream(units, Stop()))
        assert error.value.exit_code == 2
        assert len(api.seen.texts) == 20
    assert vectors(connect) == []


def test_an_error_of_the_writer_comes_out_as_it_was_and_says_what_was_committed_before(connect, database, open_engine):
    """For one before the first commit see ``test_inline.py``."""
    job, units = job_and_units(connect, database)
    rewrite_titles(connect, 5_000)
    engine = open_engine(job, writers=1)
    with (
        pytest.raises(PartialRunError, match=r"a trigger on public\.docs changed the text") as error,
        commits_told(engine),
    ):
        list(engine.stream(units, Stop()))
    written = len(vectors(connect))
    assert 0 < written < ROWS
    assert f"; {written:,} rows were committed before, and a rerun continues" in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 1


def test_one_engine_streams_sweep_after_sweep_until_a_signal(connect, database, open_engine, caplog):
    """The first one waits for the end of a pause and loads the model; the next ones have few rows.

    The last one has lists of rows in an order, and is paused when the signal comes; every counted row is in the table.
    """
    rows, last = 20_000, "SELECT count(*) > 0, min(id) > 8000 FROM docs WHERE embedding IS NOT NULL"
    make_docs(connect, rows)
    lose_the_first_writer(connect)
    job = job_of(database, replace(DOCS, where="1 / (id - 1234) <= 1"))
    engine, stop = open_engine(job), Stop(hold=Hold(paused="a test"))
    with caplog.at_level("INFO", "vecfill"), meanwhile(partial(released_after_a_while, connect, stop)):
        assert_all_is_streamed_but_what_cannot_be_read(connect, database, engine, job, stop)
    assert engine.workers.keys() == {"read", "encode", "write"}
    assert engine.account() is None
    waits = [record for record in caplog.records if getattr(record, "waits_for", None) == "the server"]
    assert "trying again in" in waits[0].getMessage()
    assert waits[0].name == "vecfill.postgres.session"

    assert sum(result.num_rows for result in engine.stream([nowhere(0)], stop)) == 0
    for _ in range(2):
        connect.execute("UPDATE docs SET embedding = NULL WHERE id <= 10")
        few = ranges_of(database, job.sink.relation)
        again = pa.concat_tables(engine.stream(few, stop))
        assert (counts(again), sum(again["load_s"].to_pylist())) == ({"updated": 10}, 0)

    connect.execute("UPDATE docs SET embedding = NULL")
    source = replace(job.source, order=order_keys("id DESC"))
    lists = source.plan(source.survey(), limit=12_000, most_rows=2_000)
    source.close()
    engine.retarget(replace(job, sink=replace(job.sink, limits=WriteLimits(max_rate=2_000))))
    results, some = [], threading.Event()
    with stopping(stop, signals=True), meanwhile(partial(interrupted_in_a_pause, stop, some)):
        for result in engine.stream(lists, stop):
            results.append(result)
            some.set()
    written = counts(pa.concat_tables(results))["updated"]
    assert (stop.reason, written < 12_000) == ("SIGINT", True)
    assert_every_vector_is_its_texts(connect, rows=written)
    assert connect.execute(last).fetchone() == (True, True)
    assert sum(result.num_rows for result in engine.stream(few, stop)) == 0
    assert len(vectors(connect)) == written


def lose_the_first_writer(connect: psycopg.Connection) -> None:
    """The server ends the first session that updates a row."""
    connect.execute(
        "CREATE SEQUENCE calls; CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()) WHERE nextval('calls') = 1; RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )


def released_after_a_while(connect: psycopg.Connection, stop: Stop, done: threading.Event) -> None:
    done.wait(0.5)
    written = len(vectors(connect))
    stop.hold = Hold()
    assert written == 0


def interrupted_in_a_pause(stop: Stop, some: threading.Event, done: threading.Event) -> None:
    """A stop ends the pause, or the stream would hang."""
    some.wait(60)
    stop.hold = Hold(paused="another test")
    done.wait(0.5)
    os.kill(os.getpid(), signal.SIGINT)


def nowhere(number: int) -> PageRange:
    """A unit without rows."""
    return PageRange(leaf=0, first_page=90_000 + number, end_page=90_001 + number, rows=1)


def assert_all_is_streamed_but_what_cannot_be_read(connect, database, engine, job: Job, stop: Stop) -> None:
    """One result a unit that has rows; no transaction is left open, and connections last from block to block.

    The row that cannot be read is gone afterwards.
    """
    rows = connect.execute("SELECT count(*) FROM docs").fetchone()[0]
    units = [nowhere(0), *ranges_of(database, job.sink.relation), nowhere(1)]
    query = "SELECT pg_stat_clear_snapshot(), sessions FROM pg_stat_database WHERE datname = current_database()"
    before, results = connect.execute(query).fetchone()[1], []

    def begun() -> int:
        return connect.execute(query).fetchone()[1] - before

    for result in engine.stream(units, stop):
        results.append(result)
        idle = connect.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vecfill' AND state ="
            " 'idle in transaction' AND datname = current_database() AND now() - state_change > '1 s'"
        ).fetchone()
        assert idle == (0,)
    first = pa.concat_tables(results)
    assert len(results) == len(units) - 2 > 4
    assert counts(first) == {"updated": rows - 1, "failed": 1}
    assert unwritten(first) == {"1234": "failed"}
    assert sum(first["load_s"].to_pylist()) > 0
    assert_every_vector_is_its_texts(connect, rows=rows - 1)
    wait_until(lambda: begun() > 0)
    assert begun() < len(units) - 2
    connect.execute("DELETE FROM docs WHERE id = 1234")


def test_a_stop_before_the_start_reads_nothing(connect, database, open_engine):
    job, units = job_and_units(connect, database)
    stop = Stop()
    stop.set("too late")
    assert sum(result.num_rows for result in open_engine(job).stream(units, stop)) == 0
    assert vectors(connect) == []


def test_a_stream_without_units_ends_at_once(connect, database, open_engine):
    job, _ = job_and_units(connect, database, 10)
    assert list(open_engine(job).stream([], Stop())) == []
