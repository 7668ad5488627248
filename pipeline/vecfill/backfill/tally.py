"""The run's account: what the writers reported, summed; and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass, field

import pyarrow as pa

from vecfill.blocks import OUTCOMES, UnwrittenRow
from vecfill.errors import EncodeError

FINAL = ("updated", "filled", "gone")
"""Outcomes that end a row's story; ``stale`` and ``locked`` rows are read again by the next sweep."""

MAX_QUARANTINED = 10_000
"""Keys of failed and refused rows that the driver holds; a run with more is stopped, since their fault is shared."""


@dataclass
class Sweep:
    """Counts of one pass over the eligible rows."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))

    @property
    def rows(self) -> int:
        """Rows that were read and accounted for."""
        return sum(self.counts.values())

    @property
    def unsettled(self) -> int:
        """Rows whose text changed or that another transaction held."""
        return self.counts["stale"] + self.counts["locked"]


@dataclass
class Tally:
    """Everything that the driver holds of a run: sums, and the keys of rows in quarantine.

    ``dry`` says that no row is eligible any more: then none is locked, whatever the last sweep found.
    """

    sweeps: list[Sweep] = field(default_factory=list)
    quarantine: dict[str, UnwrittenRow] = field(default_factory=dict)
    tokens: int = 0
    truncated: int = 0
    reused: int = 0
    bytes: int = 0
    load_s: float = 0.0
    dry: bool = False
    devices: set[str] = field(default_factory=set)
    dtypes: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "encode", "write"), 0.0))

    def begin_sweep(self) -> Sweep:
        """Starts counting a new pass."""
        self.sweeps.append(Sweep())
        return self.sweeps[-1]

    def add(self, result: pa.Table) -> int:
        """Adds a WriteResult to the sweep that is under way and returns its rows.

        Raises:
            EncodeError: more than ``MAX_QUARANTINED`` rows failed.
        """
        before = self.sweeps[-1].rows
        for batch in result.to_pylist():
            for outcome in OUTCOMES:
                self.sweeps[-1].counts[outcome] += batch[outcome]
            self.tokens += batch["tokens"]
            self.truncated += batch["truncated"]
            self.reused += batch["reused"]
            self.bytes += batch["bytes"]
            self.load_s += batch["load_s"]
            self.devices.add(batch["device"])
            self.dtypes.add(batch["dtype"])
            for stage in self.seconds:
                self.seconds[stage] += batch[f"{stage}_s"]
            self._quarantine(batch["unwritten"])
        return self.sweeps[-1].rows - before

    def _quarantine(self, rows: list[dict[str, str | None]]) -> None:
        found = (UnwrittenRow(**row) for row in rows if row["outcome"] in ("failed", "refused"))  # type: ignore[arg-type]
        self.quarantine |= {row.key: row for row in found}
        if len(self.quarantine) > MAX_QUARANTINED:
            last = next(reversed(self.quarantine.values()))
            raise EncodeError(
                f"more than {MAX_QUARANTINED} rows failed, the last ({last.key}) with: {last.error}: "
                "that many share a cause; what was committed is kept"
            )

    def total(self, outcome: str) -> int:
        """Rows with this outcome: over all sweeps where it is final, in the last sweep where it may yet change."""
        if outcome in ("failed", "refused"):
            return sum(row.outcome == outcome for row in self.quarantine.values())
        if outcome == "locked":
            return self.sweeps[-1].counts["locked"] if self.sweeps and not self.dry else 0
        return sum(sweep.counts[outcome] for sweep in self.sweeps)

    @property
    def settled(self) -> int:
        """Rows whose story is over: written, filled by another, or gone. What a limit counts."""
        return sum(self.total(outcome) for outcome in FINAL)

    @property
    def rows(self) -> int:
        """Rows that came to an end in this run: settled, failed or refused."""
        return self.settled + len(self.quarantine)
