"""Reads stored vectors with what the ledger says of them: a random sample, or all in ranges of heap pages."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import psycopg
from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.postgres import verify_sql
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import Selection
from vecfill.postgres.session import Session
from vecfill.postgres.target_sql import Query
from vecfill.postgres.transaction import transaction
from vecfill.read.pieces import Pieces, page_ranges
from vecfill.read.units import PageRange, RowUnit
from vecfill.read.unreadable_rows import Rows, is_row_fault
from vecfill.read.user_sql_errors import explain_user_sql_errors
from vecfill.verification.judgement import StoredRow

PIECE_PAGES = 32
"""Heap pages (256 KB) of one statement: some thousand vectors at most."""

BATCH_ROWS = 2_000

RANDOM_PAGES = 200
"""Heap pages that a random sample comes from at first."""


def stored_rows(
    session: Session, relation: Relation, selection: Selection, sample: int | None
) -> Iterator[list[StoredRow]]:
    """Yields rows with a vector and a text, some at a time.

    Args:
        session: to the target's database.
        relation: the rows to read; with its ledger if it is tracked.
        selection: tells which rows have no vector.
        sample: the most rows, picked at random; None for all.

    Raises:
        ConfigError: the user's SQL fails on a row.
    """
    if sample is not None:
        rows = session.run(lambda connection: random_rows(connection, relation, selection, sample))
        yield from (rows[first : first + BATCH_ROWS] for first in range(0, len(rows), BATCH_ROWS))
        return
    pieces = Pieces()
    for unit in page_ranges(relation, PIECE_PAGES):
        read = functools.partial(_range, relation=relation, selection=selection, unit=unit, pieces=pieces)
        if rows := session.run(read):
            yield rows


def random_rows(
    connection: Connection,
    relation: Relation,
    selection: Selection,
    most: int,
    only: sql.Composable | None = None,
) -> list[StoredRow]:
    """Picks rows from random pages, or from all pages if these hold too few.

    Args:
        connection: to the target's database.
        relation: the rows to read; with its ledger if it is tracked.
        selection: tells which rows have no vector.
        most: the most rows.
        only: condition that they meet; None for all.

    Raises:
        ConfigError: the user's SQL fails on a row.
    """
    pages = sum(leaf.pages for leaf in relation.table.leaves)
    some = max(RANDOM_PAGES, most)
    rows: list[StoredRow] = []
    for percent in (100.0 * some / pages, None) if some < pages else (None,):
        query = verify_sql.random_rows(selection, relation, percent=percent, only=only)
        rows = _sampled(connection, relation, query, most)
        if len(rows) == most:
            break
    return rows


def _sampled(connection: Connection, relation: Relation, query: Query, most: int) -> list[StoredRow]:
    """Runs a statement that picks rows; a row that cannot be read ends it."""
    try:
        return _stored(_fetched(connection, relation, query, (most,)))
    except psycopg.Error as error:
        if not is_row_fault(error):
            raise
        raise ConfigError(
            f"--where or --text fails on a row of {relation.table.label}: {server_message(error)}: pass --all to go "
            "around such rows, or exclude them with --where"
        ) from error


def _range(
    connection: Connection, *, relation: Relation, selection: Selection, unit: PageRange, pieces: Pieces
) -> list[StoredRow]:
    def read(piece: RowUnit, some: Relation) -> Rows:
        bounds, leaf = piece.bounds(), some.table.leaves[piece.leaf]
        query = verify_sql.rows_of_part(selection, some, leaf, tuple(bounds))
        return _fetched(connection, some, query, tuple(bounds.values()))

    with explain_user_sql_errors(relation):
        found = list(pieces.read(connection, relation, unit, read))
    return _stored([row for rows, error in found if not error for row in rows])


def _fetched(connection: Connection, relation: Relation, query: Query, parameters: Sequence[Any]) -> Rows:
    reading = relation.access.reading
    with transaction(connection, reading, read_only=True, first=query, parameters=parameters) as cursor:
        return cursor.fetchall()


def _stored(rows: Rows) -> list[StoredRow]:
    return [
        StoredRow(
            key=key,
            parts=tuple(parts),
            text=text,
            vector=np.array(vector, np.float64),
            model=model,
            same_text=same_text,
        )
        for key, parts, text, vector, model, same_text in rows
    ]
