"""The encode stage: a TextBlock in, an EncodedBlock out, every row with a vector or an error."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vecfill.blocks import encoded_schema, key_names
from vecfill.config.model import Model
from vecfill.encode.api.budget import RequestBudget
from vecfill.encode.api.terms import shared_budget
from vecfill.encode.block_progress import BlockProgress, Busy
from vecfill.encode.encoder import Encoder
from vecfill.encode.encoding import Encoding, Flags
from vecfill.encode.load import blocks_at_once, load_model
from vecfill.encode.row_encoder import RowEncoder
from vecfill.encode.sample import SAME_MODEL_COSINE, Verdict, agreement
from vecfill.encode.vector_cache import VectorCache
from vecfill.errors import ConfigError, MixedModelsError
from vecfill.job import BUDGET, Worker

_log = logging.getLogger(__name__)

ROWS_PER_S = {"hash": 30_000.0, "gpu": 3_000.0, "cpu": 400.0}
"""Rough rows per second at 20 tokens per row: a stand-in model, a small model on a GPU, the same on two CPU cores."""


@dataclass(frozen=True, kw_only=True)
class EncodeSpec:
    """How texts become vectors. Can be pickled.

    Attributes:
        model: the model that makes the vectors.
        dim: the column's dimension; None if it has none (``real[]``, ``vector`` without a typmod).
        arity: number of key columns.
        sample: texts with their stored vectors, to check whether this model made them.
        column: the embedding column, for messages.
        allow_mixed: continue even if the sample shows that another model made the vectors.
        dedupe: compute each distinct text once.
    """

    model: Model
    dim: int | None
    arity: int
    sample: tuple[tuple[str, tuple[float, ...]], ...] = ()
    column: str
    allow_mixed: bool = False
    dedupe: bool = True

    @property
    def device(self) -> str:
        """``auto``, ``cuda`` or ``cpu``; ``remote`` for an API, whose workers compute nothing."""
        return "remote" if self.model.is_api else self.model.device

    @property
    def calls(self) -> int:
        """Blocks that one worker takes at a time."""
        return blocks_at_once(self.model)

    def rows_per_s(self, gpus: int) -> float:
        """A rough rate of one worker on a machine with ``gpus`` GPUs."""
        if self.model.name.startswith("hash:"):
            return ROWS_PER_S["hash"]
        return ROWS_PER_S["gpu" if gpus and self.model.device != "cpu" else "cpu"]

    def shared(self) -> RequestBudget | None:
        """Returns the budget of an API, which all workers of a run share; None for a local model."""
        return shared_budget(self.model)

    def stage(self, worker: Worker) -> EncodeStage:
        """Returns the encode stage of one worker."""
        return EncodeStage(self, worker)


class EncodeStage:
    """Callable stage: one TextBlock in, one EncodedBlock of the same rows out.

    Creating one is cheap: the first call, or ``warm``, loads the model and checks it against the column.
    """

    def __init__(self, spec: EncodeSpec, worker: Worker) -> None:
        self.spec, self._worker = spec, worker
        self._lock = threading.Lock()
        self._ready: RowEncoder | None = None
        self._cache: VectorCache | None = None
        self._busy = Busy()
        self._load_s = 0.0

    def warm(self) -> Encoder:
        """Loads and checks the model, once; a second thread waits for the first and gets the same encoder.

        Raises:
            ConfigError: the model is not available, or its dimension is not the column's.
            MixedModelsError: another model made the column's vectors.
        """
        return self._prepared().encoder

    def close(self) -> None:
        """Does nothing: this process keeps the model for its next run."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encodes a TextBlock; ``error_class`` and ``error`` give the reason if a text has no vector.

        Two threads may call it at the same time: one block is tokenized while another is computed.

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
        load_s = self._load_seconds()
        if rows.unasked.any():
            self._worker.stop(BUDGET)
            asked = np.flatnonzero(~rows.unasked)
            table, rows, reused = table.take(asked), rows.take(asked), reused[asked]
        return _encoded_block(
            table, self.spec.arity, ready.encoder, rows, reused=reused, load_s=load_s, encode_s=seconds
        )

    def _load_seconds(self) -> float:
        """Returns the seconds that loading the model took, once: the first block reports them."""
        with self._lock:
            seconds, self._load_s = self._load_s, 0.0
            return seconds

    def _rows(self, ready: RowEncoder, table: pa.Table) -> tuple[Encoding, Flags]:
        texts = table.column("text").to_pylist()
        progress = BlockProgress(len(texts), self._worker.encoded)
        if self._cache is None:
            found = ready.encode(texts, progress.advance), np.zeros(len(texts), np.bool_)
        else:
            hashes = table.column("text_hash").to_pylist()
            found = self._cache.encode(
                hashes, lambda some: ready.encode([texts[row] for row in some], progress.advance)
            )
        progress.end()
        return found

    def _prepared(self) -> RowEncoder:
        with self._lock:
            if self._ready is None:
                started = time.perf_counter()
                encoder = self._load()
                self._check_dimension(encoder)
                ready = RowEncoder(encoder)
                self._cache = VectorCache(encoder.dim) if self.spec.dedupe else None
                self._check_sample(ready)
                self._ready, self._load_s = ready, time.perf_counter() - started
            return self._ready

    def _load(self) -> Encoder:
        """Loads the model, or reuses the one that this process keeps: two may not fit in memory.

        Each run makes its own API encoder, with its budget.
        """
        model, worker = self.spec.model, self._worker
        if model.is_api:
            return load_model(model, worker.threads, dim=self.spec.dim, budget=worker.shared, stopped=worker.stopped)
        if worker.kept.get("model") != (model, worker.threads):
            worker.kept.clear()
            worker.kept["encoder"] = load_model(model, worker.threads)
            worker.kept["model"] = (model, worker.threads)
        encoder: Encoder = worker.kept["encoder"]
        return encoder

    def _check_dimension(self, encoder: Encoder) -> None:
        if self.spec.dim is not None and encoder.dim != self.spec.dim:
            raise ConfigError(
                f"embedding column {self.spec.column} has {self.spec.dim} dimensions but model {self.spec.model.name} "
                f"gives {encoder.dim}: set --truncate-dim, choose another model or column"
            )

    def _check_sample(self, ready: RowEncoder) -> None:
        """Recomputes the sample of stored vectors, so that models never mix unnoticed."""
        if not self.spec.sample:
            return
        encoding = ready.encode([text for text, _ in self.spec.sample])
        if encoding.unasked.any():
            return  # the budget is too small for the first text, so nothing will be written
        found = agreement([vector for _, vector in self.spec.sample], encoding.vectors)
        figures = (
            f"{found.agreeing} of {found.n} sampled vectors of {self.spec.column} agree with model "
            f"{self.spec.model.name} (cosine of {SAME_MODEL_COSINE} or more; median cosine {found.median_cosine:.2f})"
        )
        if found.verdict is Verdict.OTHER_MODEL and not self.spec.allow_mixed:
            raise MixedModelsError(
                f"{figures}: another model or prompt made them; choose that one, pass --allow-mixed to continue "
                "anyway, or empty the column first"
            )
        if found.verdict is not Verdict.SAME:
            _log.warning("%s: the other texts may have changed since, or models are mixed", figures)


def _encoded_block(
    table: pa.Table,
    arity: int,
    encoder: Encoder,
    rows: Encoding,
    *,
    reused: Flags,
    load_s: float,
    encode_s: float,
) -> pa.Table:
    """Assembles the EncodedBlock: copies keys, hash and read time, divides our own seconds among the rows."""
    n = table.num_rows
    schema = encoded_schema(arity, encoder.dim)
    columns = {
        **{name: table.column(name) for name in (*key_names(arity), "text_hash", "state", "read_s")},
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


def _errors(rows: Encoding) -> tuple[pa.Array, pa.Array]:
    """Error class and message of each row; null if it has a vector."""
    pairs = [rows.errors.get(row, (None, None)) for row in range(len(rows.vectors))]
    return pa.array([kind for kind, _ in pairs], pa.string()), pa.array([error for _, error in pairs], pa.string())


def _embeddings(vector_type: pa.DataType, rows: Encoding) -> pa.FixedSizeListArray:
    """Wraps the matrix without copying it; rows that failed are null."""
    failed = rows.failed()
    mask = pa.array(failed) if failed.any() else None
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.vectors.reshape(-1)), type=vector_type, mask=mask)
