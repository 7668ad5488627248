"""Both sides, round by round, in one run: each fills a scratch table of its own with the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np

from vecfill.bench.api import judged
from vecfill.bench.api.budget import Needs, check_reach, within
from vecfill.bench.api.modelled import modelled
from vecfill.bench.api.plan import WARM, Plan, counted, needed
from vecfill.bench.api.quality import Vectors
from vecfill.bench.api.sides import API, COUNTED, LOCAL, SIDES, Filled, Side
from vecfill.bench.contenders import job_of
from vecfill.bench.device import machine
from vecfill.bench.measure import median, ratio, rotated, whole_rate
from vecfill.bench.pipeline import server_version
from vecfill.bench.scratch import Table, scratch
from vecfill.bench.worker import Worker
from vecfill.config.model import Model
from vecfill.encode.api.budget import RequestBudget
from vecfill.encode.api.terms import limits_of
from vecfill.encode.load import load_model
from vecfill.encode.model_files import dimension_of
from vecfill.errors import ConfigError, VecfillError
from vecfill.job import Job
from vecfill.postgres.database import Database
from vecfill.postgres.session import reachable

Say = Callable[[str], None]

PERCENTILES = (50, 95, 99)


def measure(plan: Plan, database: Database, say: Say) -> dict[str, Any]:
    """Measures both sides and returns the report as plain values.

    Args:
        plan: what.
        database: where the scratch schema goes; nothing of it remains.
        say: is told what is going on.

    Raises:
        ConfigError: something cannot work as given.
        BudgetError: the API's budget does not reach for all of it.
        VecfillError: a side failed.
    """
    place = reachable(database)
    about = machine() | {"postgresql": server_version(place)}
    tokens = counted(plan.rows, plan.local, plan.api)
    needs, ledger = needed(plan, tokens), RequestBudget(limits_of(plan.api))
    models = {LOCAL: plan.local, API: plan.api}
    check_reach(ledger.limits, needs)
    with within(ledger, needs):
        dims = {side: _dimension(model, ledger) for side, model in models.items()}
    with scratch(place) as schema:
        tables = {side: schema.table(side, plan.rows.texts, dims[side]) for side in SIDES}
        jobs = {side: job_of(tables[side], models[side]) for side in SIDES}
        with _workers(plan, jobs, say, ledger=ledger, needs=needs) as workers:
            filled = _rounds(plan, workers, tables, say)
        say("quality: neighbours by brute force")
        vectors = {side: _vectors(tables[side]) for side in SIDES}
    measured = {
        "sides": {side: _side(side, models[side], workers[side], filled[side], dims[side]) for side in SIDES},
        "ratio": _ratio(filled),
        "quality": judged.quality(plan, vectors),
        "retrieval": judged.retrieved(plan, {side: workers[side].facts for side in SIDES}),
    }
    return {
        "report": "vecfill bench api",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "rows": {
            "name": plan.rows.name,
            "built_in": plan.rows.built_in,
            "n": len(plan.rows.texts),
            "distinct": len(plan.rows.distinct()),
            "label": plan.rows.label,
            "characters": sum(map(len, plan.rows.texts)) / len(plan.rows.texts),
            **{f"tokens_{name}": value for name, value in asdict(tokens).items()},
        },
        "rounds": plan.rounds,
        "measured": measured,
        "modelled": modelled(plan, measured, tokens),
    }


def _dimension(model: Model, ledger: RequestBudget) -> int:
    """As its files tell, or as one word's vector shows."""
    told = dimension_of(model)
    if told is not None:
        return told
    encoder = load_model(model, budget=ledger)
    try:
        return encoder.dim
    finally:
        if ending := getattr(encoder, "close", None):
            ending()


@contextmanager
def _workers(
    plan: Plan, jobs: dict[str, Job], say: Say, *, ledger: RequestBudget, needs: Needs
) -> Iterator[dict[str, Worker]]:
    """Both sides, each in a process of its own, ready and timed at single queries, one side after the other."""
    with ExitStack() as stack:
        workers = {}
        for side in SIDES:
            say(f"{side}: {jobs[side].encode.model.name} starts, {len(plan.queries)} single queries")
            runner = Side(
                job=jobs[side],
                warm=plan.rows.texts[:WARM],
                queries=plan.queries,
                documents=plan.documents,
                ledger=ledger,
                needs=needs,
            )
            workers[side] = stack.enter_context(Worker(side, runner))
            workers[side].prepare()
        yield workers


def _rounds(plan: Plan, workers: dict[str, Worker], tables: dict[str, Table], say: Say) -> dict[str, list[Filled]]:
    found: dict[str, list[Filled]] = {side: [] for side in SIDES}
    for turn in range(plan.rounds):
        for side in rotated(SIDES, turn):
            tables[side].refill()
            one = workers[side].measure()
            if not isinstance(one, Filled) or one.rows != len(plan.rows.texts):
                raise VecfillError(f"{side}: {one.rows} of {len(plan.rows.texts)} rows got a vector")
            found[side].append(one)
            say(f"round {turn + 1} of {plan.rounds}: {side}: {whole_rate(one) or 0:,.0f} rows/s")
    return found


def _vectors(table: Table) -> Vectors:
    """What lies in the scratch table, float32 [n, dim], in the rows' order.

    Raises:
        ConfigError: a row has none.
    """
    with closing(table.database.connect()) as connection:
        rows = connection.execute(
            b"SELECT embedding::pg_catalog.float4[] FROM " + table.relation.table.name.as_bytes() + b" ORDER BY id"
        ).fetchall()
    if any(vector is None for (vector,) in rows):
        raise ConfigError("a row of the scratch table has no vector: run again")
    return np.array([vector for (vector,) in rows], np.float32)


def _side(side: str, model: Model, worker: Worker, filled: Sequence[Filled], dim: int) -> dict[str, Any]:
    facts = worker.facts
    rates = [whole_rate(one) for one in filled]
    return {
        "side": side,
        "model": model.name,
        "dim": dim,
        "host": model.api.host if model.is_api else None,
        "device": facts["device"],
        "dtype": facts["dtype"] if side == LOCAL else None,
        "settings": _settings(model),
        "rows_per_s": median(rates),
        "rounds": rates,
        "seconds": [one.seconds for one in filled],
        "tokens": filled[-1].tokens or None,
        "truncated": None if model.is_api and model.api.tokenizer is None else filled[-1].truncated,
        "tokens_per_s": median([one.tokens / one.seconds or None for one in filled]),
        "first_rows_s": median([one.marks[0][0] for one in filled]),
        "first_rows": filled[-1].marks[0][1],
        "startup_s": worker.started,
        "peak_bytes": worker.peak,
        "query_s": _percentiles(facts["query_s"]),
        "queries_s": facts["query_s"],
        "requests": _requests(facts, filled) if side == API else None,
    }


def _settings(model: Model) -> dict[str, Any]:
    """How the API was asked; nothing of it is secret."""
    if not model.is_api:
        return {}
    asked = model.api
    return {
        "base_url": asked.url,
        "max_concurrency": asked.max_concurrency,
        "request_inputs": asked.request_inputs,
        "request_tokens": asked.request_tokens,
    }


def _requests(facts: dict[str, Any], filled: Sequence[Filled]) -> dict[str, Any]:
    """What the API was asked in a round (medians), and how long the requests of all rounds took."""
    if any(not one.usage for one in filled):
        return {}
    seconds = [second for one in filled for second in one.usage["latencies"]]
    return {
        **{name: median([one.usage[name] for one in filled]) for name in COUNTED},
        "rows_per_s": median(_rates_of_the_api(filled)),
        "rounds": _rates_of_the_api(filled),
        "latency_s": _percentiles(seconds),
        "latencies_s": seconds,
        "first_vector_s": facts["usage"]["first_vector_s"],
    }


def _rates_of_the_api(filled: Sequence[Filled]) -> list[float]:
    """Rows a second of each round from its first request to its last answer: as the API's own log has it."""
    return [one.rows / one.usage["window_s"] for one in filled]


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    found = np.percentile(seconds, PERCENTILES) if len(seconds) else np.zeros(len(PERCENTILES))
    return {f"p{at}": float(value) for at, value in zip(PERCENTILES, found, strict=True)}


def _ratio(filled: dict[str, list[Filled]]) -> dict[str, float] | None:
    rates = {side: [whole_rate(one) for one in filled[side]] for side in SIDES}
    found = ratio(rates[LOCAL], rates[API])
    return asdict(found) if found else None
