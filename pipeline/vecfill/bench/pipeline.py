"""``vecfill bench pipeline``: all contenders, round by round in one run, and the report as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from vecfill.bench import contenders as who
from vecfill.bench.contenders import COMPARED, YARDSTICKS, Contender, chosen
from vecfill.bench.corpus import Corpus, duplicated, repeated
from vecfill.bench.device import Device
from vecfill.bench.measure import Measured, matrix_share, median, ratio, start_up, totals, warm_rate, whole_rate
from vecfill.bench.ours import Work
from vecfill.bench.rounds import Entry, Progress, machine_of, ratios, run_rounds
from vecfill.bench.scratch import Scratch, scratch
from vecfill.bench.worker import FreshWorker, Runner, Worker
from vecfill.config.model import Model
from vecfill.encode.model.model_files import dimension_of
from vecfill.errors import ConfigError
from vecfill.postgres.database import Database
from vecfill.postgres.session import reachable

CEILING_FACTOR, CEILING_MOST = 40, 600_000
"""Rows of the ceiling for each row of the model's, and their most: without a model 2,048 rows take no time, and Ray's
readers are still starting when 200,000 are done."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure."""

    corpus: Corpus
    model: Model
    rounds: int
    only: tuple[str, ...] = ()


_Group = tuple[Work, tuple[str, ...]]
"""A group's scratch table with its model, and its texts."""


@dataclass(kw_only=True)
class _Entry(Entry):
    contender: Contender
    texts: int


def measure(plan: Plan, database: Database, progress: Progress) -> dict[str, Any]:
    """Measures every contender, round by round, and returns the report as plain values.

    Args:
        plan: what.
        database: where the scratch schema goes; nothing of it remains.
        progress: is called with a line for each step.

    Raises:
        ConfigError: something cannot work as given.
        VecfillError: a contender failed.
    """
    found = chosen(plan.only, plan.model)
    dim = dimension_of(plan.model)
    if dim is None:
        raise ConfigError(f"model {plan.model.name} has to be loaded to know its dimension: choose another")
    place = reachable(database)
    about = machine_of(place)
    device = _device(plan, found, progress)
    with scratch(place) as schema, ExitStack() as stack:
        groups = _groups(plan, found, schema, dim)
        started = [_started(one, groups[one.group], stack, progress) for one in found]
        entries = [one for one in started if one is not None]
        run_rounds(entries, plan.rounds, progress)
    rates = {one.contender.name: one.rates for one in entries}
    return {
        "machine": about,
        "device": device,
        "corpus": {"name": plan.corpus.name, "rows": len(plan.corpus.texts)},
        "model": plan.model.name,
        "rounds": plan.rounds,
        "contenders": [_line(one, device, rates) for one in entries],
        "ratios": ratios(rates, COMPARED),
        "timeline": _timeline(entries),
    }


def _device(plan: Plan, found: Sequence[Contender], progress: Progress) -> dict[str, Any]:
    """The device's figures for this model; nothing where no contender needs its weights."""
    names = {one.name for one in found if one.group not in (who.CEILING, who.COLD)}
    if not names:
        return {}
    progress("the device: matrix rate at the model's shapes")
    dtypes = ("float32", *(["bfloat16"] if "inline auto" in names else []))
    with Worker("device", Device(model=plan.model, texts=plan.corpus.texts, dtypes=dtypes)) as worker:
        worker.prepare()
        return worker.facts


def _groups(plan: Plan, found: Sequence[Contender], schema: Scratch, dim: int) -> dict[str, _Group]:
    groups = {}
    for name in dict.fromkeys(one.group for one in found):
        texts = _texts(name, plan.corpus.texts)
        model = Model(name=f"hash:{dim}") if name == who.CEILING else plan.model
        groups[name] = Work(table=schema.table(name, texts, dim), model=model), texts
    return groups


def _texts(group: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    if group == who.CEILING:
        return repeated(texts, min(CEILING_MOST, CEILING_FACTOR * len(texts)))
    if group == who.DUPLICATES:
        return duplicated(texts, who.DUPLICATE_SHARE)
    return texts[: who.COLD_ROWS] if group == who.COLD else texts


def _started(contender: Contender, group: _Group, stack: ExitStack, progress: Progress) -> _Entry | None:
    """Starts a contender's process and warms it up; None for ``inline auto`` where auto is float32."""
    work, texts = group
    runner = contender.make(work, texts)
    worker = (FreshWorker if runner.ray else Worker)(contender.name, runner)
    if not runner.ray:
        progress(f"{contender.name}: starts and warms up")
        work.table.refill()
    stack.enter_context(worker).prepare()
    if contender.name == "inline auto" and worker.facts["dtype"] == "float32":
        progress("inline auto: left out, since auto is float32 on this device")
        return None
    table, rate = work.table if runner.writes else None, partial(_rate, runner)
    return _Entry(worker=worker, table=table, rate=rate, contender=contender, texts=len(texts))


def _rate(runner: Runner, measured: Measured) -> float | None:
    """Warm rows/s. In-process the measurement has no start-up, so the whole time of a single block counts too."""
    rate = whole_rate(measured) if runner.whole else warm_rate(measured.marks)
    return whole_rate(measured) if rate is None and not runner.ray else rate


def _line(entry: _Entry, device: dict[str, Any], rates: Mapping[str, list[float | None]]) -> dict[str, Any]:
    """A contender's line of the table."""
    contender, facts = entry.contender, entry.worker.facts
    yardstick = YARDSTICKS[contender.group]
    rate = median(entry.rates)
    tokens = rate * device["tokens"] / entry.texts if rate and device and contender.group == who.MODEL else None
    dtype = facts.get("dtype", "float32")
    flops = device.get("flops", {}).get(dtype)
    found = ratio(entry.rates, rates.get(yardstick, ()))
    return {
        "name": contender.name,
        "about": contender.about,
        "group": contender.group,
        "rows": entry.texts,
        "rows_per_s": rate,
        "rounds": entry.rates,
        "ratio": asdict(found) if found else None,
        "against": yardstick,
        "tokens_per_s": tokens,
        "padding": _padding(entry, device),
        "matrix_share": matrix_share(device["parameters"], tokens, flops) if tokens and flops else None,
        "gflops": 2.0 * device["parameters"] * tokens / 1e9 if tokens else None,
        "stage_seconds": totals([one.stages for one in entry.measured]),
        "peak_bytes": entry.worker.peak,
        "startup_s": _startup(entry),
        "dtype": dtype if contender.group != who.CEILING else None,
        "batch": facts.get("batch"),
    }


def _startup(entry: _Entry) -> float | None:
    """Seconds from nothing to the first row: the process and the model, or Ray, its actors and the model."""
    if not entry.worker.runner.ray:
        return entry.worker.started
    first = median([start_up(one) for one in entry.measured])
    cluster = median([one.started for one in entry.measured])
    return None if first is None else entry.worker.started + (cluster or 0.0) + first


def _padding(entry: _Entry, device: dict[str, Any]) -> float | None:
    """Counted at the model's input in-process; computed from the batches that ``encode`` makes."""
    if device and "batch" in entry.worker.facts and entry.contender.group == who.MODEL:
        return float(device["padding"][entry.worker.facts["batch"]])
    seen = entry.worker.facts.get("padding")
    return None if seen is None else float(seen)


def _timeline(entries: Sequence[_Entry]) -> dict[str, Any] | None:
    """The calls of each stage in one in-process run: with the model if it took part."""
    by_name = {one.contender.name: one.measured[-1] for one in entries}
    for name in ("inline", "inline auto", "hash inline"):
        if last := by_name.get(name):
            return {"contender": name, "seconds": last.seconds, "spans": last.spans}
    return None
