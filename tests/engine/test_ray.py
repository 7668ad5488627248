"""The Ray engine: its plan, its vectors against the inline engine's, its errors and its stop. One Ray for all."""

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
    vectors,
    wait_until,
)

from vecfill.config.limits import WriteLimits
from vecfill.config.model import Model
from vecfill.engine.cluster import cluster
from vecfill.errors import ConfigError, DatabaseError, VecfillError
from vecfill.job import Job, Stop
from vecfill.read.units import PageRange

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own settings, at its import
]

ROWS = 6_000


@pytest.fixture(scope="module")
def resources():
    with cluster(None, verbose=False) as found:
        yield found


@pytest.fixture
def pools(resources):
    from vecfill.engine.ray import Pools

    return Pools.fitting(resources, device="auto", actors=None, gpus=None, writers=None)


def stream(job: Job, pools, ranges: list[PageRange], stop: Stop | None = None):
    from vecfill.engine.ray import RayEngine

    with closing(RayEngine(job, pools)) as engine:
        yield from engine.stream(ranges, stop or Stop())


def prepared(connect: psycopg.Connection, database: str, rows: int = ROWS, **job) -> tuple[Job, list[PageRange]]:
    make_docs(connect, rows)
    target = job_of(database, DOCS, **job)
    return target, ranges_of(database, target.relation)


def physical_plan(dataset) -> str:
    from ray.data._internal.logical.optimizers import get_execution_plan

    return get_execution_plan(dataset._logical_plan)[0].dag.dag_str


def test_nothing_is_fused_into_the_encoder(connect, database, pools):
    """Ray runs a read inside a following actor where both ask for the same resources."""
    from vecfill.engine.actors import StopFlag
    from vecfill.engine.ray import RayEngine

    job, ranges = prepared(connect, database)
    stages = physical_plan(RayEngine(job, pools).plan(ranges, StopFlag.remote())).split(" -> ")
    assert "->" not in "".join(stages)
    assert ["Target" in stages[1], "EncodeActor" in stages[2], "WriteActor" in stages[3]] == [True] * 3
    assert len(stages) == 4


def test_both_engines_give_the_same_table_byte_for_byte(connect, database, pools):
    job, ranges = prepared(connect, database)
    connect.execute("CREATE TABLE inline_docs (LIKE docs INCLUDING ALL); INSERT INTO inline_docs SELECT * FROM docs")
    results = list(stream(job, pools, ranges))
    assert len(results) == len(ranges) > 4
    assert counts(pa.concat_tables(results)) == {"updated": ROWS}
    other = job_of(database, replace(DOCS, table="inline_docs"))
    with closing(inline_engine(other)) as engine:
        list(engine.stream(ranges_of(database, other.relation), Stop()))
    differing = (
        "SELECT count(*) FROM docs FULL JOIN inline_docs AS i USING (id)"
        " WHERE vector_send(docs.embedding) IS DISTINCT FROM vector_send(i.embedding)"
    )
    assert connect.execute(differing).fetchone() == (0,)
    assert_every_vector_is_its_texts(connect, rows=ROWS)


def test_an_error_of_ours_inside_an_actor_comes_out_as_it_was(connect, database, pools):
    job, ranges = prepared(connect, database, model=Model(name="hash:9"))
    with pytest.raises(ConfigError, match="has 8 dimensions but model hash:9 gives 9"):
        list(stream(job, pools, ranges))
    assert vectors(connect) == []


def test_an_error_of_the_writer_comes_out_as_it_was(connect, database, pools):
    job, ranges = prepared(connect, database)
    connect.execute(
        "CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.title := upper(NEW.title); RETURN NEW; END $$;"
        "CREATE TRIGGER act BEFORE UPDATE ON docs FOR EACH ROW EXECUTE FUNCTION act()"
    )
    with pytest.raises(ConfigError, match=r"a trigger on public\.docs changed the text"):
        list(stream(job, pools, ranges))
    assert vectors(connect) == []


def test_an_error_of_a_read_task_is_ours(connect, database, pools):
    job, ranges = prepared(connect, database)
    connect.execute("ALTER TABLE docs RENAME title TO headline")
    with pytest.raises(VecfillError, match="cannot be read") as error:
        list(stream(job, pools, ranges))
    assert isinstance(error.value, DatabaseError)


def test_a_stop_drains_and_what_was_counted_is_in_the_table(connect, database, pools):
    job, ranges = prepared(connect, database, 60_000)
    stop, results = Stop(), []
    for result in stream(job, pools, ranges, stop):
        results.append(result)
        stop.set("enough")
    written = counts(pa.concat_tables(results))["updated"]
    assert 0 < written < 60_000
    assert_every_vector_is_its_texts(connect, rows=written)


def test_writers_keep_to_one_rate_and_one_pause_together(connect, database, pools, caplog):
    """The slot keeps too much WAL until it is dropped; after that at most 600 rows a second come from both writers."""
    job, ranges = prepared(connect, database, 2_000)
    connect.execute("ALTER TABLE docs ADD at timestamptz")
    job = job_of(database, replace(DOCS, set=("at = clock_timestamp()",)))
    job = replace(job, write_limits=WriteLimits(max_rate=600, max_slot_wal="1kB"))
    slot = connect.execute("SELECT slot_name FROM pg_create_physical_replication_slot('vecfill_ray', true)").fetchone()
    connect.execute("SELECT pg_switch_wal()")

    def drop(done: threading.Event) -> None:
        wait_until(lambda: "pausing: slot vecfill_ray keeps" in caplog.text or done.is_set(), 120)
        dropped.append(connect.execute("SELECT clock_timestamp() FROM pg_drop_replication_slot(%s)", slot).fetchone())

    dropped: list[tuple] = []
    with caplog.at_level("INFO", "vecfill"), meanwhile(drop):
        results = list(stream(job, replace(pools, writers=2), ranges))
    assert counts(pa.concat_tables(results)) == {"updated": 2_000}
    query = "SELECT extract(epoch FROM at - %s)::float8 FROM docs ORDER BY at"
    times = [at for (at,) in connect.execute(query, dropped[0]).fetchall()]
    assert times[0] > 0
    # Each writer has a batch of at most 300 rows in hand when the pause ends, and may make up for a second.
    assert all(number <= 600 * at + 2 * 600 for number, at in enumerate(times, 1))
    assert "going on after a pause of" in caplog.text


def test_ranges_without_rows(connect, database, pools):
    job, ranges = prepared(connect, database, 100)
    empty = [PageRange(leaf=0, first_page=page, end_page=page + 1, rows=1) for page in range(90_000, 90_006)]
    assert sum(result.num_rows for result in stream(job, pools, empty)) == 0
    assert counts(pa.concat_tables(stream(job, pools, [empty[0], *ranges, empty[1]]))) == {"updated": 100}


def test_no_transaction_of_ours_is_left_open(connect, database, pools):
    job, ranges = prepared(connect, database)
    for _ in stream(job, pools, ranges):
        idle = connect.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'vecfill'"
            " AND state = 'idle in transaction' AND now() - state_change > '1 s'"
        ).fetchone()
        assert idle == (0,)


WISHES = [{}, {"actors": 1}, {"actors": 2}, {"writers": 1}, {"writers": 2}, {"gpus": 0.5}, {"device": "cpu"}]


def fitting(cpus: float, gpus: float, /, **wish):
    from vecfill.engine.ray import Pools

    found = {"CPU": float(cpus)} | ({"GPU": float(gpus)} if gpus else {})
    return Pools.fitting(found, **({"device": "auto", "actors": None, "gpus": None, "writers": None} | wish))


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 16, 64])
@pytest.mark.parametrize(
    ("gpus", "wish"), [(gpus, wish) for gpus in (0, 1, 2, 8) for wish in WISHES if gpus or "gpus" not in wish], ids=str
)
def test_what_is_reserved_fits_the_machine(cpus, gpus, wish):
    """A read task has to fit beside all actors, or Ray waits for ever."""
    from vecfill.engine.ray import READ_CPUS, WRITE_CPUS

    pools = fitting(cpus, gpus, **wish)
    assert pools.encoders * pools.cpus + pools.writers * WRITE_CPUS + READ_CPUS <= cpus + 1e-9
    assert pools.encoders * pools.gpus <= gpus
    assert pools.cpus > 0
    assert pools.cpus != READ_CPUS
    assert pools.encoders == wish.get("actors", pools.encoders)
    assert pools.writers == wish.get("writers", pools.writers) >= 1
    assert (pools.gpus > 0) == (gpus > 0 and wish.get("device") != "cpu")


def test_each_gpu_gets_an_encoder_and_two_writers():
    pools = fitting(16, 2)
    assert (pools.encoders, pools.gpus, pools.writers) == (2, 1.0, 4)
    assert fitting(16, 2, gpus=0.5).encoders == 4
    assert fitting(16, 1, actors=3).gpus == pytest.approx(1 / 3, abs=1e-4)


def test_without_a_gpu_each_eight_cores_have_an_encoder():
    found = [(fitting(cpus, 0).encoders, fitting(cpus, 0).cpus) for cpus in (2, 4, 15, 16, 64)]
    assert found == [(1, 1), (1, 3), (1, 14), (2, 7), (8, 7)]


@pytest.mark.parametrize(
    ("writers", "most", "given"), [(4, 16, (4, 11)), (4, 5, (3, 1)), (4, 3, (1, 1)), (1, 9, (1, 7))]
)
def test_readers_and_writers_leave_a_connection_to_the_driver(writers, most, given):
    pools = fitting(16, 1, writers=writers)
    assert pools.within(None) == pools
    within = pools.within(most)
    assert (within.writers, within.readers) == given
    assert within.writers + within.readers + 1 <= most


@pytest.mark.parametrize(
    ("cpus", "gpus", "wish", "says"),
    [
        (2, 0, {"gpus": 1.0}, "has no GPU"),
        (2, 0, {"device": "cuda"}, "has no GPU"),
        (2, 1, {"gpus": 2.0}, "1 encoders of 2 GPUs do not fit 1 GPUs"),
        (2, 1, {"gpus": 1.0, "actors": 2}, "2 encoders of 1 GPUs do not fit 1 GPUs"),
        (2, 0, {"writers": 9}, "1 encoders and 9 writers do not fit the cluster's 2 CPUs"),
        (1, 0, {"actors": 80}, "80 encoders and 1 writers do not fit"),
    ],
)
def test_what_cannot_fit_is_refused(cpus, gpus, wish, says):
    with pytest.raises(ConfigError, match=says):
        fitting(cpus, gpus, **wish)


GPU_RUN = """
import sys
import ray
from ray.data._internal.logical.optimizers import get_execution_plan
from tests.tables import DOCS, counts, job_of, ranges_of
from vecfill.engine.actors import StopFlag
from vecfill.engine.cluster import cluster
from vecfill.job import Stop

ray.init(address="local", num_gpus=1, log_to_driver=False, include_dashboard=False)
with cluster(None, verbose=False) as resources:
    from vecfill.engine.ray import Pools, RayEngine

    job = job_of(sys.argv[1], DOCS)
    ranges = ranges_of(sys.argv[1], job.relation)
    engine = RayEngine(job, Pools.fitting(resources, device="auto", actors=None, gpus=None, writers=None))
    print(get_execution_plan(engine.plan(ranges, StopFlag.remote())._logical_plan)[0].dag.dag_str)
    results = list(engine.stream(ranges, Stop()))
    print(len(ranges), len(results), sum(counts(result)["updated"] for result in results))
"""


def test_with_a_gpu_blocks_stay_whole(connect, database):
    """Ray believes in one GPU; ``hash`` needs none, so the whole flow runs as it would."""
    make_docs(connect, ROWS)
    command = [sys.executable, "-c", GPU_RUN, database]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=120)
    plan, numbers = done.stdout.strip().splitlines()[-2:]
    assert len(plan.split(" -> ")) == 4
    ranges, results, updated = map(int, numbers.split())
    assert (results, updated) == (ranges, ROWS)


def test_the_encoders_of_cpu_nodes_share_out_each_node_s_cores():
    from vecfill.engine.ray import Pools

    resources = {"CPU": 64.0, "nodes": 4.0, "CPU a node": 16.0}
    pools = Pools.fitting(resources, device="auto", actors=None, gpus=None, writers=None)
    assert (pools.encoders, pools.share, pools.cpus) == (8, 2, 7)
    pools = Pools.fitting(resources, device="auto", actors=4, gpus=None, writers=None)
    assert (pools.encoders, pools.share, pools.cpus) == (4, 1, 15)
