"""Other ways from text to vectors: ``encode`` alone, a minimal script, Ray's own recipe; and our command as a whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from vecfill.bench.measure import Measured
from vecfill.bench.ours import Work, ray_recipe
from vecfill.bench.runners import filled_on_ray
from vecfill.bench.worker import Runner
from vecfill.blocks import encoded_schema, key_names
from vecfill.config.model import Model
from vecfill.config.options import ENV_PREFIX
from vecfill.encode.model.model_location import locate_model
from vecfill.errors import VecfillError

DEFAULT_BATCH = 32
BATCHES = (8, 16, 32, 64, 128, 256)

SEARCH_TEXTS = 256
"""Texts, evenly drawn, to find the best batch size with."""

WARM_TEXTS = 64

RECIPE_ROWS = 1024
"""Rows of a batch in the documentation's examples of batch inference. Half of the rows where there are fewer than twice
as many, since one block gives no warm rate."""

KEY_COLUMNS = 1  # of a scratch table

SCRIPT = """
import json, sys
from sentence_transformers import SentenceTransformer
texts = json.load(open(sys.argv[2], encoding="utf-8"))
SentenceTransformer(sys.argv[1], model_kwargs={"dtype": "float32"}).encode(texts)
"""
"""A minimal script for texts in a file: no database, no check, and the vectors are not kept."""


@dataclass(kw_only=True)
class Library(Runner):
    """``encode`` in float32 at its default batch size, or at the best one on this machine; no database."""

    writes, whole = False, True
    model: Model
    texts: tuple[str, ...]
    search: bool = False
    _net: Any = field(default=None, repr=False)
    _batch: int = DEFAULT_BATCH

    def prepare(self) -> dict[str, Any]:
        """Loads the model, encodes a few texts, and searches the best batch size if asked to."""
        self._net = load(self.model)
        loaded = time.monotonic()
        self._seconds(self.texts[:WARM_TEXTS], DEFAULT_BATCH)
        if self.search:
            some = self.texts[:: max(1, len(self.texts) // SEARCH_TEXTS)][:SEARCH_TEXTS]
            self._batch = min(BATCHES, key=lambda size: self._seconds(some, size))
        return {"loaded": loaded, "batch": self._batch, "dtype": "float32", "device": self._net.device.type}

    def measure(self) -> Measured:
        """Encodes all texts in one call, as the library's own page shows."""
        seconds = self._seconds(self.texts, self._batch)
        return Measured(seconds=seconds, marks=((seconds, len(self.texts)),), stages={"encode": seconds})

    def _seconds(self, texts: tuple[str, ...], batch: int) -> float:
        start = time.perf_counter()
        self._net.encode(list(texts), batch_size=batch, show_progress_bar=False)
        return time.perf_counter() - start


def load(model: Model) -> Any:
    """The SentenceTransformer in float32, on the device that torch chooses."""
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    device = None if model.device == "auto" else model.device
    return SentenceTransformer(locate_model(model), device=device, model_kwargs={"dtype": "float32"})


@dataclass(kw_only=True)
class _Fp32(Runner):
    """A contender whose start is part of the measurement."""

    def prepare(self) -> dict[str, Any]:
        """Loads nothing."""
        return {"dtype": "float32"}


@dataclass(kw_only=True)
class Script(_Fp32):
    """The minimal script, in a Python of its own."""

    writes, whole = False, True
    model: Model
    texts: tuple[str, ...]

    def measure(self) -> Measured:
        """Puts the texts into a file and runs the script."""
        with tempfile.TemporaryDirectory(prefix="vecfill-bench-") as folder:
            file = Path(folder, "texts.json")
            file.write_text(json.dumps(self.texts), encoding="utf-8")
            return _timed(["-c", SCRIPT, locate_model(self.model), str(file)], {}, len(self.texts))


@dataclass(kw_only=True)
class Command(_Fp32):
    """``vecfill run`` in-process, PostgreSQL to PostgreSQL, as a cron job calls it."""

    whole = True
    work: Work
    rows: int

    def measure(self) -> Measured:
        """Runs it; the environment names the database, since a process list would show a password."""
        flags = ["--table", self.work.table.label, "--text", "text", "--model", self.work.model.name]
        flags += ["--dtype", "float32", "--no-dedupe", "--engine", "inline", "--quiet"]
        settings = {f"{ENV_PREFIX}DATABASE": self.work.table.database.conninfo}
        return _timed(["-m", "vecfill", "run", *flags], settings, self.rows)


def _timed(arguments: Sequence[str], settings: Mapping[str, str], rows: int) -> Measured:
    """Runs Python to its end.

    Raises:
        VecfillError: it failed.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    start = time.perf_counter()
    done = subprocess.run(  # noqa: S603 -- our own arguments
        [sys.executable, *arguments], env={**environment, **settings}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise VecfillError(f"the process ended with code {done.returncode}: {done.stderr.strip()[-500:]}")
    return Measured(seconds=seconds, marks=((seconds, rows),), stages={"all": seconds})


@dataclass(kw_only=True)
class Recipe(_Fp32):
    """Ray Data as its documentation shows: ``map_batches`` over ``encode``, with our reader and writer."""

    ray = True
    work: Work

    def measure(self) -> Measured:
        """Starts Ray and fills the table."""
        return filled_on_ray(self.work, ray_recipe(self.work, self._encode))

    def _encode(self, texts: Any, rows: int) -> Any:
        import ray
        from ray.data import ActorPoolStrategy

        return texts.map_batches(
            TextEmbedder,
            fn_constructor_args=(self.work.model,),
            batch_size=min(RECIPE_ROWS, max(1, rows // 2)),
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=1),
            num_gpus=1 if ray.cluster_resources().get("GPU") else None,
        )


class TextEmbedder:
    """What the recipe maps: the model, and one call of ``encode`` a batch. It sets no threads: Ray decides."""

    def __init__(self, model: Model) -> None:
        self._net = load(model)

    def __call__(self, table: pa.Table) -> pa.Table:
        """TextBlock in, EncodedBlock out."""
        start = time.perf_counter()
        vectors = self._net.encode(table["text"].to_pylist(), show_progress_bar=False)
        seconds = (time.perf_counter() - start) / len(table)
        schema = encoded_schema(KEY_COLUMNS, vectors.shape[1])
        flat, kind = pa.array(vectors.reshape(-1)), schema.field("embedding").type
        known = {name: table[name] for name in (*key_names(KEY_COLUMNS), "text_hash", "state", "read_s")}
        known["embedding"] = pa.FixedSizeListArray.from_arrays(flat, type=kind)
        known["encode_s"] = pa.repeat(pa.scalar(seconds, pa.float32()), len(table))
        columns = {one.name: known[one.name] if one.name in known else _neutral(one, len(table)) for one in schema}
        return pa.table(columns, schema=schema)


def _neutral(field: pa.Field, n: int) -> pa.Array:
    """Nulls; false, zero or no text where nulls are not allowed."""
    if field.nullable:
        return pa.nulls(n, field.type)
    return pa.repeat(pa.scalar("") if pa.types.is_string(field.type) else pa.scalar(0).cast(field.type), n)
