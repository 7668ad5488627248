"""Whether a watch is alive and ready, from what its targets' threads have noted. No SQL, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from vecfill.watching.target_state import WATCHING, TargetState
from vecfill.wording import count_of


class Health:
    """The state of all targets.

    Attributes:
        targets: their states.
        loaded: the models are in memory, and every target was checked.
    """

    def __init__(self, targets: Sequence[TargetState]) -> None:
        self.targets, self.loaded = targets, False

    @property
    def stuck(self) -> list[str]:
        """Targets whose loop shows no sign of life. Before the start none counts: loading a model takes its time."""
        return [one.target for one in self.targets if self.loaded and one.stuck]

    @property
    def alive(self) -> bool:
        """Whether every loop turns."""
        return not self.stuck

    @property
    def waiting(self) -> dict[str, str]:
        """Targets that are not ready, with the reason."""
        if not self.loaded:
            return {one.target: one.reason or one.phase for one in self.targets}
        return {one.target: one.reason or one.phase for one in self.targets if not one.ready}

    @property
    def ready(self) -> bool:
        """Whether the models are loaded, and each target was checked, has its server, and goes on."""
        return self.loaded and not self.waiting

    @property
    def summary(self) -> str:
        """One line for people."""
        watched = sum(one.phase == WATCHING for one in self.targets)
        queued = sum(one.queued for one in self.targets)
        return f"watching {watched} of {count_of(len(self.targets), 'target')}, {count_of(queued, 'entry')} queued"
