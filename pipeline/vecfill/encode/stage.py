"""The encode stage: a TextBlock in, an EncodedBlock out, every row with either a vector or the reason why not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from vecfill.blocks import encoded_schema, key_names
from vecfill.config.model import Model
from vecfill.encode.api.budget import Account, Budget, RequestBudget
from vecfill.encode.api.terms import limits_of
from vecfill.encode.encoder import Encoder
from vecfill.encode.load import load_model
from vecfill.encode.row_encoder import RowEncoder, Rows
from vecfill.encode.vector_cache import VectorCache
from vecfill.errors import ConfigError, MixedModelsError

_log = logging.getLogger(__name__)

SAME_MODEL_COSINE = 0.98
"""From here on a stored vector counts as this model's: rounding to bfloat16 or halfvec leaves a cosine above 0.999,
another model's vectors of the same dimension stay below 0.5."""

MIXED_BELOW = 0.5
"""Share of agreeing sample vectors below which another model made them: texts that changed since cannot be so many."""

WARN_BELOW = 0.9

MIN_SAMPLE = 4
"""Vectors that it takes to accuse a model: fewer may all be of texts that changed since, and are only warned of."""


@dataclass(frozen=True, kw_only=True)
class EncodeSpec:
    """What the encode stage needs to know; picklable.

    Attributes:
        model: the model that makes the vectors.
        dim: the column's dimension; None where it has none (``real[]``, ``vector`` without a typmod).
        arity: number of key columns.
        sample: texts, each with the vector that the column holds for it, to see whether this model made them.
        column: the embedding column, for messages.
        allow_mixed: go on although the sample says that another model made the vectors.
        dedupe: compute each distinct text once.
        threads: CPU threads for torch; None keeps its own number.
    """

    model: Model
    dim: int | None
    arity: int
    sample: tuple[tuple[str, tuple[float, ...]], ...] = ()
    column: str
    allow_mixed: bool = False
    dedupe: bool = True
    threads: int | None = None


class Busy:
    """Seconds that a stage is at work, shared out among calls that overlap: none is counted twice."""

    def __init__(self) -> None:
        self._until = 0.0
        self._lock = threading.Lock()

    def since(self, started: float) -> float:
        """Seconds from ``started``, or from the end of the last call where that came later, until now."""
        with self._lock:
            started, self._until = max(started, self._until), time.perf_counter()
            return self._until - started


class Encode:
    """Callable stage: one TextBlock in, one EncodedBlock of the same rows out.

    Making one is cheap: the model is loaded, and checked against the column, at the first call or by ``warm``.

    Attributes:
        over_budget: an API's budget has not reached some texts, whose rows were left out: the run is to end.
        stopped: whether the run is to stop; an API's long waits look at it.
    """

    def __init__(
        self,
        spec: EncodeSpec,
        budget: Budget | None = None,
        load: Callable[..., Encoder] = load_model,
    ) -> None:
        """Takes what to do, the budget of an API's requests where several encoders share it, and the way to load."""
        self.spec = spec
        self.over_budget = False
        self.stopped: Callable[[], bool] = lambda: False
        self._load = load
        self._ledger = RequestBudget(limits_of(spec.model)) if spec.model.is_api else None
        self._budget = budget or self._ledger
        self._lock = threading.Lock()
        self._ready: RowEncoder | None = None
        self._memo: VectorCache | None = None
        self._busy = Busy()
        self._load_s = 0.0

    def warm(self) -> Encoder:
        """Loads and checks the model, once; a second thread waits for the first and gets the same encoder.

        Raises:
            ConfigError: the model cannot be had, or its dimension is not the column's.
            MixedModelsError: the column's vectors were not made by this model.
        """
        return self._prepared().encoder

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encodes a TextBlock; a text that fails is set aside in ``error_class`` and ``error``.

        Two threads may call at once: one block's texts are tokenized while another's are computed.

        Raises:
            ConfigError: at the first call, see ``warm``.
            EncodeError, SharedFaultError: no text gets a vector, see ``RowEncoder``.
        """
        if table.num_rows == 0 and self.spec.dim is not None:
            return encoded_schema(self.spec.arity, self.spec.dim).empty_table()
        ready = self._prepared()
        started = time.perf_counter()
        rows, reused = self._rows(ready, table)
        seconds = self._busy.since(started)
        load_s = self._told_load_s()
        if rows.unasked.any():
            self.over_budget = True
            asked = np.flatnonzero(~rows.unasked)
            table, rows, reused = table.take(asked), rows.only(asked), reused[asked]
        return _encoded_block(
            table, self.spec.arity, ready.encoder, rows, reused=reused, load_s=load_s, encode_s=seconds
        )

    def _told_load_s(self) -> float:
        """Seconds that loading the model took, for the first block alone."""
        with self._lock:
            seconds, self._load_s = self._load_s, 0.0
            return seconds

    def _is_stopped(self) -> bool:
        return self.stopped()  # asked anew each time: an engine says it after the model is loaded

    def account(self) -> Account | None:
        """What has been spent on an API from this budget of its own; None where the model is local."""
        return self._ledger.account() if self._ledger else None

    def _rows(self, ready: RowEncoder, table: pa.Table) -> tuple[Rows, npt.NDArray[np.bool_]]:
        texts = table.column("text").to_pylist()
        if self._memo is None:
            return ready.encode(texts), np.zeros(len(texts), np.bool_)
        hashes = table.column("text_hash").to_pylist()
        return self._memo.encode(hashes, lambda some: ready.encode([texts[row] for row in some]))

    def _prepared(self) -> RowEncoder:
        with self._lock:
            if self._ready is None:
                started = time.perf_counter()
                encoder = self._load(
                    self.spec.model,
                    self.spec.threads,
                    dim=self.spec.dim,
                    budget=self._budget,
                    stopped=self._is_stopped,
                )
                self._check_dimension(encoder)
                ready = RowEncoder(encoder)
                self._memo = VectorCache(encoder.dim) if self.spec.dedupe else None
                self._check_sample(ready)
                self._ready, self._load_s = ready, time.perf_counter() - started
            return self._ready

    def _check_dimension(self, encoder: Encoder) -> None:
        if self.spec.dim is not None and encoder.dim != self.spec.dim:
            raise ConfigError(
                f"embedding column {self.spec.column} has {self.spec.dim} dimensions but model {self.spec.model.name} "
                f"gives {encoder.dim}: set --truncate-dim, choose another model or column"
            )

    def _check_sample(self, ready: RowEncoder) -> None:
        """Recomputes the sample of stored vectors: models must never mix unnoticed."""
        if not self.spec.sample:
            return
        rows = ready.encode([text for text, _ in self.spec.sample])
        if rows.unasked.any():
            return  # the budget is spent before the run's first text: nothing will be written
        ours = rows.vectors
        stored = [np.asarray(vector, dtype=np.float32) for _, vector in self.spec.sample]
        cosines = np.array([_cosine(one, other) for one, other in zip(ours, stored, strict=True)])
        share = np.mean(cosines >= SAME_MODEL_COSINE)
        if share < MIXED_BELOW and len(cosines) >= MIN_SAMPLE and not self.spec.allow_mixed:
            raise MixedModelsError(
                f"{self._agreement(cosines)}: another model or prompt made them; choose that one, pass --allow-mixed "
                "to go on, or empty the column first"
            )
        if share < WARN_BELOW:
            _log.warning("%s: the other texts may have changed since, or models are mixed", self._agreement(cosines))

    def _agreement(self, cosines: npt.NDArray[np.float64]) -> str:
        agreeing = int((cosines >= SAME_MODEL_COSINE).sum())
        return (
            f"{agreeing} of {len(cosines)} sampled vectors of {self.spec.column} agree with model "
            f"{self.spec.model.name} (cosine of {SAME_MODEL_COSINE} or more; median cosine {np.median(cosines):.2f})"
        )


def _cosine(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    """Cosine of two vectors; 0 where they cannot be compared (another length, zero, not finite)."""
    if one.shape != other.shape:
        return 0.0
    norms = float(np.linalg.norm(one)) * float(np.linalg.norm(other))
    return float(one @ other) / norms if np.isfinite(norms) and norms > 0 else 0.0


def _encoded_block(
    table: pa.Table,
    arity: int,
    encoder: Encoder,
    rows: Rows,
    *,
    reused: npt.NDArray[np.bool_],
    load_s: float,
    encode_s: float,
) -> pa.Table:
    """Assembles the EncodedBlock: keys, hash and read time pass through, our own seconds are shared evenly."""
    n = table.num_rows
    schema = encoded_schema(arity, encoder.dim)
    columns = {
        **{name: table.column(name) for name in (*key_names(arity), "text_hash", "read_s")},
        "embedding": _embeddings(schema.field("embedding").type, rows),
        "n_tokens": pa.array(rows.n_tokens, mask=~rows.counted),
        "truncated": pa.array(rows.truncated),
        "reused": pa.array(reused),
        **dict(zip(("error_class", "error"), _errors(rows), strict=True)),
        "device": pa.repeat(encoder.device, n),
        "dtype": pa.repeat(encoder.dtype, n),
        "load_s": pa.repeat(pa.scalar(load_s / max(n, 1), pa.float32()), n),
        "encode_s": pa.repeat(pa.scalar(encode_s / max(n, 1), pa.float32()), n),
    }
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def _errors(rows: Rows) -> tuple[pa.Array, pa.Array]:
    """Class and message of each row, null where it has a vector."""
    pairs = [rows.errors.get(row, (None, None)) for row in range(len(rows.vectors))]
    return pa.array([kind for kind, _ in pairs], pa.string()), pa.array([error for _, error in pairs], pa.string())


def _embeddings(vector_type: pa.DataType, rows: Rows) -> pa.FixedSizeListArray:
    """Wraps the matrix without copying it; rows that failed are null."""
    failed = rows.failed()
    mask = pa.array(failed) if failed.any() else None
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.reshape(-1)), type=vector_type, mask=mask)
