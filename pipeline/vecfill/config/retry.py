"""Which failed rows to try again."""

from __future__ import annotations

from typing import Literal

from vecfill.config.spec import Spec, option, spec
from vecfill.errors import ConfigError


@spec
class RetryOptions(Spec):
    """Which of the remembered failures ``retry`` makes due; set one of them.

    Attributes:
        keys: keys of rows, as ``failures`` shows them.
        stage: rows that failed in this stage.
        all: every row.
    """

    keys: tuple[str, ...] = option(
        "Retry the row with this key, as `vecfill failures` shows it; repeatable.",
        default=(),
        name="retry_key",
        flag="--key",
        metavar="KEY",
    )
    stage: Literal["read", "encode", "write"] | None = option(
        "Retry the rows that failed in this stage.", default=None, name="retry_stage", flag="--stage"
    )
    all: bool = option("Retry every row that failed.", default=False, name="retry_all", flag="--all")

    def __post_init__(self) -> None:
        if bool(self.keys) + (self.stage is not None) + self.all != 1:
            raise ConfigError("which rows to retry is not clear: give --key KEY, --stage STAGE or --all, and only one")
