"""Which engine a run takes, and why."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from vecfill.config.engine import EngineOptions
from vecfill.config.model import API_PREFIX, Model
from vecfill.engine.warm import Shared
from vecfill.job import Engine, Job
from vecfill.postgres.session import Session
from vecfill.read.units import MAX_BLOCK_ROWS

log = logging.getLogger(__name__)

RAY_START_S = 10.0
"""Seconds that Ray adds on two cores: 3 to 8 for itself, the rest for the actors' own imports."""

ROWS_PER_S = {"hash": 30_000.0, "gpu": 3_000.0, "cpu": 400.0}
"""Rows a second, to orient: a stand-in model, a small model on a GPU, the same on two CPU cores, 20 tokens a row."""

BLOCK_S = 5.0
"""Seconds of work in a block: a stop waits for what is in flight. A block also costs Ray some 70 ms on two cores:
``hash:384`` carried 0.47 to 0.63 of the writer alone in blocks of 2,048 rows, and 0.86 in blocks of 8,192."""

INLINE_BLOCK_ROWS = 4_096
"""The most in one process, which holds some five blocks and where one costs next to nothing: 300,000 rows of
``hash:384`` peaked at 523 MB in blocks of 8,192 rows and at 400 MB in these (100,000 rows: 375), and were as fast."""


def choose(options: EngineOptions, *, rows: int, model: str, device: str, gpus: int) -> tuple[str, str]:
    """Returns the engine's name and the reason.

    ``auto`` takes Ray where a cluster is named or there is more than one GPU, or where its start is less than a tenth
    of the work.
    """
    if options.engine != "auto":
        return options.engine, "as asked"
    if options.ray_address:
        return "ray", f"a cluster is named: {options.ray_address}"
    if model.startswith(API_PREFIX):
        return "inline", "an API computes elsewhere, and its limits hold for all encoders together"
    if gpus > 1 and device != "cpu":
        return "ray", f"there are {gpus} GPUs"
    work = rows / _rows_per_s(model, device, gpus)
    if work > 10 * RAY_START_S:
        return "ray", f"{rows} rows are about {work:.0f} s of work, and Ray starts in about {RAY_START_S:.0f} s"
    return "inline", f"{rows} rows are about {work:.0f} s of work, and Ray would add about {RAY_START_S:.0f} s"


def _rows_per_s(model: str, device: str, gpus: int) -> float:
    return ROWS_PER_S["hash" if model.startswith("hash:") else "gpu" if gpus and device != "cpu" else "cpu"]


def most_block_rows(model: Model, engine: str) -> int:
    """The most rows of a block, so that it is about ``BLOCK_S`` of work.

    Args:
        model: that encodes the block; on a GPU where the driver sees one, since a cluster's own are not known before it
            is joined.
        engine: name of the engine that carries it.
    """
    most = INLINE_BLOCK_ROWS if engine == "inline" else MAX_BLOCK_ROWS
    return min(most, int(BLOCK_S * _rows_per_s(model.name, model.device, gpu_count())))


def gpu_count(environ: Mapping[str, str] = os.environ) -> int:
    """NVIDIA GPUs that this process may use, without importing torch."""
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1", "NoDevFiles")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


@contextmanager
def opened(job: Job, options: EngineOptions, rows: int, shared: Shared, session: Session) -> Iterator[Engine]:
    """Starts the engine that fits and closes it at the end.

    Args:
        job: what it is to do.
        options: how.
        rows: that are to be filled.
        shared: keeps what the next run may use again.
        session: the run's own, whose line a reader of this process uses too: the run does not while blocks are on their
            way. Other readers have their own, and it is closed until the run needs it again.

    Raises:
        ConfigError: the cluster that was named does not answer, or has no GPU where one was asked for.
    """
    model = job.encode.model
    device = "cpu" if model.is_api else model.device  # an API's encoder needs no GPU
    name, reason = choose(options, rows=rows, model=model.name, device=device, gpus=gpu_count())
    log.info("engine: %s (%s)", name, reason)
    if name == "inline":
        with closing(_inline(job, shared, session)) as inline:
            yield inline
        return
    session.close()
    resources = shared.cluster(options.ray_address, verbose=options.verbose)
    from vecfill.engine.ray import Pools, RayEngine

    pools = Pools.fitting(
        resources, device=device, actors=options.actors, gpus=options.gpus_per_actor, writers=options.writers
    ).within(options.max_connections)
    with closing(RayEngine(job, pools)) as engine:
        yield engine


def _inline(job: Job, shared: Shared, session: Session) -> Engine:
    from vecfill.encode.stage import Encode
    from vecfill.engine.inline import InlineEngine
    from vecfill.read.reader import Read
    from vecfill.write.writer import Write

    return InlineEngine(
        Read(session, job.relation),
        Encode(job.encode, load=shared.load),
        Write(job.database, job.relation, job.write_limits),
    )
