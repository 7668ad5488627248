"""How a status is shown."""

from __future__ import annotations

from vecfill.config.spec import Spec, option, spec


@spec
class StatusOptions(Spec):
    """Choices of ``status``."""

    watch: bool = option("Refresh every 2 s until Ctrl-C; with --json, print one object per line.", default=False)
