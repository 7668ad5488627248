"""Measures what building a vector index costs, on random vectors in a temporary table that is rolled back."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Sequence

import psycopg
from psycopg import sql

from vecfill.indexing.update_cost import COLUMN_TYPE
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.index_sql import SavedIndex
from vecfill.postgres.relation import Relation
from vecfill.postgres.server import time_limits
from vecfill.postgres.template import verbatim_sql
from vecfill.postgres.transaction import transaction

log = logging.getLogger(__name__)

ROWS = 1_000
LOCK_MS, STATEMENT_MS = 300, 10_000


def build_seconds(connection: Connection, relation: Relation, indexes: Sequence[SavedIndex], rows: int) -> float | None:
    """Estimates the time that building these indexes takes, without parallel workers; None if it cannot be measured.

    A graph of n vectors costs about n·log n.

    Args:
        connection: to the target's database.
        relation: the target.
        indexes: its vector indexes, or those of its partitions.
        rows: of the whole table.
    """
    kinds = Counter(one.rest for one in indexes if not one.partitioned)
    if relation.access.arrays or not relation.table.vector.dim or not kinds:
        return None  # this role may not make temporary tables
    try:
        return sum(
            count * _scaled(_measured(connection, relation, rest), max(2, rows // count))
            for rest, count in kinds.items()
        )
    except psycopg.Error as error:  # it uses other columns, or takes too long
        log.debug("the build of the vector indexes was not measured: %s", server_message(error))
        return None


def _scaled(seconds: float, rows: int) -> float:
    return seconds * rows * math.log(rows) / (ROWS * math.log(ROWS))


def _measured(connection: Connection, relation: Relation, rest: str) -> float:
    """Seconds for ``ROWS`` rows, by the server's clock."""
    vector = relation.table.vector
    limits = {"search_path": "", **time_limits(relation.access.server, LOCK_MS, STATEMENT_MS)}
    with transaction(connection, limits) as cursor:
        (kind,) = cursor.execute(COLUMN_TYPE, (relation.table.oid, vector.name)).fetchone() or ("",)
        names = {"column": sql.Identifier(vector.name), "kind": verbatim_sql(kind), "rest": verbatim_sql(rest)}
        names |= {"dim": sql.Literal(vector.dim), "rows": sql.Literal(ROWS)}
        for statement in _SAMPLE.split(";\n"):
            cursor.execute(sql.SQL(statement).format(**names), ())
        (start,) = cursor.execute(_NOW, ()).fetchone() or (0.0,)
        cursor.execute(sql.SQL("CREATE INDEX ON pg_temp.vecfill_sample {rest}").format(**names), ())
        (end,) = cursor.execute(_NOW, ()).fetchone() or (0.0,)
        connection.rollback()
    return float(end - start)


_SAMPLE = """
CREATE TEMPORARY TABLE vecfill_sample ({column} {kind}) ON COMMIT DROP;
INSERT INTO pg_temp.vecfill_sample
  SELECT ARRAY(SELECT (pg_catalog.random() - 0.5)::pg_catalog.float4
    FROM pg_catalog.generate_series(1, {dim}) WHERE g IS NOT NULL)::{kind}
  FROM pg_catalog.generate_series(1, {rows}) AS g
"""

_NOW = "SELECT EXTRACT(epoch FROM pg_catalog.clock_timestamp())::pg_catalog.float8"
