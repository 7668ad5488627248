"""The account of a run: the sums of what the writers reported."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from vecfill.blocks import OUTCOMES, UnwrittenRow
from vecfill.errors import EncodeError

FINAL = ("updated", "filled", "gone")
"""Outcomes that finish a row; the next sweep reads ``stale`` and ``locked`` rows again."""

MAX_QUARANTINED = 10_000
"""Most failed and refused rows of a run, whose keys the driver holds; with more, the run stops: they share a cause."""


@dataclass
class Sweep:
    """Counts of one pass over the eligible rows."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES, 0))

    @property
    def rows(self) -> int:
        """Rows that were read, each with one outcome."""
        return sum(self.counts.values())

    @property
    def unfinished(self) -> int:
        """Rows whose text changed or that another transaction locked."""
        return self.counts["stale"] + self.counts["locked"]


@dataclass
class Tally:
    """The driver's record of a run: sums, and the keys of rows in quarantine.

    ``dry`` means that no eligible row remains: then none counts as locked, even if the last sweep found some.
    """

    sweeps: list[Sweep] = field(default_factory=list)
    quarantine: dict[str, UnwrittenRow] = field(default_factory=dict)
    tokens: int = 0
    truncated: int = 0
    tokens_by: Counter[int] = field(default_factory=Counter)
    windowed: int = 0
    windows: int = 0
    reused: int = 0
    bytes: int = 0
    load_s: float = 0.0
    dry: bool = False
    devices: set[str] = field(default_factory=set)
    dtypes: set[str] = field(default_factory=set)
    encoders: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("read", "encode", "write"), 0.0))

    def begin_sweep(self) -> Sweep:
        """Starts counting a new pass."""
        self.sweeps.append(Sweep())
        return self.sweeps[-1]

    def add(self, result: pa.Table) -> int:
        """Adds a WriteResult to the current sweep and returns its rows.

        Raises:
            EncodeError: more than ``MAX_QUARANTINED`` rows failed.
        """
        before = self.sweeps[-1].rows
        for batch in result.to_pylist():
            for outcome in OUTCOMES:
                self.sweeps[-1].counts[outcome] += batch[outcome]
            self.tokens += batch["tokens"]
            self.truncated += batch["truncated"]
            self.tokens_by.update(dict(enumerate(batch["tokens_by"])))
            self.windowed += batch["windowed"]
            self.windows += batch["windows"]
            self.reused += batch["reused"]
            self.bytes += batch["bytes"]
            self.load_s += batch["load_s"]
            self.devices.add(batch["device"])
            self.dtypes.add(batch["dtype"])
            self.encoders.add(batch["encoder"])
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
                "so many share a cause; committed rows are kept"
            )

    def add_committed(self, updated: int) -> None:
        """Adds rows that were committed although the result of their block was lost.

        Args:
            updated: rows that the writers committed in all sweeps.
        """
        self.sweeps[-1].counts["updated"] += max(0, updated - self.total("updated"))

    def total(self, outcome: str) -> int:
        """Rows with this outcome: in all sweeps if it is final, in the last sweep if it may still change."""
        if outcome in ("failed", "refused"):
            return sum(row.outcome == outcome for row in self.quarantine.values())
        if outcome == "locked":
            return self.sweeps[-1].counts["locked"] if self.sweeps and not self.dry else 0
        return sum(sweep.counts[outcome] for sweep in self.sweeps)

    @property
    def finished(self) -> int:
        """Rows that need nothing more: written, filled by another session, or gone. A limit counts these."""
        return sum(self.total(outcome) for outcome in FINAL)

    @property
    def rows(self) -> int:
        """Rows with a final outcome: finished, failed or refused."""
        return self.finished + len(self.quarantine)
