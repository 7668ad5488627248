"""Prints coverage and the result of a run for people, as tables on stdout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.table import Table

from vecfill.backfill.result import RunResult
from vecfill.blocks import OUTCOMES
from vecfill.indexing.rebuilding import BUILT, PRESENT, RebuiltIndex
from vecfill.read.queue_findings import QueueFindings
from vecfill.read.queue_upkeep import QueueCounts
from vecfill.read.survey import Coverage
from vecfill.wording import count_of

SHOWN_QUARANTINE = 10

NOT_COUNTED = "rows that remain: not counted after the stop (vecfill status counts them)"


OF_SOME = ("changed", "unknown", "failed", "unqueued")
"""Counts that only tracked targets have, or those with a queue table; shown where one is not zero."""


def coverage_table(rows: dict[str, Coverage], title: str) -> Table:
    """Returns a table with one line per coverage."""
    table = Table(title=title, title_justify="left")
    more = [name for name in OF_SOME if any(getattr(one, name) for one in rows.values())]
    for name in ("", "total", "with vector", "missing", "empty", *more, "%"):
        table.add_column(name, justify="left" if not name else "right", overflow="fold")  # or a count loses digits
    for name, one in rows.items():
        about = "~" if one.estimated else ""
        estimates, counts = (
            (one.total, one.filled),
            (one.missing, one.empty, *(getattr(one, name) or 0 for name in more)),
        )
        table.add_row(
            name,
            *(f"{about}{count:,}" for count in estimates),
            *(f"{count:,}" for count in counts),
            f"{about}{one.percent:.2f}",
        )
    return table


def _account(result: RunResult) -> str:
    """The outcome and counts of a run, in one line."""
    named = (*OUTCOMES, "cleared")
    counts = ", ".join(f"{getattr(result, name):,} {name}" for name in named if getattr(result, name)) or (
        "no rows reached" if result.eligible else "nothing to do"
    )
    long = (
        f"{result.windowed:,} long ones embedded by {result.windows:,} windows"
        if result.windowed
        else f"{result.truncated:,} truncated"
    )
    return f"{result.outcome}: {counts}; {result.empty:,} empty, {long}, {result.reused:,} reused"


def queue_lines(label: str, found: QueueCounts | QueueFindings, *statuses: Mapping[str, int] | None) -> Iterator[str]:
    """Yields what a queue table says: its entries by status, now or before and after a run, and what it leaves out."""
    counts = (", ".join(f"{count:,} {status}" for status, count in one.items()) for one in statuses if one is not None)
    yield f"queue table {found.table}: {' -> '.join(one or 'no entry' for one in counts)}"
    if isinstance(found, QueueCounts) and found.held:
        yield (
            f"{label}: processing entries of other workers, or of a run that died: {found.held:,}; a later run takes "
            "them after --queue-stuck-minutes, and with 0 at once, if no other worker is alive"
        )
    if found.lost:
        rows = count_of(found.lost, "row", "has")
        yield f"{label}: {rows} no vector and only done entries: see `vecfill retry --lost`"
    if found.unnamed:
        rows = count_of(found.unnamed, "row", "has")
        yield f"{label}: {rows} no vector and no entry: `vecfill run --queue-rest` embeds them"


def index_lines(found: Iterable[RebuiltIndex]) -> Iterator[str]:
    """Yields what became of the vector indexes that a run has dropped."""
    for one in found:
        how = f"waits to be built again: {one.definition}"
        if one.state == BUILT:
            how = f"built again in {one.seconds:.1f} s" + (", without parallel workers" if one.serial else "")
        elif one.state == PRESENT:
            how = "was built by somebody else meanwhile"
        yield f"index {one.name} on {one.table}: {how}"


def print_line(result: RunResult) -> None:
    """Prints one of several targets, as one line."""
    after = f"{result.after.percent:.2f}% after" if result.after else NOT_COUNTED
    covered = f"{result.before.percent:.2f}% before, {after}"
    Console(soft_wrap=True, highlight=False).print(f"{result.table}: {_account(result)}; {covered}", markup=False)


def print_result(result: RunResult) -> None:
    """Prints the account of a run."""
    console = Console(soft_wrap=True, highlight=False)
    covered = {"before": result.before} | ({"after": result.after} if result.after else {})
    console.print(coverage_table(covered, f"{result.table}, {result.model}"))
    if not result.after:
        console.print(NOT_COUNTED)
    console.print(_account(result))
    if result.queue:
        for one in queue_lines(result.table, result.queue, result.queue.before, result.queue.after):
            console.print(one, markup=False)
    for line in index_lines(result.indexes):
        console.print(line, markup=False)
    if result.device:
        stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in result.stage_seconds.items())
        console.print(
            f"{result.rows_per_s:,.0f} rows/s, {result.tokens_per_s:,.0f} tokens/s on {result.device} "
            f"in {result.dtype} ({result.engine}), {result.seconds:.1f} s in all; work: {stages}"
        )
    if result.api:
        cost = (
            ""
            if result.api.cost_usd is None
            else f", ${result.api.cost_usd:,.4f} by the price table or --price-per-million"
        )
        console.print(f"API: {count_of(result.api.requests, 'request')}, {count_of(result.api.tokens, 'token')}{cost}")
    for row in result.quarantine[:SHOWN_QUARANTINE]:
        console.print(f"{row.outcome}: key {row.key}: {row.error}", markup=False)
    if len(result.quarantine) > SHOWN_QUARANTINE:
        console.print(f"… and {len(result.quarantine) - SHOWN_QUARANTINE:,} more: --json lists them all")
