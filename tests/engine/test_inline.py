"""The inline engine: stages side by side, errors as they were, and a stop that drains."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pyarrow as pa
import pytest
from tests.tables import (
    DOCS,
    assert_every_vector_is_its_texts,
    counts,
    inline_engine,
    job_of,
    make_docs,
    ranges_of,
    vectors,
)

from vecfill.config.model import Model
from vecfill.encode.load import LOCAL_BLOCKS
from vecfill.engine.inline import OTHERS, InlineEngine
from vecfill.errors import ConfigError, VecfillError
from vecfill.job import Stop
from vecfill.read.units import PageRange

ROWS = 6_000
AHEAD = LOCAL_BLOCKS + OTHERS
WAIT_S = 10


class Watched:
    """A stage of the engine with something to do before each call, and a list of what it was called with."""

    def __init__(self, stage, before=lambda number: None):
        self.stage, self.before, self.calls = stage, before, 0

    def __call__(self, item):
        self.calls += 1
        self.before(self.calls)
        return self.stage(item)

    def __getattr__(self, name):
        return getattr(self.stage, name)


def engine_and_ranges(connect, database: str, rows: int = ROWS, **job) -> tuple[InlineEngine, list[PageRange]]:
    make_docs(connect, rows)
    target = job_of(database, DOCS, **job)
    ranges = ranges_of(database, target.relation)
    assert len(ranges) > AHEAD + 2
    return inline_engine(target), ranges


def test_fills_every_row(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    with closing(engine):
        results = list(engine.stream(ranges, Stop()))
    assert len(results) == len(ranges)
    assert counts(pa.concat_tables(results)) == {"updated": ROWS}
    assert_every_vector_is_its_texts(connect, rows=ROWS)
    assert engine.name == "inline"
    assert engine.workers == {"read": 1, "encode": 1, "write": 1}


def test_reading_and_writing_go_on_while_the_model_computes(connect, database):
    """The first block is encoded only once the third is read, and written only once the second is encoded."""
    engine, ranges = engine_and_ranges(connect, database)
    third_read, second_encoded = threading.Event(), threading.Event()
    late = []
    engine._read = Watched(engine._read, lambda call: call == 3 and third_read.set())

    def before_encode(call):
        late.append(call == 1 and not third_read.wait(WAIT_S))
        if call == 3:
            second_encoded.set()

    engine._encode = Watched(engine._encode, before_encode)
    engine._write = Watched(engine._write, lambda call: late.append(call == 1 and not second_encoded.wait(WAIT_S)))
    with closing(engine):
        results = list(engine.stream(ranges, Stop()))
    assert not any(late)
    assert counts(pa.concat_tables(results)) == {"updated": ROWS}


def test_no_more_blocks_are_in_flight_than_said(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    engine._read = Watched(engine._read)
    with closing(engine):
        stream = engine.stream(ranges, Stop())
        next(stream)
        time.sleep(0.3)
        assert engine._read.calls <= AHEAD
        assert counts(pa.concat_tables(list(stream)))


def test_an_error_of_the_encoder_comes_out_as_it_was(connect, database):
    engine, ranges = engine_and_ranges(connect, database, model=Model(name="hash:9"))
    with closing(engine), pytest.raises(ConfigError, match="has 8 dimensions but model hash:9 gives 9"):
        list(engine.stream(ranges, Stop()))
    assert vectors(connect) == []


def test_an_error_of_the_reader_comes_out_and_what_was_committed_stays(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    engine._read = Watched(
        engine._read, lambda call: call == 3 and connect.execute("ALTER TABLE docs RENAME title TO headline")
    )
    with closing(engine), pytest.raises(VecfillError, match="does not exist"):
        list(engine.stream(ranges, Stop()))
    assert_every_vector_is_its_texts(connect, "headline")


def test_an_error_of_the_writer_comes_out_as_it_was(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    connect.execute(
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.title := upper(NEW.title); RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )
    with closing(engine), pytest.raises(ConfigError, match=r"a trigger on public\.docs changed the text"):
        list(engine.stream(ranges, Stop()))
    assert vectors(connect) == []


def test_a_stop_drains_what_is_in_flight(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    stop = Stop()
    with closing(engine):
        results = []
        for result in engine.stream(ranges, stop):
            results.append(result)
            stop.set("enough")
    assert 1 <= len(results) <= AHEAD
    written = counts(pa.concat_tables(results))["updated"]
    assert 0 < written < ROWS
    assert_every_vector_is_its_texts(connect, rows=written)


def test_a_stop_before_the_start_reads_nothing(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    stop = Stop()
    stop.set("too late")
    with closing(engine):
        assert list(engine.stream(ranges, stop)) == []


def test_leaving_the_stream_lets_the_batch_that_is_being_written_finish(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    with closing(engine):
        with closing(engine.stream(ranges, Stop())) as stream:
            next(stream)
        assert not [one for one in threading.enumerate() if one.name.startswith(("read", "encode", "write"))]
    assert_every_vector_is_its_texts(connect)


def test_ranges_without_rows_pass_through(connect, database):
    engine, _ = engine_and_ranges(connect, database)
    empty = [PageRange(leaf=0, first_page=page, end_page=page + 1, rows=1) for page in range(90_000, 90_006)]
    with closing(engine):
        results = list(engine.stream(empty, Stop()))
        assert counts(pa.concat_tables(results)) == {}
        assert list(engine.stream([], Stop())) == []


def test_one_engine_streams_sweep_after_sweep(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    with closing(engine):
        list(engine.stream(ranges, Stop()))
        connect.execute("UPDATE docs SET embedding = NULL WHERE id <= 10")
        again = pa.concat_tables(engine.stream(ranges, Stop()))
    assert counts(again) == {"updated": 10}


def test_the_first_reason_to_stop_stays():
    stop = Stop()
    assert not stop.is_set()
    assert not stop.wait(0.01)
    stop.set("SIGTERM")
    stop.set("max-seconds")
    assert stop.reason == "SIGTERM"
    assert stop.wait(0)
