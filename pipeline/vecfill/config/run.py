"""The limits of a run, and what it may do without confirmation."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from vecfill.config.engine import EngineOptions
from vecfill.config.limits import WriteLimits
from vecfill.config.spec import Spec, option, spec

OFFERED = ("index", "limit")
"""Options of a run that some verbs do not take, and that messages recommend to those that do."""


@spec
class RunOptions(Spec):
    """Limits and choices of a run; ``engine`` and ``write_limits`` are those of the workers.

    ``offered`` says which of ``OFFERED`` the verb takes.
    """

    engine: EngineOptions = Field(default_factory=EngineOptions)
    select: Literal["missing", "changed", "all"] | None = option(
        "Rows to fill: without a vector; also those whose text changed; or all that this model did not make.",
        default=None,
        unset="changed if the target is tracked, else missing",
    )
    audit: bool = option("Compare every row with the ledger instead of trusting the queue of changes.", default=False)
    lease: float = option(
        "Let another run take over this target after X seconds without a sign of life.", default=30.0, ge=0.1, le=86_400
    )
    index: Literal["keep", "rebuild", "auto"] = option(
        "Vector indexes during the run: keep them; drop them before it and build them again after it; or measure both.",
        default="keep",
    )
    order_by: str | None = option(
        "Take the rows in this order: SQL sort keys such as 'created_at DESC NULLS LAST'.", default=None, metavar="SQL"
    )
    limit: int | None = option("Stop after N rows.", default=None, gt=0)
    max_seconds: float | None = option("Stop after X seconds; batches in flight are committed.", default=None, gt=0)
    write_limits: WriteLimits = Field(default_factory=WriteLimits)
    dedupe: bool = option("Compute each distinct text once.", default=True)
    allow_mixed: bool = option("Continue even if existing vectors come from a different model.", default=False)
    yes: bool = option("Start without asking, even if the forecast exceeds the confirmation limit.", default=False)
    offered: tuple[str, ...] = Field(default=OFFERED)


@spec
class ReportFile(Spec):
    """The file that lists the rows not updated; ``vecfill.Report`` writes it."""

    report: Path | None = option(
        "Overwrite FILE with one JSON line per row not updated (key, outcome, reason).", default=None, metavar="FILE"
    )
