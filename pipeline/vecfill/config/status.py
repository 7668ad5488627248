"""How a status is shown."""

from __future__ import annotations

from vecfill.config.spec import Spec, option, spec


@spec
class StatusOptions(Spec):
    """Choices of ``status``."""

    watch: bool = option("Show it again every 2 s until Ctrl-C; with --json one object per line.", default=False)
