"""How often a watch looks for work, and what it serves over HTTP."""

from __future__ import annotations

from pathlib import Path

from vecfill.config.spec import Spec, option, spec


@spec
class WatchOptions(Spec):
    """How ``watch`` looks for work, and how it tells that it is alive."""

    interval: float = option("Look for work every X seconds.", default=0.5, gt=0, le=3600)
    metrics: int | None = option(
        "Serve /metrics, /healthz and /readyz on this port; 0 chooses a free one.",
        default=None,
        metavar="PORT",
        ge=0,
        le=65535,
    )
    metrics_host: str = option("Serve them on this address.", default="127.0.0.1", metavar="ADDRESS")
    ready_file: Path | None = option(
        "Keep FILE while every target is ready, as /readyz says.", default=None, metavar="FILE"
    )
