"""Where the vectors of a model's inputs go: one for each text, or the mean of its windows."""

from __future__ import annotations

import threading
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from vecfill.encode.device.device_feed import Feed
from vecfill.encode.encoding import Positions
from vecfill.encode.tokens.windows import Windows

Vectors = npt.NDArray[np.float32]


class Gathering(Protocol):
    """Collects vectors; several threads may put at once."""

    def put(self, rows: Positions, vectors: torch.Tensor) -> None:
        """Takes float32 [len(rows), width] on the device, of the inputs at ``rows``."""

    def vectors(self) -> Vectors:
        """Returns float32 [n, dim] on the host, once all inputs have come."""


class OneEach:
    """The vectors of n texts, each of which is one input."""

    def __init__(self, n: int, dim: int, feed: Feed) -> None:
        self._dim, self._feed = dim, feed
        self._out = torch.empty((n, dim), device=feed.device)

    def put(self, rows: Positions, vectors: torch.Tensor) -> None:
        """See ``Gathering``."""
        [places] = self._feed.to_device(rows)
        self._out.index_copy_(0, places.long(), vectors[:, : self._dim])

    def vectors(self) -> Vectors:
        """See ``Gathering``."""
        return self._feed.to_host(self._out)


class Means:
    """The means of the vectors of texts' windows, weighted by the tokens of the text in each.

    The sums are float64, so that their order does not matter and a single window's vector stays what it is.
    """

    def __init__(self, windows: Windows, dim: int, feed: Feed, *, unit: bool) -> None:
        """Begins the sums.

        Args:
            windows: the inputs.
            dim: length that vectors are cut to, after all else, as truncation to fewer dimensions does.
            feed: of the device where the vectors come.
            unit: scale the means to unit length, as the model scales its vectors.
        """
        self._dim, self._feed, self._unit = dim, feed, unit
        self._owners = torch.from_numpy(windows.owners).to(feed.device)
        self._shares = torch.from_numpy(windows.shares).to(feed.device)
        self._many = torch.from_numpy(windows.windows > 1).to(feed.device)[:, None]
        self._sums = torch.zeros((len(windows.windows), dim), dtype=torch.float64, device=feed.device)
        self._lock = threading.Lock()

    def put(self, rows: Positions, vectors: torch.Tensor) -> None:
        """See ``Gathering``."""
        [numbers] = self._feed.to_device(rows)
        weighted = vectors.double() * self._shares[numbers.long()][:, None]
        with self._lock:
            if self._sums.shape[1] != vectors.shape[1]:  # the first: a model's full width is known from its vectors
                self._sums = self._sums.new_zeros((len(self._sums), vectors.shape[1]))
            self._sums.index_add_(0, self._owners[numbers.long()], weighted)

    @torch.inference_mode()
    def vectors(self) -> Vectors:
        """See ``Gathering``."""
        sums = self._sums
        if self._unit:
            sums = torch.where(self._many, functional.normalize(sums, dim=1), sums)
        return self._feed.to_host(sums[:, : self._dim].float().contiguous())
