"""What a run will ask of the server, said before the first write: rows, WAL, growth, and who else is set to work."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from vecfill.errors import ConfigError
from vecfill.postgres.relation import Relation, VectorColumn
from vecfill.postgres.update_effects import UpdateEffects
from vecfill.read.survey import Survey

log = logging.getLogger(__name__)

MAX_WAL_BYTES = 10_000_000_000
"""WAL above which a run wants a yes: at PostgreSQL's default max_wal_size (1 GB) it is ten forced checkpoints, and as
much again for every replica, slot and archive."""

MAX_ROWS = 5_000_000
"""Rows above which a run wants a yes: as many dead versions, which autovacuum has to clean up behind it."""

MAX_INDEXED_ROWS = 50_000
"""Rows above which a run into a vector index wants a yes: with HNSW 315 to 343 rows/s were written at 384 dimensions,
22,000 without, and the index over 32,322 rows was built in 20 s."""

PAGE_BYTES = 8_192
TUPLE_BYTES = 28
"""Header and line pointer of a row version."""
TOAST_BYTES, CHUNK_BYTES, CHUNK_OVERHEAD = 2_032, 1_996, 48
"""Width above which a row's vector moves out of line, and the chunks that it is cut into there."""
HEAP_RECORDS, INDEX_RECORD, CHUNK_RECORDS = 160, 90, 200
"""Bytes of WAL beside the data: a row's lock and update; an entry of a B-tree; a chunk and its entry in its index."""
INDEX_ENTRY = 32


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will ask of the server. Bytes are estimates; an index that is not a B-tree adds to them.

    Attributes:
        rows: rows that are to get a vector.
        wal_bytes: WAL.
        growth_bytes: how much the table, its TOAST and its indexes grow: a new version of each row, unless there is
            free space in them. Vacuum frees the old versions for later use.
        dead_rows: old versions that are left to vacuum.
        triggers: row triggers that fire.
        publications: publications that send the rows on.
        vector_indexes: vector indexes over the embedding column.
    """

    rows: int
    wal_bytes: int
    growth_bytes: int
    dead_rows: int
    triggers: tuple[str, ...]
    publications: tuple[str, ...]
    vector_indexes: tuple[str, ...]

    def lines(self, label: str) -> list[str]:
        """What a person should know before it happens."""
        lines = [
            f"{label}: {self.rows:,} rows to write, about {size(self.wal_bytes)} of WAL; the table grows by up "
            f"to about {size(self.growth_bytes)}, and {self.dead_rows:,} old row versions are left to vacuum"
        ]
        if self.triggers:
            lines.append(f"each row fires {_named('trigger', self.triggers)}")
        if self.publications:
            lines.append(f"each row is sent on by {_named('publication', self.publications)}")
        if self.vector_indexes:
            lines.append(
                f"each row goes into {_named('vector index', self.vector_indexes)}, at 60 to 170 times the cost and "
                "beside that WAL: filling first and building the index after is faster"
            )
        return lines

    def excess(self) -> str | None:
        """What is above a bound, and the bound; None where the run is of a size that needs no question."""
        if self.vector_indexes and self.rows > MAX_INDEXED_ROWS:
            return (
                f"{self.rows:,} rows go into {_named('vector index', self.vector_indexes)}, "
                f"and the bound is {MAX_INDEXED_ROWS:,}"
            )
        if self.rows > MAX_ROWS:
            return f"{self.rows:,} rows are to be written, and the bound is {MAX_ROWS:,}"
        if self.wal_bytes > MAX_WAL_BYTES:
            return f"about {size(self.wal_bytes)} of WAL is to be written, and the bound is {size(MAX_WAL_BYTES)}"
        return None


def forecast(relation: Relation, found: Survey, effects: UpdateEffects, limit: int | None) -> Forecast:
    """Reckons what writing the surveyed rows, or as many as the limit allows, will cost."""
    rows = found.coverage.missing if limit is None else min(limit, found.coverage.missing)
    vector = vector_bytes(relation.table.vector)
    toasted = effects.width + vector > TOAST_BYTES
    chunks = -(-vector // CHUNK_BYTES) if toasted else 0
    version = TUPLE_BYTES + effects.width + (18 if toasted else vector)
    aside = vector + chunks * CHUNK_OVERHEAD if toasted else 0
    changed = min(rows, sum(max(1, bucket.pages) for bucket in found.buckets))
    pages = changed + min(rows * effects.indexes, effects.index_pages) if effects.full_pages else 0
    wal = version + aside + HEAP_RECORDS + chunks * CHUNK_RECORDS + effects.indexes * INDEX_RECORD
    return Forecast(
        rows=rows,
        wal_bytes=rows * wal + pages * PAGE_BYTES,
        growth_bytes=rows * (version + aside + effects.indexes * INDEX_ENTRY),
        dead_rows=rows,
        triggers=effects.triggers,
        publications=effects.publications,
        vector_indexes=relation.table.vector_indexes,
    )


def vector_bytes(vector: VectorColumn) -> int:
    """Bytes of a vector as it is stored."""
    width, header = {"vector": (4, 8), "halfvec": (2, 8), "real[]": (4, 24)}[vector.kind]
    return header + width * (vector.dim or 0)


def confirm(ahead: Forecast, label: str, consent: Callable[[str], bool], *, yes: bool) -> Forecast:
    """Says what the run will ask of the server, and wants a yes where that is much.

    Raises:
        ConfigError: it is much, and nobody said yes.
    """
    for line in ahead.lines(label):
        log.info("%s", line)
    excess = ahead.excess()
    if excess and not yes and not consent(excess):
        raise ConfigError(f"not started: {excess}: give --yes if that is meant, or --limit for a part of it")
    return ahead


def size(count: int) -> str:
    """Bytes for people, in powers of 1,000."""
    power = next(power for power in (1, 2, 3, 4) if count < 1_000 ** (power + 1) or power == len(_UNITS))
    return f"{count / 1_000**power:,.1f} {_UNITS[power - 1]}"


_UNITS = ("kB", "MB", "GB", "TB")


def _named(noun: str, names: tuple[str, ...]) -> str:
    plural = noun if len(names) == 1 else noun[:-2] + "ices" if noun.endswith("ex") else noun + "s"
    return f"the {plural} {', '.join(names)}"
