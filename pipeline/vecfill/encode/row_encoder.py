"""Encodes texts so that one failing text does not fail the others: each gets a vector or an error of its own."""

from __future__ import annotations

import logging
import sys

import numpy as np

from vecfill.bisection import SHARED_FAULT_AFTER, isolate
from vecfill.encode.block_progress import Advance, no_progress
from vecfill.encode.encoder import Encoder
from vecfill.encode.encoding import Encoding
from vecfill.errors import EncodeError, VecfillError

_log = logging.getLogger(__name__)

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "_alloc_failed", "bad_alloc")
"""In messages of RuntimeErrors, lower case: CUDA, torch's CPU allocator, the system, cuBLAS and cuDNN, C++."""


class RowEncoder:
    """Encodes lists of texts, in batches that fit the device's memory.

    Attributes:
        max_batch_tokens: largest batch in tokens; halved when memory runs out, kept for later texts, and
            remembered for the next process.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.max_batch_tokens = encoder.learned.limit

    def encode(self, texts: list[str], advance: Advance = no_progress) -> Encoding:
        """Encodes all texts; calls ``advance`` meanwhile.

        Raises:
            EncodeError: all vectors of SHARED_FAULT_AFTER texts or more are NaN or infinite.
            SharedFaultError: the first SHARED_FAULT_AFTER texts fail individually.
        """
        encoding = Encoding.blank(len(texts), self.encoder.dim)

        def attempt(part: slice) -> Encoding:
            some = texts[part]
            return self._attempt(some, lambda share: advance(share * len(some) / len(texts)))

        for part, outcome in isolate(len(texts), attempt, _is_text_fault):
            if isinstance(outcome, Exception):
                error_class = "resource" if is_out_of_memory(outcome) else "row"
                encoding.fail(part.start, error_class, f"{type(outcome).__name__}: {outcome}")
            elif len(outcome.vectors) == len(texts):
                encoding = outcome  # spares a copy
            else:
                encoding.copy_from(np.arange(part.start, part.stop), outcome, np.arange(len(outcome.vectors)))
        self._fail_non_finite(encoding)
        return encoding

    def _attempt(self, texts: list[str], advance: Advance) -> Encoding:
        """Encodes the texts, in smaller batches while memory runs out; raises if one text alone does not fit."""
        limit = self.max_batch_tokens
        while True:
            try:
                encoding = self.encoder.encode(texts, limit, advance)
            except Exception as exc:
                if not is_out_of_memory(exc):
                    raise
                if limit == 1:
                    raise exc.with_traceback(None)  # noqa: B904 -- it holds the tensors of the batch
            else:
                # Not reached where one text does not fit: it does not shrink later batches. Meanwhile another block may
                # have found a smaller size.
                self.max_batch_tokens = min(self.max_batch_tokens, limit)
                self.encoder.learned.lower(limit)
                return encoding
            # Outside of the handler: inside, the exception still holds the tensors of the failed batch.
            limit //= 2
            _empty_cache(limit)

    def _fail_non_finite(self, encoding: Encoding) -> None:
        """Fails the rows that no vector column accepts: one NaN makes the server reject a whole COPY."""
        broken = np.flatnonzero(~np.isfinite(encoding.vectors).all(axis=1))
        if SHARED_FAULT_AFTER <= len(encoding.vectors) == len(broken):
            raise EncodeError(
                f"all {len(broken)} vectors of a block are NaN or infinite: the numbers likely overflow in dtype "
                f"{self.encoder.dtype}; set --dtype float32, or check the model's weights"
            )
        for row in broken:
            count = int((~np.isfinite(encoding.vectors[row])).sum())
            encoding.fail(int(row), "row", f"{count} of {encoding.vectors.shape[1]} components are NaN or infinite")


def _empty_cache(limit: int) -> None:
    """Frees the device's cached memory before the next attempt."""
    _log.warning("out of memory: continuing with batches of at most %d tokens", limit)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether memory ran out, on the device or the host.

    Compares names, so that nothing has to be imported: ``torch.OutOfMemoryError``, ``MemoryError``, and the plain
    RuntimeErrors of CUDA libraries (cuBLAS, cuDNN), of torch's CPU allocator and of C++.
    """
    if any(kind.__name__ in {"OutOfMemoryError", "MemoryError"} for kind in type(exc).__mro__):
        return True
    message = str(exc).lower()
    return isinstance(exc, RuntimeError) and any(sign in message for sign in _OUT_OF_MEMORY)


def _is_text_fault(exc: Exception) -> bool:
    """Whether a text may be the cause.

    Not for our own errors, nor once this process has lost CUDA (``torch.AcceleratorError``): then every later call
    fails, whatever its text.
    """
    if isinstance(exc, VecfillError):
        return False
    return is_out_of_memory(exc) or type(exc).__name__ != "AcceleratorError"
