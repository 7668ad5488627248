"""The forecast, logged before the first write: rows, WAL, growth, triggers, publications and vector indexes."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Container
from dataclasses import dataclass

from vecfill.backfill.meter import duration
from vecfill.config.run import OFFERED, RunOptions
from vecfill.errors import ConfigError
from vecfill.postgres.relation import Relation, VectorColumn
from vecfill.postgres.update_effects import UpdateEffects
from vecfill.read.survey import Survey
from vecfill.wording import count_of, plural

log = logging.getLogger(__name__)

MAX_WAL_BYTES = 10_000_000_000
"""WAL above which a run needs confirmation: at PostgreSQL's default max_wal_size (1 GB) it forces ten checkpoints, and
every replica, slot and archive takes the same amount again."""

MAX_ROWS = 5_000_000
"""Rows above which a run needs confirmation: autovacuum has to clean up as many dead versions."""

MAX_INDEXED_ROWS = 50_000
"""Rows above which a run through a vector index needs confirmation: at 384 dimensions 315 to 343 rows/s with
HNSW, 22,000 without it; building the index over 32,322 rows took 20 s."""

KNOWN_UPDATE_S, KNOWN_BUILD_S, KNOWN_DIM = 0.003, 0.000_6, 384
"""Seconds that an HNSW index costs per updated row, and per row when it is built, at so many dimensions (two cores)."""

PAGE_BYTES = 8_192
TUPLE_BYTES = 28
"""Header and line pointer of a row version."""
TOAST_BYTES, CHUNK_BYTES, CHUNK_OVERHEAD = 2_032, 1_996, 48
"""Width above which a row's vector is stored out of line, and the size of its chunks there."""
HEAP_RECORDS, INDEX_RECORD, CHUNK_RECORDS = 160, 90, 200
"""Bytes of WAL beside the data: a row's lock and update; an entry of a B-tree; a chunk and its entry in its index."""
INDEX_ENTRY = 32


@dataclass(frozen=True, kw_only=True)
class IndexForecast:
    """What the vector indexes cost a run.

    Attributes:
        names: of the indexes.
        keep_s: seconds that the writes take through them.
        build_s: seconds that it takes to build them again.
        measured_rows: rows by which ``keep_s`` was measured; 0 if it comes from known figures of HNSW.
        rebuild: the run drops them, and builds them again at its end.
    """

    names: tuple[str, ...]
    keep_s: float
    build_s: float
    measured_rows: int = 0
    rebuild: bool = False

    def line(self, rows: int, *, offered: bool) -> str:
        """A line for the log; ``offered``: whether the verb takes ``--index``."""
        what, one = _named("vector index", self.names), len(self.names) == 1
        it, be = ("it", "is") if one else ("them", "are")
        measured = f"measured on {count_of(self.measured_rows, 'row')}"
        basis = measured if self.measured_rows else "by known figures of HNSW"
        keep = f"about {duration(self.keep_s)} for {count_of(rows, 'row')} ({basis})"
        build = f"about {duration(self.build_s)}"
        if self.rebuild:
            return (
                f"{what} {be} dropped for the run and built again after it, which takes {build}; writing through {it} "
                f"would take {keep}; meanwhile searches read every vector"
            )
        cost = f"each write also updates {what}, at 60 to 170 times the cost and with more WAL, {keep}"
        if not offered:
            return cost
        way = f"--index rebuild drops {it} for the run and builds {it} again afterwards, {build}"
        return f"{cost}: on a tracked target {way}"


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The cost of a run for the server. Bytes are estimates; an index that is not a B-tree adds to them.

    Attributes:
        rows: rows to write.
        wal_bytes: WAL.
        growth_bytes: growth of the table, its TOAST and its indexes: a new version of each row, unless they have free
            space. Vacuum frees the old versions for later use.
        dead_rows: old versions for vacuum.
        triggers: row triggers that fire.
        publications: publications that replicate the rows.
        vector_indexes: vector indexes over the embedding column.
        indexed: what they cost the run; None without one.
        indexes_beside: vector indexes over other columns, which a write that moves a row maintains too.
    """

    rows: int
    wal_bytes: int
    growth_bytes: int
    dead_rows: int
    triggers: tuple[str, ...]
    publications: tuple[str, ...]
    vector_indexes: tuple[str, ...]
    indexed: IndexForecast | None = None
    indexes_beside: tuple[str, ...] = ()

    def lines(self, label: str, offered: Container[str] = OFFERED) -> list[str]:
        """Lines for the log, before the first write; they recommend no other options than those ``offered``."""
        lines = [
            f"{label}: {count_of(self.rows, 'row')} to write, about {size(self.wal_bytes)} of WAL; the table grows by "
            f"at most about {size(self.growth_bytes)}, and {count_of(self.dead_rows, 'old row version')} for vacuum"
        ]
        if self.triggers:
            lines.append(f"each row fires {_named('trigger', self.triggers)}")
        if self.publications:
            lines.append(f"each row is replicated by {_named('publication', self.publications)}")
        if self.indexed:
            lines.append(self.indexed.line(self.rows, offered="index" in offered))
        if self.indexes_beside:
            lines.append(
                f"each write that moves its row also updates {_named('index', self.indexes_beside)} of another column; "
                "HNSW makes such a write 60 to 170 times as expensive"
            )
        return lines

    def excess(self, offered: Container[str] = OFFERED) -> str | None:
        """The amount that exceeds a confirmation limit, and the limit; None if the run needs no confirmation."""
        rebuild = self.indexed is not None and self.indexed.rebuild
        through = (() if rebuild else self.vector_indexes) + self.indexes_beside
        if through and self.rows > MAX_INDEXED_ROWS:
            kept = self.indexed if self.indexed and not rebuild else None
            see = "; see --index rebuild" if "index" in offered else ""
            long = f" (about {duration(kept.keep_s)}{see})" if kept else ""
            return (
                f"{self.rows:,} rows to write through {_named('vector index', through)}{long} exceed the "
                f"confirmation limit of {MAX_INDEXED_ROWS:,}"
            )
        if self.rows > MAX_ROWS:
            return f"{self.rows:,} rows to write exceed the confirmation limit of {MAX_ROWS:,}"
        if self.wal_bytes > MAX_WAL_BYTES:
            return f"about {size(self.wal_bytes)} of WAL exceeds the confirmation limit of {size(MAX_WAL_BYTES)}"
        return None


def forecast(relation: Relation, found: Survey, effects: UpdateEffects, limit: int | None) -> Forecast:
    """Estimates the cost of writing the surveyed rows, or as many as the limit allows."""
    rows = found.coverage.open if limit is None else min(limit, found.coverage.open)
    growth, wal = row_bytes(relation.table.vector, effects)
    changed = min(rows, sum(max(1, bucket.pages) for bucket in found.buckets))
    pages = changed + min(rows * effects.indexes, effects.index_pages) if effects.full_pages else 0
    return Forecast(
        rows=rows,
        wal_bytes=rows * wal + pages * PAGE_BYTES,
        growth_bytes=rows * growth,
        dead_rows=rows,
        triggers=effects.triggers,
        publications=effects.publications,
        vector_indexes=relation.table.vector_indexes,
        indexed=_indexed(relation, rows, found.coverage.total),
        indexes_beside=relation.table.indexes_beside,
    )


def row_bytes(vector: VectorColumn, effects: UpdateEffects) -> tuple[int, int]:
    """Bytes by which the write of one row grows the table, its TOAST and its indexes, and its bytes of WAL."""
    width = vector_bytes(vector)
    toasted = effects.width + width > TOAST_BYTES
    chunks = -(-width // CHUNK_BYTES) if toasted else 0
    version = TUPLE_BYTES + effects.width + (18 if toasted else width)
    aside = width + chunks * CHUNK_OVERHEAD if toasted else 0
    wal = version + aside + HEAP_RECORDS + chunks * CHUNK_RECORDS + effects.indexes * INDEX_RECORD
    return version + aside + effects.indexes * INDEX_ENTRY, wal


def _indexed(relation: Relation, rows: int, total: int) -> IndexForecast | None:
    """What the vector indexes cost by known figures."""
    names, vector = relation.table.vector_indexes, relation.table.vector
    tables = Counter(index.table for index in relation.table.indexes if index.is_for_vectors and index.name in names)
    if not tables:
        return None
    share = max(tables.values()) * (1 + (vector.dim or KNOWN_DIM) / KNOWN_DIM) / 2  # half of it is not arithmetic
    return IndexForecast(names=names, keep_s=rows * KNOWN_UPDATE_S * share, build_s=total * KNOWN_BUILD_S * share)


def vector_bytes(vector: VectorColumn) -> int:
    """Bytes of a vector as it is stored."""
    width, header = {"vector": (4, 8), "halfvec": (2, 8), "real[]": (4, 24), "double precision[]": (8, 24)}[vector.kind]
    return header + width * (vector.dim or 0)


def confirm(
    ahead: Forecast, label: str, consent: Callable[[str], bool], options: RunOptions, excess: str | None = None
) -> None:
    """Logs the forecast, and asks for confirmation as ``check_confirmed``."""
    for line in ahead.lines(label, options.offered):
        log.info("%s", line, extra={"target": label})
    check_confirmed(ahead, consent, options, excess)


def check_confirmed(
    ahead: Forecast, consent: Callable[[str], bool], options: RunOptions, excess: str | None = None
) -> None:
    """Asks for confirmation above a limit, or about another ``excess``.

    Raises:
        ConfigError: the forecast exceeds a limit, and nobody confirmed it.
    """
    excess = excess or ahead.excess(options.offered)
    if excess and not options.yes and not consent(excess):
        part = " or --limit to do part of it" if "limit" in options.offered else ""
        raise ConfigError(f"refusing to start: {excess}; pass --yes to proceed{part}")


def size(count: int) -> str:
    """Bytes for people, in powers of 1,000."""
    power = next(power for power in (1, 2, 3, 4) if count < 1_000 ** (power + 1) or power == len(_UNITS))
    return f"{count / 1_000**power:,.1f} {_UNITS[power - 1]}"


_UNITS = ("kB", "MB", "GB", "TB")


def _named(noun: str, names: tuple[str, ...]) -> str:
    return f"the {noun if len(names) == 1 else plural(noun)} {', '.join(names)}"
