"""What a process learned about the batches of a model on a device, for the next one. Imports no torch."""

from __future__ import annotations

import logging
import time
from typing import Any

from vecfill.config.model import Model
from vecfill.encode.model.fingerprint import files_of
from vecfill.encode.remembered import Remembered, versions_of

MAX_BATCH_TOKENS = 65_536
"""Largest batch in tokens, as long as memory has not run out."""

_HOLDS_S = 7 * 24 * 3600
"""Seconds after which it is learned anew: another process may have held the memory that was short."""

_log = logging.getLogger(__name__)


class LearnedBatches:
    """Batch sizes in tokens.

    Attributes:
        limit: largest batch that fits the memory.
        best: the one with the most tokens a second; None as long as it is not known.
    """

    def __init__(self, kept: Remembered | None = None, *, keeps_best: bool = True) -> None:
        """Reads what is remembered; without a place nothing is, and nothing will be.

        Args:
            kept: the place.
            keeps_best: whether the best size outlives this process.
        """
        self._kept, self._keeps_best = kept, keeps_best
        known = (kept.read() if kept else None) or {}
        if time.time() - _number(known, "learned_at") > _HOLDS_S:
            known = {}
        self.limit = min(_number(known, "limit") or MAX_BATCH_TOKENS, MAX_BATCH_TOKENS)
        self.best = (keeps_best and _number(known, "best")) or None

    @classmethod
    def of(cls, model: Model, device: str, **computing: Any) -> LearnedBatches:
        """Returns what is known of a model.

        On a CPU each process looks for its best size: it costs little there, and one that was found beside other work
        made quiet runs a tenth slower.

        Args:
            model: its files count, its other settings do not.
            device: ``cuda`` or ``cpu``.
            computing: what else the batches depend on: type, strategy, threads.
        """
        from vecfill.encode.device.compute_device import device_kind

        conditions = {
            "files": files_of(model),
            "device": device_kind(device),
            "with": versions_of(("torch", "vecfill")),
        }
        return cls(Remembered("batches", {**conditions, **computing}), keeps_best=device == "cuda")

    def lower(self, limit: int) -> None:
        """Remembers that only batches of ``limit`` tokens fit."""
        if limit < self.limit:
            self.limit = limit
            self._save()

    def found(self, best: int) -> None:
        """Remembers the best batch size."""
        known, self.best = self.best, best
        if self._keeps_best and best != known:
            self._save()

    def _save(self) -> None:
        if self._kept is None:
            return
        try:
            best = self.best if self._keeps_best else None
            self._kept.save({"limit": self.limit, "best": best, "learned_at": int(time.time())})
        except OSError as error:
            _log.debug("batch sizes are not kept: %s", error)


def _number(known: dict[str, Any], name: str) -> int:
    value = known.get(name)
    return value if type(value) is int and value > 0 else 0
