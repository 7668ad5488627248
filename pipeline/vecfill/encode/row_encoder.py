"""Encoding with an account of every row: a vector, or why there is none. No failing text takes its neighbours along."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from vecfill.bisection import SHARED_FAULT_AFTER, isolate
from vecfill.encode.encoder import MOST_TOKENS, Encoder, Encoding
from vecfill.errors import EncodeError, VecfillError

_log = logging.getLogger(__name__)

Positions = npt.NDArray[np.int64]

_MESSAGE_LENGTH = 300
"""Characters of an exception that are kept with its row: some libraries quote the whole input."""


@dataclass(kw_only=True)
class Rows:
    """What became of ``n`` texts.

    Attributes:
        vectors: float32 [n, dim], zero where the row failed.
        n_tokens: int32 [n], meaningful where ``counted`` is true.
        counted: bool [n], false where the row failed or the encoder cannot count.
        truncated: bool [n].
        unasked: bool [n], texts that a budget did not reach: neither embedded nor failed.
        errors: class (``row`` or ``resource``) and message of each row that failed.
    """

    vectors: npt.NDArray[np.float32]
    n_tokens: npt.NDArray[np.int32]
    counted: npt.NDArray[np.bool_]
    truncated: npt.NDArray[np.bool_]
    unasked: npt.NDArray[np.bool_]
    errors: dict[int, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def blank(cls, n: int, dim: int) -> Rows:
        """Returns ``n`` rows of which nothing is known yet."""
        return cls(
            vectors=np.zeros((n, dim), dtype=np.float32),
            n_tokens=np.zeros(n, dtype=np.int32),
            counted=np.zeros(n, dtype=np.bool_),
            truncated=np.zeros(n, dtype=np.bool_),
            unasked=np.zeros(n, dtype=np.bool_),
        )

    def failed(self) -> npt.NDArray[np.bool_]:
        """Returns bool [n], true where the row has no vector."""
        failed = np.zeros(len(self.vectors), dtype=np.bool_)
        failed[list(self.errors)] = True
        return failed

    def copy_from(self, to: Positions, other: Rows, rows: Positions) -> None:
        """Takes over ``other``'s rows at the positions ``rows``, in order, at the positions ``to``."""
        for mine, theirs in (
            (self.vectors, other.vectors),
            (self.n_tokens, other.n_tokens),
            (self.counted, other.counted),
            (self.truncated, other.truncated),
            (self.unasked, other.unasked),
        ):
            mine[to] = theirs[rows]
        if other.errors:
            pairs = zip(to.tolist(), rows.tolist(), strict=True)
            self.errors |= {position: other.errors[row] for position, row in pairs if row in other.errors}

    def only(self, rows: Positions) -> Rows:
        """Returns what became of some of the rows, in order."""
        some = Rows.blank(len(rows), self.vectors.shape[1])
        some.copy_from(np.arange(len(rows)), self, rows)
        return some

    def fill(self, part: slice, encoding: Encoding) -> None:
        """Takes over the vectors of some rows, and what their encoder says of the others."""
        self.vectors[part], self.truncated[part] = encoding.vectors, encoding.truncated
        if encoding.n_tokens is not None:
            self.n_tokens[part], self.counted[part] = encoding.n_tokens, True
        if encoding.unasked is not None:
            self.unasked[part] = encoding.unasked
        for row, error in encoding.errors.items():
            self.fail(part.start + row, "row", _short(error))

    def fail(self, row: int, error_class: str, error: str) -> None:
        """Takes a row's vector away and notes why."""
        self.vectors[row], self.counted[row], self.truncated[row] = 0.0, False, False
        self.errors[row] = error_class, error


class RowEncoder:
    """Encodes lists of texts, in batches that the device's memory turns out to hold.

    Attributes:
        most_tokens: tokens that a batch may have; halved when memory runs out, and kept so for the texts to come.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self.most_tokens = MOST_TOKENS

    def encode(self, texts: list[str]) -> Rows:
        """Encodes the texts one and all.

        Raises:
            EncodeError: all vectors of SHARED_FAULT_AFTER texts or more are NaN or infinite.
            SharedFaultError: all of the first SHARED_FAULT_AFTER texts fail, each by itself.
        """
        rows = Rows.blank(len(texts), self.encoder.dim)
        for part, outcome in isolate(len(texts), lambda part: self._attempt(texts[part]), _is_text_fault):
            if isinstance(outcome, Exception):
                error_class = "resource" if is_out_of_memory(outcome) else "row"
                rows.fail(part.start, error_class, _describe(outcome))
            else:
                rows.fill(part, outcome)
        self._set_aside_non_finite(rows)
        return rows

    def _attempt(self, texts: list[str]) -> Encoding:
        """Encodes the texts, in ever smaller batches while memory runs out; raises where one alone is too much."""
        most = self.most_tokens
        while True:
            try:
                encoding = self.encoder.encode(texts, most)
            except Exception as exc:
                if most == 1 or not is_out_of_memory(exc):
                    raise
            else:
                self.most_tokens = most  # a text that is too big alone, most 1, says nothing about batches of others
                return encoding
            # Outside of the handler: there the exception still holds the tensors of the failed batch.
            most //= 2
            _empty_cache(most)

    def _set_aside_non_finite(self, rows: Rows) -> None:
        """Fails the rows that no vector column would take: one NaN makes the server refuse a whole COPY."""
        broken = np.flatnonzero(~np.isfinite(rows.vectors).all(axis=1))
        if SHARED_FAULT_AFTER <= len(rows.vectors) == len(broken):
            raise EncodeError(
                f"all {len(broken)} vectors of a block are NaN or infinite: the numbers likely overflow in dtype "
                f"{self.encoder.dtype}; set --dtype float32, or check the model's weights"
            )
        for row in broken:
            count = int((~np.isfinite(rows.vectors[row])).sum())
            rows.fail(int(row), "row", f"{count} of {rows.vectors.shape[1]} components are NaN or infinite")


def _empty_cache(most: int) -> None:
    """Gives the device's cached memory back before the next try."""
    _log.warning("out of memory: going on with batches of at most %d tokens", most)
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def is_out_of_memory(exc: BaseException) -> bool:
    """Whether memory ran out, on the device or the host.

    By name, so that nothing has to be imported: ``torch.OutOfMemoryError``, ``MemoryError``, and the plain
    RuntimeErrors of CUDA libraries (cuBLAS, cuDNN) and of torch's CPU allocator.
    """
    if any(kind.__name__ in {"OutOfMemoryError", "MemoryError"} for kind in type(exc).__mro__):
        return True
    message = str(exc).lower()
    return isinstance(exc, RuntimeError) and ("out of memory" in message or "can't allocate memory" in message)


def _is_text_fault(exc: Exception) -> bool:
    """Whether a text may be to blame.

    Not for our own errors, nor once this process has lost CUDA (``torch.AcceleratorError``): every later call fails
    as well, whatever its text.
    """
    if isinstance(exc, VecfillError):
        return False
    return is_out_of_memory(exc) or type(exc).__name__ != "AcceleratorError"


def _describe(exc: Exception) -> str:
    return _short(f"{type(exc).__name__}: {exc}")


def _short(text: str) -> str:
    message = " ".join(text.split())
    return message if len(message) <= _MESSAGE_LENGTH else message[: _MESSAGE_LENGTH - 1] + "…"
