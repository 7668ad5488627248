"""What writers are given: every row of the scratch table, read and encoded beforehand, in batches of one size."""

from __future__ import annotations

import pyarrow as pa

from vecfill.bench.ours import blocks_of
from vecfill.job import Job


def encoded(job: Job, batch: int, rows: int | None = None) -> list[pa.Table]:
    """EncodedBlocks of ``batch`` rows, the last one smaller; of the first ``rows`` rows where given."""
    table = pa.concat_tables(blocks_of(job)).slice(0, rows)
    found = Encode(job.encode)(table).combine_chunks()
    return [found.slice(at, batch).combine_chunks() for at in range(0, found.num_rows, batch)]
