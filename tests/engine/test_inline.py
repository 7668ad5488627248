"""The inline engine: stages side by side, errors as they were, and a stop that drains."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import replace

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
    rewrite_titles,
    vectors,
)

from vecfill.backfill.order import keys as order_keys
from vecfill.backfill.work import commits_told
from vecfill.config.model import Model
from vecfill.encode.load import LOCAL_BLOCKS
from vecfill.engine.inline import InlineEngine
from vecfill.engine.threads import OTHERS
from vecfill.errors import ConfigError, DatabaseError, VecfillError
from vecfill.job import Stop
from vecfill.read.units import RowUnit

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


def engine_and_ranges(connect, database: str, rows: int = ROWS, **job) -> tuple[InlineEngine, list[RowUnit]]:
    make_docs(connect, rows)
    target = job_of(database, DOCS, **job)
    ranges = ranges_of(database, target.sink.relation)
    assert len(ranges) > AHEAD + 2
    return inline_engine(target), ranges


def test_reading_and_writing_go_on_while_the_model_computes(connect, database):
    """The first block is encoded only once the third is read, and written only once the second is encoded."""
    engine, ranges = engine_and_ranges(connect, database)
    third_read, second_encoded = threading.Event(), threading.Event()
    late = []
    engine.read = Watched(engine.read, lambda call: call == 3 and third_read.set())

    def before_encode(call):
        late.append(call == 1 and not third_read.wait(WAIT_S))
        if call == 3:
            second_encoded.set()

    engine.encode = Watched(engine.encode, before_encode)
    engine.write = Watched(engine.write, lambda call: late.append(call == 1 and not second_encoded.wait(WAIT_S)))
    with closing(engine):
        results = list(engine.stream(ranges, Stop()))
    assert not any(late)
    assert counts(pa.concat_tables(results)) == {"updated": ROWS}


def test_no_more_blocks_are_in_flight_than_said(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    engine.read = Watched(engine.read)
    with closing(engine):
        stream = engine.stream(ranges, Stop())
        next(stream)
        time.sleep(0.3)
        assert engine.read.calls <= AHEAD
        assert counts(pa.concat_tables(list(stream)))


def test_an_error_of_the_reader_comes_out_and_what_was_committed_stays(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    engine.read = Watched(
        engine.read, lambda call: call == 3 and connect.execute("ALTER TABLE docs RENAME title TO headline")
    )
    with closing(engine), pytest.raises(VecfillError, match="does not exist"):
        list(engine.stream(ranges, Stop()))
    assert_every_vector_is_its_texts(connect, "headline")


def test_an_error_of_the_reader_comes_out_as_it_was(connect, database):
    """For Ray see ``backfill/test_target_changes.py``."""
    engine, ranges = engine_and_ranges(connect, database)
    connect.execute("ALTER TABLE docs RENAME title TO headline")
    with closing(engine), pytest.raises(VecfillError, match="cannot be read") as error:
        list(engine.stream(ranges, Stop()))
    assert isinstance(error.value, DatabaseError)


def test_an_error_of_the_encoder_comes_out_as_it_was(connect, database):
    engine, ranges = engine_and_ranges(connect, database, model=Model(name="hash:9"))
    with closing(engine), pytest.raises(ConfigError, match="has 8 dimensions but model hash:9 gives 9"):
        list(engine.stream(ranges, Stop()))
    assert vectors(connect) == []


def test_an_error_of_the_writer_before_the_first_commit_says_nothing_of_rows(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    rewrite_titles(connect)
    with (
        closing(engine),
        pytest.raises(ConfigError, match=r"a trigger on public\.docs changed the text") as error,
        commits_told(engine),
    ):
        list(engine.stream(ranges, Stop()))
    assert "\n" not in str(error.value)
    assert "committed" not in str(error.value)
    assert error.value.exit_code == 2
    assert vectors(connect) == []


def test_lists_of_rows_in_an_order_are_units_too(connect, database):
    make_docs(connect, 1_500)
    job = job_of(database, DOCS)
    source = replace(job.source, order=order_keys("id DESC"))
    blocks = source.plan(source.survey(), limit=1_100, most_rows=512)
    source.close()
    assert [block.rows for block in blocks] == [512, 512, 76]
    with closing(inline_engine(job)) as engine:
        assert counts(pa.concat_tables(engine.stream(blocks, Stop()))) == {"updated": 1_100}
    assert connect.execute("SELECT min(id) FROM docs WHERE embedding IS NOT NULL").fetchone() == (401,)


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


def test_leaving_the_stream_lets_the_batch_that_is_being_written_finish(connect, database):
    engine, ranges = engine_and_ranges(connect, database)
    before = set(threading.enumerate())
    with closing(engine):
        with closing(engine.stream(ranges, Stop())) as stream:
            next(stream)
        left = set(threading.enumerate()) - before
        assert not [one for one in left if one.name.startswith(("read", "encode", "write"))]
    assert_every_vector_is_its_texts(connect)


def test_the_first_reason_to_stop_stays():
    stop = Stop()
    assert not stop.is_set()
    assert not stop.wait(0.01)
    stop.set("SIGTERM")
    stop.set("max-seconds")
    assert stop.reason == "SIGTERM"
    assert stop.wait(0)
