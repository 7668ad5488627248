"""Which failed rows to try again."""

from __future__ import annotations

from typing import Literal

from vecfill.config.spec import Spec, option, spec
from vecfill.errors import ConfigError


@spec
class RetryOptions(Spec):
    """Which of the remembered failures ``retry`` makes due, or entries of a queue table it puts back; set one of them.

    Attributes:
        keys: keys of rows, as ``failures`` shows them.
        stage: rows that failed in this stage.
        all: every row.
        lost: rows without a vector although all their entries of the queue table are done.
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
    lost: bool = option(
        "Retry the rows without a vector whose entries of the queue table are all done.",
        default=False,
        name="retry_lost",
        flag="--lost",
    )

    def __post_init__(self) -> None:
        if bool(self.keys) + (self.stage is not None) + self.all + self.lost != 1:
            raise ConfigError(
                "which rows to retry is not clear: give --key KEY, --stage STAGE, --all or --lost, and only one"
            )
