"""How large a request an API accepts, in texts and in bytes: found once, by halving, and kept for the run."""

from __future__ import annotations

import asyncio
import logging
import sys

import numpy as np
import numpy.typing as npt

from vecfill.encode.api.token_counts import split_into_requests

_log = logging.getLogger(__name__)

Bytes = npt.NDArray[np.int64]

PRECISION = 16
"""The search ends when the limit is known to one part in so many, small limits exactly."""

MAX_FAULTS = 2
"""Faulty texts before the first success after which no refusal is blamed on the size: every text may be refused."""


class Limit:
    """One limit on the size of a request, between the largest accepted size and the smallest refused one.

    Attributes:
        accepted: largest size that was accepted; 0 before the first.
        refused: smallest larger size that was refused; None if none was.
        confirmed: all texts of a refused request were accepted in smaller ones, so no text was at fault.
    """

    def __init__(self) -> None:
        self.accepted = 0
        self.refused: int | None = None
        self.confirmed = False

    @property
    def found(self) -> bool:
        """Whether there is nothing to search: no limit, or a limit known well enough."""
        return self.refused is None or self.refused - self.accepted <= max(1, self.accepted // PRECISION)

    @property
    def most(self) -> int:
        """Largest size to send next."""
        if self.refused is None:
            return sys.maxsize
        return self.accepted if self.found and self.accepted else max(1, (self.accepted + self.refused) // 2)

    def accept(self, size: int) -> None:
        """Records a success; it disproves a lower limit."""
        self.accepted = max(self.accepted, size)
        if self.refused is not None and self.refused <= self.accepted:
            self.refused, self.confirmed = None, False

    def refuse(self, size: int) -> None:
        """Records a refusal that no smaller success contradicts."""
        self.refused = size if self.refused is None else min(self.refused, size)


class RequestSizes:
    """What is known of an API's limits. A refusal is first blamed on the number of texts, then on their bytes.

    Lives in one event loop.

    Attributes:
        texts, bytes: the limits.
        searching: held by the one request that searches for a limit; requests that are too large wait for it.
    """

    def __init__(self, what: str) -> None:
        """Takes model and host, for the log."""
        self._what, self._faults = what, 0
        self.texts, self.bytes = Limit(), Limit()
        self.searching = asyncio.Lock()

    @property
    def found(self) -> bool:
        """Whether there is nothing to search."""
        return self.texts.found and self.bytes.found

    def fit(self, sizes: Bytes) -> bool:
        """Whether a request with texts of these sizes in bytes is not too large, as far as known."""
        return len(sizes) <= self.texts.most and int(sizes.sum()) <= self.bytes.most

    def split(self, sizes: Bytes) -> list[slice]:
        """Splits texts into requests that are not too large, as far as known."""
        return list(split_into_requests(sizes, self.texts.most, self.bytes.most))

    def accept(self, sizes: Bytes) -> None:
        """Records that such a request was accepted."""
        self.texts.accept(len(sizes))
        self.bytes.accept(int(sizes.sum()))

    def refuse(self, sizes: Bytes) -> bool:
        """Records a refused request; returns whether its size may be the cause, and not one of its texts."""
        n, size = len(sizes), int(sizes.sum())
        if n == 1 or (self._faults >= MAX_FAULTS and not self.texts.accepted):
            return False
        limit, value = (self.texts, n) if n > self.texts.accepted else (self.bytes, size)
        if value <= limit.accepted:
            return False
        limit.refuse(value)
        return True

    def confirm(self) -> None:
        """Records that the texts of the smallest refused request were accepted in smaller ones: size was the cause."""
        for limit, unit in ((self.texts, "texts"), (self.bytes, "bytes of text")):
            if limit.refused is not None and not limit.confirmed:
                limit.confirmed = True
                line = f"{self._what} accepts at most {limit.accepted:,} {unit} in a request: found by trial, and kept"
                _log.info("%s", line)

    def forget(self) -> None:
        """Withdraws limits that are not confirmed, since a text was at fault."""
        self._faults += 1
        for limit in (self.texts, self.bytes):
            if not limit.confirmed:
                limit.refused = None
