"""What is special to Ray: its plan, limits of all writers, warm encoders; the contract has what both engines do."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest
from tests.tables import (
    DOCS,
    counts,
    job_of,
    make_docs,
    meanwhile,
    ranges_of,
    wait_until,
)

from vecfill.config.limits import WriteLimits
from vecfill.engine.cluster import unwrapped
from vecfill.errors import StoppedError
from vecfill.job import Job, Stop
from vecfill.read.units import RowUnit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own settings, at its import
]

ROWS = 6_000


def prepared(connect: psycopg.Connection, database: str, rows: int = ROWS, **job) -> tuple[Job, list[RowUnit]]:
    make_docs(connect, rows)
    target = job_of(database, DOCS, **job)
    return target, ranges_of(database, target.sink.relation)


def physical_plan(dataset) -> str:
    from ray.data._internal.logical.optimizers import get_execution_plan

    return get_execution_plan(dataset._logical_plan)[0].dag.dag_str


def test_readers_are_not_fused_into_the_writers(connect, database, open_ray):
    job, units = prepared(connect, database)
    stages = physical_plan(open_ray(job).plan(units)).split(" -> ")
    assert "->" not in "".join(stages)
    assert ["ReadUnits" in stages[1], "EncodeAndWrite" in stages[2]] == [True, True]
    assert len(stages) == 3


def test_a_later_run_gets_the_actors_of_an_earlier_one(connect, database, open_ray):
    """The runs know nothing of one another, and what a run leaves behind is told that it has ended."""
    job, _ = prepared(connect, database, 10)
    first, second = open_ray(job), open_ray(job)
    assert first._encoders._actors == second._encoders._actors != []
    ours, theirs = first._coordination, second._coordination
    assert ours._coordinator == theirs._coordinator
    ours.ask("set", "enough")
    ours.tell("add_committed", 10)
    assert (ours.ask("state")[0], ours.ask("committed")) == (True, (10, True))
    assert (theirs.ask("state")[0], theirs.ask("committed")) == (False, (0, True))
    assert (ours.ask("take_encoder", 1), theirs.ask("take_encoder", 1)) == (None, 0)
    first.close()
    with unwrapped(), pytest.raises(StoppedError, match="the run has ended"):
        ours.ask("is_set")


def test_a_coordinator_that_died_is_replaced(connect, database, warm, open_ray):
    import ray

    job, _ = prepared(connect, database, 10)
    before = open_ray(job)._coordination
    ray.kill(before._coordinator)
    after = open_ray(job)._coordination
    assert (before._coordinator == after._coordinator, after.ask("is_set")) == (False, False)


def test_writers_keep_to_one_rate_and_one_pause_together(connect, database, warm, open_ray, caplog):
    """The slot keeps too much WAL until it is dropped; after that at most 600 rows a second come from both writers."""
    job, units = prepared(connect, database, 2_000)
    connect.execute("ALTER TABLE docs ADD at timestamptz")
    job = job_of(database, replace(DOCS, set=("at = clock_timestamp()",)))
    job = replace(job, sink=replace(job.sink, limits=WriteLimits(max_rate=600, max_slot_wal="1kB")))
    slot = connect.execute("SELECT slot_name FROM pg_create_physical_replication_slot('vecfill_ray', true)").fetchone()
    connect.execute("SELECT pg_switch_wal()")

    def drop(done: threading.Event) -> None:
        wait_until(lambda: "pausing: slot vecfill_ray keeps" in caplog.text or done.is_set(), 120)
        dropped.append(connect.execute("SELECT clock_timestamp() FROM pg_drop_replication_slot(%s)", slot).fetchone())

    dropped: list[tuple] = []
    with caplog.at_level("INFO", "vecfill"), meanwhile(drop):
        warm.cluster(None, verbose=False)
        warm.free()  # an encoder that knows no other run, of which pandas may be left
        engine = open_ray(job, writers=2)
        results = list(engine.stream(units, Stop()))
    assert counts(pa.concat_tables(results)) == {"updated": 2_000}
    query = "SELECT extract(epoch FROM at - %s)::float8 FROM docs ORDER BY at"
    times = [at for (at,) in connect.execute(query, dropped[0]).fetchall()]
    assert times[0] > 0
    # Each writer has a batch of at most 300 rows in hand when the pause ends, and may make up for a second.
    assert all(number <= 600 * at + 2 * 600 for number, at in enumerate(times, 1))
    assert "continuing after a pause of" in caplog.text
    for actor in (engine._coordination._coordinator, *engine._encoders._actors):
        assert_imports_no_more_than_it_needs(actor)


def assert_imports_no_more_than_it_needs(actor) -> None:
    """The imports of pandas and of Ray Data take a second of CPU, and the workers would wait."""
    import ray

    loaded = ray.get(actor.__ray_call__.remote(lambda _: {"pandas", "ray.data"} & sys.modules.keys()))
    assert loaded == set()
