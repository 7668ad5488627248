"""The rate of a run: measured on a sample, or by the ledger's record of an earlier run, or assumed."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from dataclasses import replace
from typing import Any

import psycopg
import pyarrow as pa

from vecfill.encode.stage import EncodeSpec
from vecfill.engine.choice import gpu_count
from vecfill.job import Worker
from vecfill.ledger.recorded_runs import recorded_runs
from vecfill.planning.intent import PlanIntent
from vecfill.planning.record import TokenEstimate
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation
from vecfill.wording import count_of

WARM_ROWS = 32
"""Texts that are embedded before the clock starts."""

BLOCK_ROWS = 256
"""Texts that are embedded between two looks at the clock."""

MEASURE_S = 10.0
"""Longest time that a measurement embeds texts; the model's load comes on top."""

LEAST_ROWS = 500
"""Rows of a run from which on its rate counts: a shorter one mostly loads the model."""

RUNS = 100
"""Runs of the ledger among which one is looked for."""

ASSUMED_TOKENS = 20
"""Tokens of a row for which ``EncodeSpec.rows_per_s`` is a rough guess."""


def measured(
    spec: EncodeSpec, sample: pa.Table, intent: PlanIntent, kept: MutableMapping[str, Any]
) -> tuple[float, str]:
    """Embeds the distinct texts of a sample on this machine, and drops the vectors.

    Args:
        spec: of the run's encoder. The stored vectors that it has are checked, as before a run.
        sample: a TextBlock with at least one row.
        intent: notes it if another model made the stored vectors.
        kept: keeps the loaded model for the next target.

    Returns:
        Texts per second, and what was measured.
    """
    worker = Worker(kept=kept)
    with intent.obstacle():
        spec.stage(worker).warm()
    stage = replace(spec, sample=(), dedupe=False).stage(worker)
    encoder = stage.warm()
    texts = sample.take(_first_of_each(sample["text_hash"].to_pylist()))
    stage(texts.slice(0, WARM_ROWS))
    done, started = 0, time.perf_counter()
    while done < texts.num_rows and time.perf_counter() - started < MEASURE_S:
        done += stage(texts.slice(done, BLOCK_ROWS)).num_rows
    rate = done / max(1e-6, time.perf_counter() - started)
    return rate, f"embedding {count_of(done, 'text')} here, on {encoder.device} in {encoder.dtype}, without writing"


def _first_of_each(hashes: list[bytes]) -> list[int]:
    return list({one: position for position, one in reversed(list(enumerate(hashes)))}.values())[::-1]


def assumed(spec: EncodeSpec, tokens: TokenEstimate | None) -> tuple[float, str]:
    """Returns the rough rate by which a run chooses its engine, for texts of this length, and what it is."""
    rate = spec.rows_per_s(gpu_count())
    if tokens is None:
        return rate, "a guess for a small model"
    most = tokens.mean if tokens.windowed else tokens.limit or tokens.mean
    read = max(ASSUMED_TOKENS, min(tokens.mean, most))
    return rate * ASSUMED_TOKENS / read, "a guess for a small model and texts of this length: --measure measures it"


def recorded(connection: Connection, relation: Relation, model: str) -> tuple[float, str] | None:
    """Returns the rows per second of the newest run of a model that the ledger has, and which run; None without one."""
    try:
        _, runs = recorded_runs(connection, relation, RUNS)
    except psycopg.errors.InsufficientPrivilege:  # a plan does without
        return None
    for run in runs:
        if run.model == model and (run.rows or 0) >= LEAST_ROWS and run.rows_per_s:
            return (
                run.rows_per_s,
                f"the run of {run.started:%Y-%m-%d %H:%M}, which wrote {count_of(run.rows or 0, 'row')}",
            )
    return None
