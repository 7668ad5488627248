"""A sample of the texts that a run would read, by the statement with which it reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from vecfill.backfill.prepared import Prepared
from vecfill.job import Worker
from vecfill.planning.record import TextEstimate
from vecfill.postgres.selection import MISSED, Selection
from vecfill.read.reader import Reader
from vecfill.read.source import TableSource
from vecfill.read.units import MAX_BLOCK_BYTES, MIN_BLOCK_ROWS, RowUnit, plan_units

PLACES = 32
"""Places of the table that a sample comes from."""


def sample_texts(prepared: Prepared, most: int, limit: int | None) -> pa.Table:
    """Returns a TextBlock of about ``most`` rows that a run would take, from places all over the table.

    All of them, if there are no more. Long texts make it fewer: at most ``MAX_BLOCK_BYTES``. It claims no entry of a
    queue table, and has no order, which would make the server sort all rows.
    """
    found, source = prepared.found, prepared.source
    units = plan_units(found.buckets, limit, MIN_BLOCK_ROWS)
    rows = max(1, found.eligible)
    most = max(1, min(most, MAX_BLOCK_BYTES * rows // max(1, sum(bucket.bytes for bucket in found.buckets))))
    if sum(unit.rows for unit in units) > most:
        places = min(len(units), PLACES, most)
        picked = [units[(2 * place + 1) * len(units) // (2 * places)] for place in range(places)]
        units = [replace(unit, limit=-(-most // places)) for unit in picked]
    table = _read(source, units, source.selection)
    return table if table.num_rows else _read(source, [unit for unit in units if _is_queue(source, unit)], _ANY)


def _read(source: TableSource, units: Sequence[RowUnit], selection: Selection) -> pa.Table:
    read = Reader(source.session, source.relation, selection, Worker())
    table = pa.concat_tables([read.nothing(), *(read(unit) for unit in units)])
    return table.filter(pc.is_null(table["error"]))


def _is_queue(source: TableSource, unit: RowUnit) -> bool:
    return source.relation.table.leaves[unit.leaf].queue


_ANY = Selection(name=MISSED, missing=lambda _: sql.SQL("true"))
"""Every row with a text: edited rows whose vector is of unknown origin are read only once the queue is settled."""


def estimate_texts(sample: pa.Table, rows: int) -> TextEstimate:
    """Estimates how many distinct texts ``rows`` rows have.

    By the estimator of Haas and Stokes (IBM Research Report RJ 10025, 1998) that PostgreSQL's ANALYZE uses: n d / (n -
    f1 + f1 n / N), where f1 of the d distinct texts of the n rows occur once.
    """
    counts = Counter(sample["text_hash"].to_pylist())
    n, d = sample.num_rows, len(counts)
    if n >= rows:
        return TextEstimate(sampled=n, distinct=min(d, rows), exact=n == rows)
    once = sum(1 for count in counts.values() if count == 1)
    distinct = round(n * d / (n - once + once * n / rows))
    return TextEstimate(sampled=n, distinct=max(d, min(distinct, rows)), exact=False)
