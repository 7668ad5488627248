"""What grows with the table, and must not: the driver's memory, the object store, the time that a transaction waits."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import psycopg
import pytest
from tests.faults.processes import OURS
from tests.tables import make_docs, meanwhile

pytestmark = pytest.mark.slow

RUNS = """
import sys
import time
from contextlib import closing
from pathlib import Path

from vecfill import EngineOptions, Model, RunOptions, Target, Warm, run

database, engine, model, *tables = sys.argv[1:]
dedupe = model == "hash:384"  # the vectors that a run keeps take 128 MiB after 87,000 texts, with fewer numbers later
options = RunOptions(engine=EngineOptions(engine=engine), yes=True, dedupe=dedupe)
with closing(Warm()) as warm:
    for table in tables:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        target = Target(table=table, text="title")
        result = run(target, Model(name=model), database=database, options=options, warm=warm)
        (peak,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
        print("run", result.updated, int(peak.split()[1]) / 1024, result.rows_per_s)
    if engine == "ray":
        from ray._private import worker

        time.sleep(2)  # the raylet writes down its state every second
        state = Path(worker._global_node.get_logs_dir_path(), "debug_state.txt").read_text()
        print(*[line for line in state.splitlines() if "cumulative spill requests" in line], sep="\\n")
"""
"""Fills table after table in one process, and tells after each the rows, its peak in MiB, and rows/s."""

IDLE = f"""
SELECT COALESCE(max(extract(epoch FROM clock_timestamp() - state_change)), 0)::float8
FROM pg_stat_activity WHERE {OURS} AND state = 'idle in transaction'
"""


def idle_in_transaction(database: str, seen: list[float]):
    """Samples for how long the idlest transaction of ours has been idle."""

    def sample(done: threading.Event) -> None:
        with psycopg.connect(database, autocommit=True) as watcher:
            while not done.wait(0.05):
                seen.append(watcher.execute(IDLE).fetchone()[0])

    return sample


SOAK = 100_000, 1_000_000
soak = [pytest.mark.soak, pytest.mark.timeout(1_800)]


@pytest.mark.parametrize(
    ("engine", "sizes", "model"),
    [
        ("inline", (70_000, 200_000), "hash:32"),  # from the first on a block has as many rows as it ever has
        pytest.param("inline", SOAK, "hash:384", marks=soak),
        pytest.param("ray", SOAK, "hash:384", marks=[*soak, pytest.mark.ray]),
    ],
    ids=["inline", "inline-soak", "ray-soak"],
)
def test_memory_and_transactions_do_not_grow_with_the_table(connect, database, engine, sizes, model):
    """The first table is for what a process loads once. The server is the slowest stage, so that the others wait."""
    dim, sizes = model.partition(":")[2], (2_000, *sizes)
    for rows in sizes:
        make_docs(connect, rows, vector=f"vector({dim})", table=f"docs_{rows}")
    command = [sys.executable, "-c", RUNS, database, engine, model, *(f"docs_{rows}" for rows in sizes)]
    environ = {**os.environ, "RAY_debug_dump_period_milliseconds": "1000"}
    seen: list[float] = []
    with meanwhile(idle_in_transaction(database, seen)):
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert ended.returncode == 0, ended.stderr
    told = [line.split()[1:] for line in ended.stdout.splitlines() if line.startswith("run ")]
    assert [int(rows) for rows, *_ in told] == list(sizes)
    print(ended.stdout, f"idle in transaction for {max(seen):.3f} s at most, {len(seen)} samples")
    _, less, more = (float(peak) for _, peak, _ in told)
    assert more <= 1.2 * less
    assert max(seen) < 1
    assert engine == "inline" or ended.stdout.count("spill requests: 0") == 1
