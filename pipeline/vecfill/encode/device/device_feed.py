"""Moves tokens to the device and vectors back, beside its computation."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Integers = npt.NDArray[np.integer[Any]]


class Feed:
    """Copies arrays to a device and vectors from it. Thread-safe.

    On a GPU every copy goes through pinned memory and on a stream of its own, so that the device computes one batch
    while it gets the next, and one block while it returns another. On a CPU nothing is copied.
    """

    def __init__(self, device: torch.device) -> None:
        """Takes the device."""
        self.device = device
        self._there: torch.cuda.Stream | None = _stream(device)
        self._back: torch.cuda.Stream | None = _stream(device)

    def to_device(self, *arrays: Integers) -> list[torch.Tensor]:
        """Returns the arrays as tensors on the device, in one copy: int32 on a GPU, as they are on a CPU."""
        if self._there is None:
            return [torch.from_numpy(array) for array in arrays]
        staged = torch.empty(sum(array.size for array in arrays), dtype=torch.int32, pin_memory=True)
        np.concatenate([array.reshape(-1) for array in arrays], out=staged.numpy(), casting="same_kind")
        computing = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self._there):
            moved = staged.to(self.device, non_blocking=True)
        computing.wait_stream(self._there)
        moved.record_stream(computing)  # its memory is not given to another batch before this one is computed
        parts = torch.split(moved, [array.size for array in arrays])
        return [part.view(array.shape) for part, array in zip(parts, arrays, strict=True)]

    def to_host(self, vectors: torch.Tensor) -> npt.NDArray[np.float32]:
        """Returns float32 vectors as an array, once they are computed: one copy from a GPU, none on a CPU."""
        if self._back is None:
            found: npt.NDArray[np.float32] = vectors.numpy()
            return found
        host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        self._back.wait_stream(torch.cuda.current_stream(self.device))
        done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]  # else the thread would spin while it waits
        with torch.cuda.stream(self._back):
            host.copy_(vectors, non_blocking=True)
            done.record()
        done.synchronize()
        array: npt.NDArray[np.float32] = host.numpy()
        return array


def _stream(device: torch.device) -> torch.cuda.Stream | None:
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]
