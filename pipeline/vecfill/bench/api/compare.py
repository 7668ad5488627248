"""``vecfill bench api``: both sides, round by round in one run; each fills a scratch table with the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
from psycopg import sql

from vecfill.bench.api.budget import Needs, check_reach, within
from vecfill.bench.api.judged import neighbour_quality, retrieval_quality
from vecfill.bench.api.modelled import modelled
from vecfill.bench.api.plan import WARM, Plan, Tokens, counted, needed
from vecfill.bench.api.quality import Vectors
from vecfill.bench.api.sides import API, COUNTED, LOCAL, SIDES, Side
from vecfill.bench.measure import Measured, median, ratio
from vecfill.bench.ours import Work
from vecfill.bench.rounds import Entry, Progress, machine_of, run_rounds
from vecfill.bench.scratch import Table, scratch
from vecfill.bench.worker import Worker
from vecfill.config.model import Model
from vecfill.encode.api.budget import RequestBudget
from vecfill.encode.api.terms import limits_of
from vecfill.encode.load import load_model
from vecfill.encode.model.model_files import dimension_of
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database
from vecfill.postgres.session import reachable

PERCENTILES = (50, 95, 99)

ASKED = ("max_concurrency", "request_inputs", "request_tokens")
"""Settings of the API client in the report; none is secret."""


def measure(plan: Plan, database: Database, progress: Progress) -> dict[str, Any]:
    """Measures both sides and returns the report as plain values.

    Args:
        plan: what.
        database: where the scratch schema goes; nothing of it remains.
        progress: is called with a line for each step.

    Raises:
        ConfigError: something cannot work as given.
        BudgetError: the API's budget does not allow the whole comparison.
        VecfillError: a side failed.
    """
    place = reachable(database)
    about = machine_of(place)
    tokens = counted(plan.corpus, plan.local, plan.api)
    needs, ledger = needed(plan, tokens), RequestBudget(limits_of(plan.api))
    models = {LOCAL: plan.local, API: plan.api}
    check_reach(ledger.limits, needs)
    with within(ledger, needs):
        dims = {side: _dimension(model, ledger) for side, model in models.items()}
    with scratch(place) as schema:
        works = {
            side: Work(table=schema.table(side, plan.corpus.texts, dims[side]), model=models[side]) for side in SIDES
        }
        with _entries(plan, works, progress, ledger=ledger, needs=needs) as entries:
            run_rounds(list(entries.values()), plan.rounds, progress)
        progress("quality: neighbours by brute force")
        vectors = {side: _vectors(works[side].table) for side in SIDES}
    found = ratio(entries[LOCAL].rates, entries[API].rates)
    measured = {
        "sides": {side: _side(side, models[side], entries[side], dims[side]) for side in SIDES},
        "ratio": asdict(found) if found else None,
        "quality": neighbour_quality(plan.corpus, vectors),
        "retrieval": retrieval_quality(plan.retrieval, {side: entries[side].worker.facts for side in SIDES}),
    }
    return {
        "report": "vecfill bench api",
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": about,
        "rows": _rows(plan, tokens),
        "rounds": plan.rounds,
        "measured": measured,
        "modelled": modelled(plan, measured, tokens),
    }


def _dimension(model: Model, ledger: RequestBudget) -> int:
    """From the model's files, or from one word's vector."""
    known = dimension_of(model)
    if known is not None:
        return known
    encoder = load_model(model, budget=ledger)
    try:
        return encoder.dim
    finally:
        if ending := getattr(encoder, "close", None):
            ending()


@contextmanager
def _entries(
    plan: Plan, works: Mapping[str, Work], progress: Progress, *, ledger: RequestBudget, needs: Needs
) -> Iterator[dict[str, Entry]]:
    """Both sides, each in a process of its own, ready and timed at single queries, one side after the other."""
    with ExitStack() as stack:
        entries = {}
        for side, work in works.items():
            progress(f"{side}: {work.model.name} starts, {len(plan.queries)} single queries")
            runner = Side(
                work=work,
                warm=plan.corpus.texts[:WARM],
                queries=plan.queries,
                documents=plan.documents,
                ledger=ledger,
                needs=needs,
            )
            worker = stack.enter_context(Worker(side, runner))
            worker.prepare()
            entries[side] = Entry(worker=worker, table=work.table)
        yield entries


def _vectors(table: Table) -> Vectors:
    """The vectors of the scratch table, float32 [n, dim], in the rows' order.

    Raises:
        ConfigError: a row has none.
    """
    query = sql.SQL("SELECT embedding::pg_catalog.float4[] FROM {} ORDER BY id").format(table.name)
    with closing(table.database.connect()) as connection:
        rows = connection.execute(query).fetchall()
    if any(vector is None for (vector,) in rows):
        raise ConfigError("a row of the scratch table has no vector: run again")
    return np.array([vector for (vector,) in rows], np.float32)


def _rows(plan: Plan, tokens: Tokens) -> dict[str, Any]:
    corpus = plan.corpus
    return {
        "name": corpus.name,
        "built_in": corpus.built_in,
        "n": len(corpus.texts),
        "distinct": len(corpus.distinct()),
        "label": corpus.label,
        "characters": sum(map(len, corpus.texts)) / len(corpus.texts),
        **{f"tokens_{name}": value for name, value in asdict(tokens).items()},
    }


def _side(side: str, model: Model, entry: Entry, dim: int) -> dict[str, Any]:
    facts, filled, api = entry.worker.facts, entry.measured, side == API
    return {
        "side": side,
        "model": model.name,
        "dim": dim,
        "host": model.api.host if api else None,
        "device": facts["device"],
        "dtype": None if api else facts["dtype"],
        "settings": {"base_url": model.api.url, **{name: getattr(model.api, name) for name in ASKED}} if api else {},
        "rows_per_s": median(entry.rates),
        "rounds": entry.rates,
        "seconds": [one.seconds for one in filled],
        "tokens": filled[-1].tokens or None,
        "truncated": None if api and model.api.tokenizer is None else filled[-1].truncated,
        "tokens_per_s": median([one.tokens / one.seconds or None for one in filled]),
        "first_rows_s": median([one.marks[0][0] for one in filled]),
        "first_rows": filled[-1].marks[0][1],
        "startup_s": entry.worker.started,
        "peak_bytes": entry.worker.peak,
        "query_s": _percentiles(facts["query_s"]),
        "queries_s": facts["query_s"],
        "requests": _requests(facts, filled) if api else None,
    }


def _requests(facts: dict[str, Any], filled: Sequence[Measured]) -> dict[str, Any]:
    """The API's requests in a round (medians), the seconds of each in all rounds, and its rate as its own log has it.

    That rate counts from a round's first request to its last answer.
    """
    if any(not one.usage for one in filled):
        return {}
    rates = [one.rows / one.usage["window_s"] for one in filled]
    seconds = [second for one in filled for second in one.usage["latencies"]]
    return {
        **{name: median([one.usage[name] for one in filled]) for name in COUNTED},
        "rows_per_s": median(rates),
        "rounds": rates,
        "latency_s": _percentiles(seconds),
        "latencies_s": seconds,
        "first_vector_s": facts["usage"]["first_vector_s"],
    }


def _percentiles(seconds: Sequence[float]) -> dict[str, float]:
    found = np.percentile(seconds, PERCENTILES) if len(seconds) else np.zeros(len(PERCENTILES))
    return {f"p{at}": float(value) for at, value in zip(PERCENTILES, found, strict=True)}
