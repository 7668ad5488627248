"""``vecfill bench pipeline``: rounds of everybody, in one run, and the account of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from vecfill.bench import contenders as who
from vecfill.bench.contenders import COMPARED, Contender, chosen, job_of
from vecfill.bench.corpus import Corpus, duplicated, repeated
from vecfill.bench.device import Device, machine
from vecfill.bench.measure import (
    Measured,
    Ratio,
    matrix_share,
    median,
    ratio,
    rotated,
    start_up,
    totals,
    warm_rate,
    whole_rate,
)
from vecfill.bench.scratch import Scratch, Table, scratch
from vecfill.bench.worker import Worker
from vecfill.config.model import Model
from vecfill.encode.model_files import dimension_of
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database
from vecfill.postgres.session import reachable

CEILING_FACTOR, CEILING_MOST = 40, 600_000
"""Rows of the ceiling for each row of the model's, and their most: without a model 2,048 rows take a blink, and Ray's
readers are still starting when 200,000 are done."""

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be measured."""

    corpus: Corpus
    model: Model
    rounds: int
    only: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """A group's texts, its model, and the scratch table that holds them."""

    texts: tuple[str, ...]
    model: Model
    table: Table


@dataclass
class _Place:
    """A contender at work: its process, where it stays between rounds, and what was measured."""

    contender: Contender
    worker: Worker
    group: _Texts
    measured: list[Measured]


def measure(plan: Plan, database: Database, say: Say) -> dict[str, Any]:
    """Measures everybody, round by round, and returns the report as plain values.

    Args:
        plan: what.
        database: where the scratch schema goes; nothing of it remains.
        say: is told what is going on.

    Raises:
        ConfigError: something cannot work as given.
        VecfillError: a contender failed.
    """
    found = chosen(plan.only, plan.model)
    dim = dimension_of(plan.model)
    if dim is None:
        raise ConfigError(f"model {plan.model.name} does not tell its dimension without loading: choose another")
    place = reachable(database)
    about = machine() | {"postgresql": server_version(place)}
    device = _device(plan, found, say)
    with scratch(place) as schema, ExitStack() as stack:
        groups = _groups(plan, found, schema, dim)
        placed = [_placed(one, groups[one.group], stack, say) for one in found]
        places = [one for one in placed if one is not None]
        for turn in range(plan.rounds):
            _round(turn, plan.rounds, places, say)
    return _report(plan, about, device, places)


def server_version(database: Database) -> str:
    """As the server tells it."""
    with closing(database.connect()) as connection:
        row = connection.execute("SELECT pg_catalog.current_setting('server_version')").fetchone()
    return str(row[0]) if row else ""


def _device(plan: Plan, found: Sequence[Contender], say: Say) -> dict[str, Any]:
    """What the device is to this model; nothing for a model without weights."""
    names = {one.name for one in found if one.group not in (who.CEILING, who.COLD)}
    if not names:
        return {}
    say("the device: matrix rate at the model's shapes")
    dtypes = ("float32", *(["bfloat16"] if "inline auto" in names else []))
    with Worker("device", Device(model=plan.model, texts=plan.corpus.texts, dtypes=dtypes)) as worker:
        worker.prepare()
        return worker.facts


def _groups(plan: Plan, found: Sequence[Contender], schema: Scratch, dim: int) -> dict[str, _Texts]:
    texts = plan.corpus.texts
    stand_in = Model(name=f"hash:{dim}")
    many = min(CEILING_MOST, CEILING_FACTOR * len(texts))
    made = {
        who.MODEL: lambda: (texts, plan.model),
        who.DUPLICATES: lambda: (duplicated(texts, who.DUPLICATE_SHARE), plan.model),
        who.COLD: lambda: (texts[: who.COLD_ROWS], plan.model),
        who.CEILING: lambda: (repeated(texts, many), stand_in),
    }
    groups = {}
    for name in dict.fromkeys(one.group for one in found):
        some, model = made[name]()
        groups[name] = _Texts(texts=some, model=model, table=schema.table(name, some, dim))
    return groups


def _placed(contender: Contender, group: _Texts, stack: ExitStack, say: Say) -> _Place | None:
    """Starts a contender's process and warms it up; None for ``inline auto`` where auto is float32."""
    worker = Worker(contender.name, contender.make(job_of(group.table, group.model), group.texts))
    if not contender.ray:
        say(f"{contender.name}: starts and warms up")
        group.table.refill()
        stack.enter_context(worker).prepare()
        if contender.name == "inline auto" and worker.facts["dtype"] == "float32":
            say("inline auto: left out, since auto is float32 on this device")
            return None
    return _Place(contender, worker, group, [])


def _round(turn: int, rounds: int, places: list[_Place], say: Say) -> None:
    by_name = {one.contender.name: one for one in places}
    for name in rotated(list(by_name), turn):
        place = by_name[name]
        if place.contender.table:
            place.group.table.refill()
        with _running(place) as worker:
            measured = worker.measure()
        place.measured.append(measured)
        rate = _rate(place.contender, measured)
        say(f"round {turn + 1} of {rounds}: {name}: {'too few blocks' if rate is None else f'{rate:,.0f} rows/s'}")


@contextmanager
def _running(place: _Place) -> Iterator[Worker]:
    """The contender's process; on Ray one for each measurement, since a cluster that waits would disturb the others."""
    if not place.contender.ray:
        yield place.worker
        return
    with Worker(place.contender.name, place.contender.make(job_of(place.group.table, place.group.model), ())) as worker:
        worker.prepare()
        yield worker
    place.worker.facts, place.worker.started = worker.facts, worker.started
    place.worker.peak = max(place.worker.peak, worker.peak)


def _rate(contender: Contender, measured: Measured) -> float | None:
    """Warm rows a second. In-process there is no start-up in the measurement, so one block's whole time counts too."""
    rate = whole_rate(measured) if contender.whole else warm_rate(measured.marks)
    return whole_rate(measured) if rate is None and not contender.ray else rate


def _report(plan: Plan, about: dict[str, Any], device: dict[str, Any], places: Sequence[_Place]) -> dict[str, Any]:
    rates = {one.contender.name: [_rate(one.contender, each) for each in one.measured] for one in places}
    return {
        "machine": about,
        "device": device,
        "corpus": {"name": plan.corpus.name, "rows": len(plan.corpus.texts)},
        "model": plan.model.name,
        "rounds": plan.rounds,
        "contenders": [_line(one, device, rates) for one in places],
        "ratios": [
            {"contender": name, "against": other, **asdict(found)}
            for name, other in COMPARED
            if (found := ratio(rates.get(name, ()), rates.get(other, ())))
        ],
        "timeline": _timeline(places),
    }


def _line(place: _Place, device: dict[str, Any], rates: Mapping[str, list[float | None]]) -> dict[str, Any]:
    """A contender's line of the table."""
    contender, facts = place.contender, place.worker.facts
    rate = median(rates[contender.name])
    texts = len(place.group.texts)
    tokens = rate * device["tokens"] / texts if rate and device and contender.group == who.MODEL else None
    dtype = facts.get("dtype", "float32")
    flops = device.get("flops", {}).get(dtype)
    found: Ratio | None = ratio(rates[contender.name], rates.get(contender.yardstick, ()))
    return {
        "name": contender.name,
        "about": contender.about,
        "group": contender.group,
        "rows": texts,
        "rows_per_s": rate,
        "rounds": rates[contender.name],
        "ratio": asdict(found) if found else None,
        "against": contender.yardstick,
        "tokens_per_s": tokens,
        "padding": _padding(place, device),
        "matrix_share": matrix_share(device["parameters"], tokens, flops) if tokens and flops else None,
        "gflops": 2.0 * device["parameters"] * tokens / 1e9 if tokens else None,
        "stage_seconds": totals([one.stages for one in place.measured]),
        "peak_bytes": place.worker.peak,
        "startup_s": _started(place),
        "dtype": dtype if contender.group != who.CEILING else None,
        "batch": facts.get("batch"),
    }


def _started(place: _Place) -> float | None:
    """Seconds from nothing to the first row: the process and the model, or Ray, its actors and the model."""
    if not place.contender.ray:
        return place.worker.started
    first = median([start_up(one) for one in place.measured])
    cluster = median([one.started for one in place.measured])
    return None if first is None else place.worker.started + (cluster or 0.0) + first


def _padding(place: _Place, device: dict[str, Any]) -> float | None:
    """Seen at the model's door in-process; reckoned from the batches that ``encode`` makes."""
    if place.contender.library and device:
        return float(device["padding"][place.worker.facts["batch"]])
    seen = place.worker.facts.get("padding")
    return None if seen is None else float(seen)


def _timeline(places: Sequence[_Place]) -> dict[str, Any] | None:
    """The calls of each stage in one run of the in-process engine: with the model where it took part."""
    for name in ("inline", "inline auto", "hash inline"):
        for one in places:
            if one.contender.name == name:
                last = one.measured[-1]
                return {"contender": name, "seconds": last.seconds, "spans": last.spans}
    return None
