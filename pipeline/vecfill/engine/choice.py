"""Chooses and opens the engine of a run."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from vecfill.config.engine import EngineOptions
from vecfill.engine.warm import Warm
from vecfill.job import Encode, Engine, Job
from vecfill.wording import count_of

log = logging.getLogger(__name__)

RAY_START_S = 10.0
"""Seconds that Ray adds on two cores: 3 to 8 for itself, the rest for the actors' imports."""

BLOCK_S = 5.0
"""Seconds of work in a block: a stop waits for the blocks in flight. A block costs Ray about 70 ms on two cores:
``hash:384`` reached 0.47 to 0.63 of the writer alone in blocks of 2,048 rows, and 0.86 in blocks of 8,192."""

INLINE_BLOCK_ROWS = 4_096
"""Limit in one process, which holds about five blocks and has almost no cost per block: 300,000 rows of
``hash:384`` peaked at 523 MB in blocks of 8,192 rows and at 400 MB in these (100,000 rows: 375), and were as fast."""


def choose(options: EngineOptions, *, rows: int, encode: Encode, gpus: int) -> tuple[str, str]:
    """Returns the engine's name and the reason.

    ``auto`` chooses Ray if a cluster is named, if there is more than one GPU, or if its start takes less than a tenth
    of the work.
    """
    if options.engine != "auto":
        return options.engine, "as asked"
    if options.ray_address:
        return "ray", f"a cluster is named: {options.ray_address}"
    if encode.device == "remote":
        return "inline", "an API computes elsewhere, and its limits hold for all encoders together"
    if gpus > 1 and encode.device != "cpu":
        return "ray", f"there are {gpus} GPUs"
    work = rows / encode.rows_per_s(gpus)
    long = f"{count_of(rows, 'row', 'is')} about {work:.0f} s of work"
    if work > 10 * RAY_START_S:
        return "ray", f"{long}, and Ray starts in about {RAY_START_S:.0f} s"
    return "inline", f"{long}, and Ray would add about {RAY_START_S:.0f} s"


def max_block_rows(encode: Encode, engine: str) -> int:
    """Returns the most rows of a block, so that it is about ``BLOCK_S`` of work.

    Args:
        encode: the encoder of the job; assumed on a GPU if the driver sees one, since a cluster's GPUs are unknown
            before the run joins it.
        engine: name of the engine.
    """
    rows = int(BLOCK_S * encode.rows_per_s(gpu_count()))
    return min(rows, INLINE_BLOCK_ROWS) if engine == "inline" else rows


def gpu_count(environ: Mapping[str, str] = os.environ) -> int:
    """NVIDIA GPUs that this process may use, without importing torch."""
    if (visible := environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return len([one for one in visible.split(",") if one.strip() not in ("", "-1", "NoDevFiles")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))


@contextmanager
def opened(job: Job, options: EngineOptions, rows: int, warm: Warm) -> Iterator[Engine]:
    """Starts the engine that fits and closes it at the end.

    Args:
        job: what to run.
        options: how to run it.
        rows: eligible rows.
        warm: Ray and models that earlier runs of this process started; the next run may reuse them.

    Raises:
        ConfigError: the named cluster does not answer, or has no GPU although one was requested.
    """
    name, reason = choose(options, rows=rows, encode=job.encode, gpus=gpu_count())
    log.info("engine: %s (%s)", name, reason, extra={"engine": name, "reason": reason})
    with closing(_inline(job, warm) if name == "inline" else _on_ray(job, options, warm)) as engine:
        yield engine


def _inline(job: Job, warm: Warm) -> Engine:
    from vecfill.engine.inline import InlineEngine

    return InlineEngine(job, warm.kept)


def _on_ray(job: Job, options: EngineOptions, warm: Warm) -> Engine:
    job.source.close()  # Ray takes seconds to start
    resources = warm.cluster(options.ray_address, verbose=options.verbose)
    from vecfill.engine.pools import Pools
    from vecfill.engine.ray import RayEngine

    device = "cpu" if job.encode.device == "remote" else job.encode.device  # an API's encoder needs no GPU
    pools = Pools.fitting(
        resources, device=device, actors=options.actors, gpus=options.gpus_per_actor, writers=options.writers
    ).within(options.max_connections)
    encoders = warm.encoders(pools, pools.blocks_an_encoder(job.encode.calls))
    return RayEngine(job, pools, encoders, warm.coordination())
