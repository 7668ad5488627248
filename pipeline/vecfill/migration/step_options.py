"""How a step of a migration is taken: how long it waits for the table, and who agrees to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vecfill.config.migrate import LockOptions
from vecfill.errors import ConfigError


def no_consent(_: str) -> bool:
    """Confirms nothing."""
    return False


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """How a step of a migration is taken.

    Attributes:
        locks: how long to wait for the table.
        dry_run: return the statements and run none.
        yes: go ahead without asking.
        consent: called with the reason if a confirmation is needed and ``yes`` is not set; True goes ahead.
    """

    locks: LockOptions = field(default_factory=LockOptions)
    dry_run: bool = False
    yes: bool = False
    consent: Callable[[str], bool] = no_consent

    def confirm(self, excess: str) -> None:
        """Asks before something that costs, or cannot be undone.

        Raises:
            ConfigError: nobody confirmed it.
        """
        if not self.yes and not self.consent(excess):
            raise ConfigError(f"refusing to start: {excess}; pass --yes to proceed")


UNASKED = StepOptions()
"""Waits as long as the defaults say, and does nothing that needs a confirmation."""
