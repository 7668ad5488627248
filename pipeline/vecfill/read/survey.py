"""The survey: one scan that counts the target's coverage and says where the eligible rows lie."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from vecfill.errors import ConfigError, Fault, classify
from vecfill.postgres import statements
from vecfill.postgres.session import Connection, said, transaction
from vecfill.postgres.target import Relation
from vecfill.read.ranges import Bucket, bucket_pages


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """How full the embedding column is, counting the rows that ``where`` selects.

    Attributes:
        total: rows.
        filled: rows with a vector.
        missing: rows without one that have a text: the eligible ones.
        empty: rows without one that have nothing to embed.
    """

    total: int
    filled: int
    missing: int
    empty: int

    @property
    def percent(self) -> float:
        """Rows with a vector, in percent of all; 100 for a table without rows."""
        return 100.0 * self.filled / self.total if self.total else 100.0


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What one scan found: the counts, and the buckets that hold eligible rows."""

    coverage: Coverage
    buckets: tuple[Bucket, ...]


@contextmanager
def of_users_sql(relation: Relation) -> Iterator[None]:
    """Says that a division by zero, or something that writes, comes from what the user wrote: ours has none."""
    try:
        yield
    except psycopg.Error as error:
        if classify(error.sqlstate) is not Fault.ROW and not isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            raise
        raise ConfigError(
            f"--where or --text fails on a row of {relation.label}: {said(error)}: correct it, for all rows"
        ) from error


def survey(connection: Connection, relation: Relation) -> Survey:
    """Scans every leaf once, in a transaction of its own. Rows that move between leaves meanwhile may count twice.

    Raises:
        ConfigError: the user's SQL fails on some row.
    """
    total = filled = empty = 0
    buckets: list[Bucket] = []
    for position, leaf in enumerate(relation.leaves):
        pages = bucket_pages(leaf.pages)
        with of_users_sql(relation), transaction(connection, read_only=True) as cursor:
            rows = cursor.execute(statements.survey(relation, leaf), (pages,)).fetchall()
        for bucket, count, with_vector, blank, size in rows:
            total, filled, empty = total + count, filled + with_vector, empty + blank
            if bucket is not None:
                buckets.append(Bucket(leaf=position, first_page=bucket * pages, pages=pages, rows=count, bytes=size))
    missing = sum(bucket.rows for bucket in buckets)
    return Survey(coverage=Coverage(total=total, filled=filled, missing=missing, empty=empty), buckets=tuple(buckets))
