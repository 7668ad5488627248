"""How a target is tracked."""

from __future__ import annotations

from vecfill.config.spec import Spec, option, spec


@spec
class TrackOptions(Spec):
    """Options of ``track`` and ``untrack``."""

    triggers: bool = option(
        "Capture changes by triggers; without them each run compares every row with the ledger.", default=True
    )
    adopt: bool = option(
        "Record existing vectors as made by --model, if a sample of them agrees with it.", default=False
    )
    dry_run: bool = option("Print the statements instead of running them.", default=False)
