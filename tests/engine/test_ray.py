"""What is special to Ray: its plan, its bytes against the inline engine's, limits of all writers, warm encoders."""

from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import closing
from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest
from tests.tables import (
    DOCS,
    assert_every_vector_is_its_texts,
    counts,
    inline_engine,
    job_of,
    make_docs,
    meanwhile,
    ranges_of,
    wait_until,
)

from vecfill.config.limits import WriteLimits
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


def test_both_engines_give_the_same_table_byte_for_byte(connect, database, open_ray):
    job, units = prepared(connect, database)
    connect.execute("CREATE TABLE inline_docs (LIKE docs INCLUDING ALL); INSERT INTO inline_docs SELECT * FROM docs")
    results = list(open_ray(job).stream(units, Stop()))
    assert counts(pa.concat_tables(results)) == {"updated": ROWS}
    other = job_of(database, replace(DOCS, table="inline_docs"))
    with closing(inline_engine(other)) as engine:
        list(engine.stream(ranges_of(database, other.sink.relation), Stop()))
    differing = (
        "SELECT count(*) FROM docs FULL JOIN inline_docs AS i USING (id)"
        " WHERE vector_send(docs.embedding) IS DISTINCT FROM vector_send(i.embedding)"
    )
    assert connect.execute(differing).fetchone() == (0,)
    assert_every_vector_is_its_texts(connect, rows=ROWS)


def test_the_model_is_loaded_once_for_all_sweeps_and_for_the_next_run(connect, database, open_ray):
    """``load_s`` is the time that loading took, and comes with the first block alone."""
    job, units = prepared(connect, database)
    engine = open_ray(job)
    first = pa.concat_tables(engine.stream(units, Stop()))
    actors = engine._encoders._actors
    connect.execute("UPDATE docs SET embedding = NULL")
    again = pa.concat_tables(engine.stream(units, Stop()))
    assert sum(first["load_s"].to_pylist()) > 0
    assert sum(again["load_s"].to_pylist()) == 0
    connect.execute("UPDATE docs SET embedding = NULL")
    other = open_ray(job)
    assert other._encoders._actors == actors
    assert counts(pa.concat_tables(other.stream(units, Stop()))) == {"updated": ROWS}


def test_a_worker_keeps_its_connection_across_blocks(connect, database, open_ray):
    """Fewer sessions begin than blocks are read: a reader, a writer, and the run itself."""
    job, units = prepared(connect, database, 40_000)
    assert len(units) > 15
    before = connect.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()[0]
    list(open_ray(job).stream(units, Stop()))

    def begun() -> int:
        query = "SELECT pg_stat_clear_snapshot(), sessions FROM pg_stat_database WHERE datname = current_database()"
        return connect.execute(query).fetchone()[1] - before

    wait_until(lambda: begun() > 0)
    assert begun() < len(units)


def test_writers_keep_to_one_rate_and_one_pause_together(connect, database, open_ray, caplog):
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
        results = list(open_ray(job, writers=2).stream(units, Stop()))
    assert counts(pa.concat_tables(results)) == {"updated": 2_000}
    query = "SELECT extract(epoch FROM at - %s)::float8 FROM docs ORDER BY at"
    times = [at for (at,) in connect.execute(query, dropped[0]).fetchall()]
    assert times[0] > 0
    # Each writer has a batch of at most 300 rows in hand when the pause ends, and may make up for a second.
    assert all(number <= 600 * at + 2 * 600 for number, at in enumerate(times, 1))
    assert "continuing after a pause of" in caplog.text


GPU_RUN = """
import sys
import ray
from ray.data._internal.logical.optimizers import get_execution_plan
from tests.tables import DOCS, counts, job_of, ranges_of
from vecfill.engine.warm import Warm
from vecfill.job import Stop

ray.init(address="local", num_gpus=1, log_to_driver=False, include_dashboard=False)
warm = Warm()
resources = warm.cluster(None, verbose=False)
if True:
    from vecfill.engine.pools import Pools
    from vecfill.engine.ray import RayEngine

    job = job_of(sys.argv[1], DOCS)
    ranges = ranges_of(sys.argv[1], job.sink.relation)
    pools = Pools.fitting(resources, device="auto", actors=None, gpus=None, writers=None)
    assert pools.gpus == 1
    engine = RayEngine(job, pools, warm.encoders(pools, job.encode.calls))
    print(get_execution_plan(engine.plan(ranges)._logical_plan)[0].dag.dag_str)
    results = list(engine.stream(ranges, Stop()))
    print(len(ranges), len(results), sum(counts(result)["updated"] for result in results))
"""


def test_with_a_gpu_blocks_stay_whole(connect, database):
    """Ray believes in one GPU; ``hash`` needs none, so the whole flow runs as it would."""
    make_docs(connect, ROWS)
    command = [sys.executable, "-c", GPU_RUN, database]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    plan, numbers = done.stdout.strip().splitlines()[-2:]
    assert len(plan.split(" -> ")) == 3
    ranges, results, updated = map(int, numbers.split())
    assert (results, updated) == (ranges, ROWS)
