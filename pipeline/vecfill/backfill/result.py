"""The result of a run: the outcomes of its rows, its duration, and its exit code."""

from __future__ import annotations

import dataclasses
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from vecfill.backfill.drain import Drain
from vecfill.backfill.forecast import Forecast
from vecfill.backfill.tally import Tally
from vecfill.blocks import OUTCOMES, UnwrittenRow
from vecfill.encode.api.budget import Account
from vecfill.encode.encoding import TokensBy
from vecfill.engine.signals import exit_code
from vecfill.indexing.rebuilding import RebuiltIndex
from vecfill.read.queue_table_source import QueueTableSource
from vecfill.read.queue_upkeep import QueueCounts
from vecfill.read.survey import Coverage
from vecfill.wording import count_of

log = logging.getLogger(__name__)

EXIT_COMPLETE, EXIT_QUARANTINED, EXIT_INCOMPLETE = 0, 3, 5


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Counts of rows unless named otherwise. The keys of ``--json``.

    Attributes:
        eligible: rows to fill when the run started: those with a text but without a vector; of a tracked target also
            those with an outdated one.
        device: where the model computed; None if it was not needed.
        dtype: type that it computed in.
        encoder: who computed: ``native`` (vecfill's own pass), ``library``, ``api`` or ``stand-in``.
        embedded: rows that got a vector; a row that was read again counts again.
        updated: rows whose vector this run wrote, counted by the server.
        stale: texts that changed while their vector was made; read again by the next sweep.
        filled: rows that another session filled meanwhile; its vector stays.
        gone: rows that were deleted meanwhile.
        locked: rows that another transaction locked until the end.
        refused: rows whose update a trigger or a row-level policy prevented.
        failed: rows that the model or the server could not process.
        empty: rows with nothing to embed, when they were last counted.
        truncated: texts longer than the model reads, whose end was left out.
        fast_tokens: rows embedded from the tokens of the fast tokenizer (extra ``fast``).
        fast_dropped: why the fast tokenizer was dropped or not used, and how to verify such rows; None if it was not.
        windowed: such texts that were embedded whole, by windows (``--long mean``).
        windows: their windows.
        reused: rows that got the vector of an equal text, without another computation.
        remaining: rows that are eligible now; None if a stop left no time to count them.
        after: the coverage now; None if ``remaining`` is.
        seconds: wall time, start-up included; ``stage_seconds`` is work, summed over the workers of a stage.
        startup_seconds: wall time until the first block was written, by step; see ``StartupTimes``.
        rows_per_s, tokens_per_s: over the wall time from the first read to the last commit, which includes loading the
            model and, on Ray, starting the actors.
        api: requests to an API, its tokens and their cost in USD; None for a local model.
        outcome: complete, limit, quarantined, incomplete or stopped.
        forecast: the estimate before the first write; None if there was nothing to write.
        row_security: row-level policies apply to the role, so that only rows that it may see are counted.
        tracked: the target is tracked.
        selected: eligible rows by reason: missing, changed, other_model, unknown.
        cleared: rows whose vector was cleared because their text became empty.
        uncleared: such rows that another session locked until the end.
        unknown: vectors whose origin the ledger did not know when the table was last read as a whole; None if never.
        queued_before: entries in the queue of changes when the run began; None if the target is not tracked.
        queued_after: entries that remained at the end.
        queue: what the run found in the queue table, and did there; None without one.
        indexes: vector indexes that this run, or one that died, has dropped; built again, or still waiting.
    """

    run_id: str
    table: str
    model: str
    engine: str | None
    device: str | None
    dtype: str | None
    encoder: str | None
    eligible: int
    embedded: int
    updated: int
    stale: int
    filled: int
    gone: int
    locked: int
    refused: int
    failed: int
    empty: int
    truncated: int
    fast_tokens: int
    fast_dropped: str | None
    windowed: int
    windows: int
    reused: int
    remaining: int | None
    sweeps: int
    seconds: float
    startup_seconds: dict[str, float]
    stage_seconds: dict[str, float]
    rows_per_s: float
    tokens_per_s: float
    bytes_sent: int
    api: Account | None
    outcome: str
    exit_code: int
    before: Coverage
    after: Coverage | None
    forecast: Forecast | None = None
    row_security: bool = False
    tracked: bool = False
    selected: dict[str, int] = field(default_factory=dict)
    cleared: int = 0
    uncleared: int = 0
    unknown: int | None = None
    queued_before: int | None = None
    queued_after: int | None = None
    queue: QueueCounts | None = None
    indexes: tuple[RebuiltIndex, ...] = ()
    quarantine: tuple[UnwrittenRow, ...] = field(default=())

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = dataclasses.asdict(self)
        for name, coverage in (("before", self.before), ("after", self.after)):
            if coverage:
                found[name]["percent"] = round(coverage.percent, 2)
        return found


def result_of(drain: Drain, started: float, run_id: str, indexes: tuple[RebuiltIndex, ...] = ()) -> RunResult:
    """The account of a run that began at ``started``, by ``time.perf_counter``."""
    prepared, tally, engine, after = drain.prepared, drain.tally, drain.engine, drain.after.coverage
    outcome, code = judged(drain)
    if code in (EXIT_COMPLETE, EXIT_QUARANTINED) and any(index.error for index in indexes):
        outcome, code = "incomplete", EXIT_INCOMPLETE
    if drain.account and drain.account.spent:
        log.warning("%s: a rerun continues from here", drain.account.spent)
    if (dropped := fast_dropped(tally)) is not None:
        log.warning(dropped)
    read = sum(sweep.rows for sweep in tally.sweeps)
    return RunResult(
        run_id=run_id,
        table=prepared.relation.table.label,
        model=prepared.model.name,
        engine=engine.name if engine else None,
        device=", ".join(sorted(tally.devices)) or None,
        dtype=", ".join(sorted(tally.dtypes)) or None,
        encoder=", ".join(sorted(tally.encoders)) or None,
        eligible=prepared.before.open,
        embedded=read - sum(sweep.counts["failed"] for sweep in tally.sweeps),
        **{name: tally.total(name) for name in OUTCOMES},
        empty=after.empty,
        truncated=tally.truncated,
        fast_tokens=tally.tokens_by[TokensBy.FAST],
        fast_dropped=dropped,
        windowed=tally.windowed,
        windows=tally.windows,
        reused=tally.reused,
        remaining=after.open if drain.counted else None,
        sweeps=len(tally.sweeps),
        seconds=round(time.perf_counter() - started, 3),
        startup_seconds=prepared.startup.seconds if engine else {},
        stage_seconds={stage: round(seconds, 3) for stage, seconds in tally.seconds.items()},
        rows_per_s=round(read / drain.seconds, 1) if drain.seconds else 0.0,
        tokens_per_s=round(tally.tokens / drain.seconds, 1) if drain.seconds else 0.0,
        bytes_sent=tally.bytes,
        api=drain.account,
        outcome=outcome,
        exit_code=code,
        before=prepared.before,
        after=after if drain.counted else None,
        forecast=prepared.forecast,
        row_security=prepared.relation.access.policies,
        quarantine=tuple(tally.quarantine.values()),
        tracked=prepared.counts is not None,
        indexes=indexes,
        queue=prepared.source.counts if isinstance(prepared.source, QueueTableSource) else None,
        selected={reason: prepared.found.states.get(reason, 0) for reason in prepared.source.selection.reasons},
        **(vars(prepared.counts) if prepared.counts else {}),
    )


def fast_dropped(tally: Tally) -> str | None:
    """Says that the fast tokenizer gave other tokens than the library, and how to verify the rows embedded before."""
    rows = tally.tokens_by[TokensBy.FAST]
    if tally.tokens_by[TokensBy.CAUGHT]:
        return (
            "the fast tokenizer (tokie) gave other tokens than the tokenizers library and was dropped: before, "
            f"{count_of(rows, 'row', 'was')} embedded from its tokens; `vecfill verify --all` compares them with the "
            "library's"
        )
    if tally.tokens_by[TokensBy.UNPROVEN]:
        return "the fast tokenizer (tokie) is not used for this model (see the log): the tokenizers library tokenized"
    return None


def judged(drain: Drain) -> tuple[str, int]:
    """Outcome and exit code of a run that drained, or had nothing to drain."""
    counts = drain.prepared.counts
    if counts and counts.uncleared and exit_code(drain.stop.reason) is None:
        return "incomplete", EXIT_INCOMPLETE
    if drain.prepared.job is None:
        return "complete", EXIT_COMPLETE
    return judge(
        drain.tally,
        stop_reason=drain.stop.reason,
        limit=drain.limit,
        left=drain.after.eligible if drain.counted else None,
        planned=drain.planned,
        beyond=drain.beyond,
    )


def judge(
    tally: Tally, *, stop_reason: str | None, limit: int | None, left: int | None, planned: int, beyond: int = 0
) -> tuple[str, int]:
    """Returns the outcome of a run and its exit code.

    Args:
        tally: the run's account.
        stop_reason: why the run stopped early, if it did.
        limit: the most rows to finish.
        left: eligible rows that remain and are not in quarantine; None if they were not counted.
        planned: rows that the last sweep planned to read.
        beyond: eligible rows that it did not plan to read because of the limit.

    A last sweep is clean if it finished all rows that it planned to read; rows that remain then arrived during the run.
    """
    if (code := exit_code(stop_reason)) is not None:
        return "stopped", code
    if left is None:
        return "incomplete", EXIT_INCOMPLETE
    limited = limit is not None and tally.finished >= limit
    last = tally.sweeps[-1] if tally.sweeps else None
    clean = last is None or (last.unfinished == 0 and last.rows >= planned and not beyond)
    if left > 0 and not limited and (stop_reason or not clean):
        return "incomplete", EXIT_INCOMPLETE
    if tally.quarantine:
        return "quarantined", EXIT_QUARANTINED
    return ("limit" if limited and left > 0 else "complete"), EXIT_COMPLETE
