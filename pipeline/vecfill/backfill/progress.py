"""How far a run is, for whoever shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vecfill.backfill.tally import Tally


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Progress of a run.

    Attributes:
        step: ``survey``, ``engine`` (it starts), or ``sweep``.
        done: rows finished in this sweep.
        eligible: rows that it plans to read.
        sweep: its number, from 1; 0 before the first.
        tally: the account so far.
        workers: number of workers per stage.
        max_rate: rows per second that all writers together may write at the moment; None if that is as the run began.
        reached: returns the rows encoded and committed in this sweep as of now, of blocks in flight too. Any thread may
            call it.
    """

    step: str = "sweep"
    done: int = 0
    eligible: int = 0
    sweep: int = 0
    tally: Tally = field(default_factory=Tally)
    workers: dict[str, int] = field(default_factory=dict)
    max_rate: float | None = None
    reached: Callable[[], tuple[int, int]] = lambda: (0, 0)
