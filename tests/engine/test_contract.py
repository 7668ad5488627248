"""What every engine does: the same rows, errors as they were, a stop that drains. Over both engines."""

from __future__ import annotations

import threading
from dataclasses import replace

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
    ranges_of,
    unwritten,
    vectors,
)

from vecfill.backfill.order import keys as order_keys
from vecfill.backfill.work import commits_told
from vecfill.config.api import ApiOptions
from vecfill.config.model import Model
from vecfill.errors import ConfigError, DatabaseError, MixedModelsError, PartialRunError, VecfillError
from vecfill.job import Hold, Job, Stop
from vecfill.read.units import PageRange, RowUnit

ROWS = 6_000


def job_and_units(connect: psycopg.Connection, database: str, rows: int = ROWS, **job) -> tuple[Job, list[RowUnit]]:
    make_docs(connect, rows)
    target = job_of(database, DOCS, **job)
    return target, ranges_of(database, target.sink.relation)


def test_fills_every_row_gives_one_result_a_unit_and_leaves_no_transaction_open(connect, database, open_engine):
    job, units = job_and_units(connect, database)
    engine, results = open_engine(job), []
    for result in engine.stream(units, Stop()):
        results.append(result)
        idle = connect.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vecfill' AND datname = current_database()"
            " AND state = 'idle in transaction' AND now() - state_change > '1 s'"
        ).fetchone()
        assert idle == (0,)
    assert len(results) == len(units) > 4
    assert counts(pa.concat_tables(results)) == {"updated": ROWS}
    assert_every_vector_is_its_texts(connect, rows=ROWS)
    assert engine.workers.keys() == {"read", "encode", "write"}
    assert engine.account() is None


def test_an_error_of_the_encoder_comes_out_as_it_was(connect, database, open_engine):
    job, units = job_and_units(connect, database, model=Model(name="hash:9"))
    with pytest.raises(ConfigError, match="has 8 dimensions but model hash:9 gives 9"):
        list(open_engine(job).stream(units, Stop()))
    assert vectors(connect) == []


def test_a_sample_of_another_model_s_vectors_is_paid_for_once(connect, database, open_engine):
    with serving() as api:
        model = Model(name="openai:test", api=ApiOptions(base_url=api.url))
        job, units = job_and_units(connect, database, model=model)
        sample = tuple((f"text {n}", (1.0, float(n)) * 4) for n in range(20))
        with pytest.raises(MixedModelsError, match="0 of 20 sampled vectors"):
            list(open_engine(replace(job, encode=replace(job.encode, sample=sample))).stream(units, Stop()))
        assert len(api.seen.texts) == 20


def test_what_a_stage_waits_for_is_in_the_log_of_this_process(connect, database, open_engine, caplog):
    job, units = job_and_units(connect, database)
    connect.execute(
        "CREATE SEQUENCE calls; CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()) WHERE nextval('calls') = 1; RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )
    with caplog.at_level("INFO", "vecfill"):
        results = list(open_engine(job).stream(units, Stop()))
    assert counts(pa.concat_tables(results)) == {"updated": ROWS}
    waits = [record for record in caplog.records if getattr(record, "waits_for", None) == "the server"]
    assert "trying again in" in waits[0].getMessage()
    assert waits[0].name == "vecfill.postgres.session"


@pytest.mark.parametrize(("id_from", "wish"), [(1, {}), (5_000, {"writers": 1})])
def test_an_error_of_the_writer_comes_out_as_it_was_and_one_after_a_commit_says_so(
    connect, database, open_engine, id_from, wish
):
    job, units = job_and_units(connect, database)
    connect.execute(
        f"CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN IF OLD.id >= {id_from} THEN NEW.title := upper(NEW.title); END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )
    engine = open_engine(job, **wish)
    with (
        pytest.raises(VecfillError, match=r"a trigger on public\.docs changed the text") as error,
        commits_told(engine),
    ):
        list(engine.stream(units, Stop()))
    assert "\n" not in str(error.value)
    written = len(vectors(connect))
    assert error.value.exit_code == (1 if written else 2)
    assert isinstance(error.value, PartialRunError if written else ConfigError)
    assert not written or f"; {written:,} rows were committed before, and a rerun continues" in str(error.value)
    assert (written > 0) is (id_from > 1)


def test_an_error_of_the_reader_comes_out_as_it_was(connect, database, open_engine):
    job, units = job_and_units(connect, database)
    connect.execute("ALTER TABLE docs RENAME title TO headline")
    with pytest.raises(VecfillError, match="cannot be read") as error:
        list(open_engine(job).stream(units, Stop()))
    assert isinstance(error.value, DatabaseError)


def test_an_unreadable_row_is_a_failed_row_of_its_unit(connect, database, open_engine):
    make_docs(connect, ROWS)
    connect.execute("UPDATE docs SET seen = CASE WHEN id = 1234 THEN 0 ELSE 1 END")
    job = job_of(database, replace(DOCS, where="1 / seen = 1"))
    units = ranges_of(database, job.sink.relation)
    results = list(open_engine(job).stream(units, Stop()))
    assert len(results) == len(units)
    assert counts(pa.concat_tables(results)) == {"updated": ROWS - 1, "failed": 1}
    assert unwritten(pa.concat_tables(results)) == {"1234": "failed"}


def test_a_stop_drains_and_every_counted_row_is_in_the_table(connect, database, open_engine):
    job, units = job_and_units(connect, database, 60_000)
    stop, results = Stop(), []
    for result in open_engine(job).stream(units, stop):
        results.append(result)
        stop.set("enough")
    written = counts(pa.concat_tables(results))["updated"]
    assert 0 < written < 60_000
    assert_every_vector_is_its_texts(connect, rows=written)


def test_one_engine_streams_sweep_after_sweep_and_a_stop_in_a_later_one_writes_nothing_more(
    connect, database, open_engine
):
    """Units without rows pass through, alone and beside others."""
    job, units = job_and_units(connect, database)
    empty = [PageRange(leaf=0, first_page=page, end_page=page + 1, rows=1) for page in range(90_000, 90_006)]
    engine, stop = open_engine(job), Stop()
    assert sum(result.num_rows for result in engine.stream(empty, stop)) == 0
    assert counts(pa.concat_tables(engine.stream([empty[0], *units, empty[1]], stop))) == {"updated": ROWS}
    for _ in range(2):
        connect.execute("UPDATE docs SET embedding = NULL WHERE id <= 10")
        few = ranges_of(database, job.sink.relation)
        assert counts(pa.concat_tables(engine.stream(few, stop))) == {"updated": 10}
    assert_every_vector_is_its_texts(connect, rows=ROWS)
    connect.execute("UPDATE docs SET embedding = NULL")
    stop.set("enough")
    assert sum(result.num_rows for result in engine.stream(few, stop)) == 0
    assert vectors(connect) == []


def test_a_stop_before_the_start_reads_nothing(connect, database, open_engine):
    job, units = job_and_units(connect, database)
    stop = Stop()
    stop.set("too late")
    assert sum(result.num_rows for result in open_engine(job).stream(units, stop)) == 0
    assert vectors(connect) == []


def test_a_stream_without_units_ends_at_once(connect, database, open_engine):
    job, _ = job_and_units(connect, database, 10)
    assert list(open_engine(job).stream([], Stop())) == []


def test_lists_of_rows_in_an_order_are_units_too(connect, database, open_engine):
    job, _ = job_and_units(connect, database, 1_500)
    source = replace(job.source, order=order_keys("id DESC"))
    blocks = source.plan(source.survey(), limit=1_100, most_rows=512)
    source.close()
    assert [block.rows for block in blocks] == [512, 512, 76]
    assert counts(pa.concat_tables(open_engine(job).stream(blocks, Stop()))) == {"updated": 1_100}
    assert connect.execute("SELECT min(id) FROM docs WHERE embedding IS NOT NULL").fetchone() == (401,)


def test_a_pause_holds_the_workers_until_it_ends_or_the_run_is_to_stop(connect, database, open_engine):
    job, units = job_and_units(connect, database, 1_000)
    engine = open_engine(job)
    for end, expected in (
        (lambda stop: setattr(stop, "hold", Hold()), {"updated": 1_000}),
        (lambda stop: stop.set("enough"), {}),
    ):
        connect.execute("UPDATE docs SET embedding = NULL")
        stop = Stop(hold=Hold(paused="a test"))
        timer = threading.Timer(0.5, end, [stop])
        timer.start()
        results = list(engine.stream(units, stop))
        timer.join()
        assert (counts(pa.concat_tables(results)) if results else {}) == expected
