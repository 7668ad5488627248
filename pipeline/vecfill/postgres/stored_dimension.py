"""Finds the dimension of existing vectors, for a column whose type declares none."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql

from vecfill.postgres.relation import Relation
from vecfill.postgres.target_sql import embedding, is_zero, numbers, target, where


def stored_dimension(cursor: Any, relation: Relation) -> int | None:
    """Returns the dimension of a vector that ``where`` selects; None if it selects none but zeros and empty arrays.

    Also None if the server refuses the statement: then a later check, which knows the options, explains why.
    """
    query = sql.SQL(
        "SELECT pg_catalog.cardinality({numbers}) FROM {source}\n"
        "WHERE {embedding} IS NOT NULL AND NOT {zero} AND {where} LIMIT 1"
    ).format(
        numbers=numbers(relation),
        source=target(relation),
        embedding=embedding(relation),
        zero=is_zero(relation),
        where=where(relation),
    )
    try:
        with cursor.connection.transaction():
            row = cursor.execute(query, ()).fetchone()
    except psycopg.OperationalError:
        raise
    except psycopg.Error:
        return None
    return row[0] if row else None
