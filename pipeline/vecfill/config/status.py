"""How a status is shown."""

from __future__ import annotations

from vecfill.config.spec import Spec, option, spec


@spec
class StatusOptions(Spec):
    """Choices of ``status``."""

    adjust: tuple[str, ...] = option(
        "Change a setting of the run in progress of a tracked target: max_rate=500, max_latency=50ms, pause=true; an "
        "empty value removes the limit; repeatable.",
        default=(),
        flag="--set",
        metavar="NAME=VALUE",
    )
    watch: bool = option("Refresh every 2 s until Ctrl-C; with --json, print one object per line.", default=False)
