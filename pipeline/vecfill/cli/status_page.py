"""What ``vecfill status`` shows to people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from vecfill.backfill.meter import changes_wait, duration, line
from vecfill.backfill.run_state import RESTING
from vecfill.cli.report import coverage_table, queue_lines
from vecfill.config.adjustments import as_texts
from vecfill.config.limits import WriteLimits
from vecfill.config.options import options_of
from vecfill.ledger.recorded_runs import Holder, RunRecord
from vecfill.ledger_status import LedgerStatus
from vecfill.table_status import Status

SHOWN_RUNS = 5
"""Ended runs that are shown of one target; of several, each shows its last."""


def status_page(found: Sequence[Status]) -> Group:
    """Returns the tables and lines of these targets."""
    if len(found) == 1:
        counts = coverage_table({"now": found[0].coverage}, found[0].table)
    else:
        counts = coverage_table({one.table: one.coverage for one in found}, "now")
    return Group(counts, *(part for one in found for part in _parts(one, SHOWN_RUNS if len(found) == 1 else 1)))


def _parts(one: Status, runs: int) -> Iterator[RenderableType]:
    if one.run_needs:
        yield Text(f"{one.table}: a run would not start: {one.run_needs}")
    if one.queue:
        yield from map(Text, queue_lines(one.table, one.queue, one.queue.statuses))
        if one.queue.stuck:
            yield Text(f"queue table {one.queue.table}: {one.queue.stuck:,} stuck: the next run takes them over")
    if one.ledger:
        yield Text(f"{one.table}: {_queue(one.ledger)}")
        for waiting in one.ledger.waiting_indexes:
            yield Text(f"{one.table}: {waiting}; the next `vecfill run` does it")
        if one.ledger.running:
            yield Text(f"{one.table}: running: {_running(one.ledger.running)}")
        if one.ledger.runs:
            yield _runs(one.ledger.runs[:runs])


def _queue(ledger: LedgerStatus) -> str:
    whole = "" if ledger.unknown is not None else "; the next run reads the whole table"
    if not ledger.queued:
        return f"no change waits{whole}"
    return f"{changes_wait(ledger.queued, ledger.oldest_s)}{whole}"


def _running(held: Holder) -> str:
    """The run in progress: who, since when, how far."""
    by = f"{held.by}, since {held.since:%Y-%m-%d %H:%M:%S} UTC"
    if held.run is None:
        return by
    by = ", ".join([held.run.model, by, *_limits(held.run)])
    state = held.run.progress
    if state is None:
        return f"{by}: starting"
    far = line(state) if "done" in state else RESTING if state["step"] == RESTING else f"start-up, {state['step']}"
    if "done" not in state and state["waiting_for"]:
        far = f"{far}, waiting for: {state['waiting_for']}"
    return f"{by}: {far} ({duration(held.run.heartbeat_s)} ago)"


def _limits(run: RunRecord) -> list[str]:
    """The settings that hold a run back."""
    return as_texts(run.settings, [*(option.name for option in options_of(WriteLimits)), "pause"])


def _runs(runs: Sequence[RunRecord]) -> Table:
    table = Table(title="last runs", title_justify="left")
    for name in ("started (UTC)", "took", "rows", "rows/s", "outcome"):
        table.add_column(name, justify="right" if name in ("took", "rows", "rows/s") else "left", overflow="fold")
    for run in runs:
        rows, rate = (
            "" if run.rows is None else f"{run.rows:,}",
            f"{run.rows_per_s:,.0f}" if run.rows and run.rows_per_s else "",
        )
        table.add_row(f"{run.started:%Y-%m-%d %H:%M:%S}", duration(run.seconds), rows, rate, Text(_outcome(run)))
    return table


def _outcome(run: RunRecord) -> str:
    code = "" if run.exit_code is None else f" ({run.exit_code})"
    return f"{run.outcome}{code}" + (f": {run.counts['error']}" if "error" in run.counts else "")
