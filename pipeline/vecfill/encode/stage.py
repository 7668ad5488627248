"""The encode stage: a TextBlock in, an EncodedBlock out, every row with a vector or an error."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from vecfill.arrow_arrays import arrow_array, numpy_array
from vecfill.blocks import encoded_schema
from vecfill.config.model import Model
from vecfill.encode.api.budget import RequestBudget
from vecfill.encode.api.terms import shared_budget
from vecfill.encode.block_progress import BlockProgress, Busy
from vecfill.encode.encoded_block import encoded_block
from vecfill.encode.encoder import Encoder
from vecfill.encode.encoding import Encoding, Flags, TokensBy
from vecfill.encode.load import blocks_at_once, load_model
from vecfill.encode.row_encoder import RowEncoder
from vecfill.encode.sample import check_sample
from vecfill.encode.vector_cache import VectorCache
from vecfill.errors import ConfigError, StoppedError
from vecfill.interruptible import interruptible
from vecfill.job import BUDGET, Worker

ROWS_PER_S = {"hash": 30_000.0, "gpu": 3_000.0, "cpu": 400.0}
"""Rough rows per second at 20 tokens per row: a stand-in model, a small model on a GPU, the same on two CPU cores."""


@dataclass(frozen=True, kw_only=True)
class EncodeSpec:
    """How texts become vectors. Can be pickled.

    Attributes:
        model: the model that makes the vectors.
        dim: the column's dimension; None if it has none (arrays, ``vector`` without a typmod).
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
        self._failure: Exception | None = None
        self._cache: VectorCache | None = None
        self._busy = Busy()
        self._load_s = 0.0

    def warm(self) -> Encoder:
        """Loads and checks the model, once; a second thread waits for the first and gets the same encoder.

        Raises:
            ConfigError: the model is not available, or its dimension is not the column's.
            MixedModelsError: another model made the column's vectors.
            StoppedError: the run is to stop.
        """
        return self._prepared().encoder

    def forget(self) -> None:
        """Forgets the vectors of earlier texts: a worker that lives for weeks would hold the most that it may."""
        if self._cache is not None:
            self._cache = VectorCache(self._cache.dim)

    def close(self) -> None:
        """Does nothing: this process keeps the model for its next run."""

    def __call__(self, table: pa.Table) -> pa.Table:
        """Encodes a TextBlock; ``error_class`` and ``error`` give the reason if a text has no vector.

        Returns no rows if a stop interrupts the load of the model.

        Two threads may call it at the same time: one block is tokenized while another is computed.

        Raises:
            ConfigError: at the first call, see ``warm``.
            EncodeError, SharedFaultError: no text gets a vector, see ``RowEncoder``.
        """
        if table.num_rows == 0 and self.spec.dim is not None:
            return encoded_schema(self.spec.arity, self.spec.dim).empty_table()
        try:
            ready = self._prepared()
        except StoppedError:
            return table.slice(0, 0)
        started = time.perf_counter()
        rows, reused = self._rows(ready, table)
        seconds = self._busy.since(started)
        load_s = self._load_seconds()
        if rows.unasked.any():
            self._worker.stop(BUDGET)
            asked = np.flatnonzero(~rows.unasked)
            table, rows, reused = table.take(arrow_array(asked, pa.int64())), rows.take(asked), reused[asked]
        return encoded_block(
            table, self.spec.arity, ready.encoder, rows, reused=reused, load_s=load_s, encode_s=seconds
        )

    def _load_seconds(self) -> float:
        """Returns the seconds that loading the model took, once: the first block reports them."""
        with self._lock:
            seconds, self._load_s = self._load_s, 0.0
            return seconds

    def _rows(self, ready: RowEncoder, table: pa.Table) -> tuple[Encoding, Flags]:
        """Encodes the rows that were read; the others keep the error of the read stage."""
        unread = numpy_array(table.column("error").is_valid())
        if not unread.any():
            return self._texts(ready, table)
        rows, reused = Encoding.blank(table.num_rows, ready.encoder.dim), np.zeros(table.num_rows, np.bool_)
        read = np.flatnonzero(~unread)
        found, reused[read] = self._texts(ready, table.take(arrow_array(read, pa.int64())))
        rows.copy_from(read, found, np.arange(len(read)))
        for row in np.flatnonzero(unread).tolist():
            rows.fail(row, *(table.column(name)[row].as_py() for name in ("error_class", "error")))
        return rows, reused

    def _texts(self, ready: RowEncoder, table: pa.Table) -> tuple[Encoding, Flags]:
        texts = table.column("text").to_pylist()
        progress = BlockProgress(len(texts), self._worker.encoded)
        if self._cache is None:
            found = ready.encode(texts, progress.advance), np.zeros(len(texts), np.bool_)
        else:
            hashes = table.column("text_hash").to_pylist()
            found = self._cache.encode(
                hashes, lambda some: ready.encode([texts[row] for row in some], progress.advance)
            )
            if TokensBy.CAUGHT in found[0].tokens_by:
                self._cache.forget(TokensBy.FAST)
        progress.end()
        return found

    def _prepared(self) -> RowEncoder:
        """Returns the model, loaded and checked; a second call gets the same model, or the same error."""
        with self._lock:
            if self._failure is not None:
                raise self._failure
            if self._ready is None:
                if self._worker.stopped():
                    raise StoppedError("stopped before the model was loaded")
                try:
                    self._prepare()
                except StoppedError:
                    raise
                except Exception as error:
                    self._failure = error
                    raise
            assert self._ready is not None  # noqa: S101
            return self._ready

    def _prepare(self) -> None:
        started = time.perf_counter()
        encoder = interruptible(self._load, self._worker.stopped)
        self._check_dimension(encoder)
        ready = RowEncoder(encoder)
        self._cache = VectorCache(encoder.dim) if self.spec.dedupe else None
        self._check_sample(ready)
        self._ready, self._load_s = ready, time.perf_counter() - started

    def _load(self) -> Encoder:
        """Loads the model, or reuses the one that this process keeps: two may not fit in memory.

        Each run makes its own API encoder, with its budget.
        """
        model, worker = self.spec.model, self._worker
        if model.is_api:
            return load_model(model, worker.threads, dim=self.spec.dim, budget=worker.shared, stopped=worker.stopped)
        wanted = model, worker.threads, worker.gpu_share
        if worker.kept.get("model", (None,))[0] != wanted:
            worker.kept.clear()
            # In one step: a load that a stop has left behind may end beside the next one.
            worker.kept["model"] = wanted, load_model(model, worker.threads, gpu_share=worker.gpu_share)
        encoder: Encoder = worker.kept["model"][1]
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
        check_sample(
            self.spec.sample,
            encoding,
            column=self.spec.column,
            model=self.spec.model.name,
            allow_mixed=self.spec.allow_mixed,
        )
