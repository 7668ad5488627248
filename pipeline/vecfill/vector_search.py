"""``vecfill search``: finds the rows whose vectors are nearest to that of a text, through an index if there is one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from vecfill.backfill.checks import check_dimension, check_sql
from vecfill.backfill.tracked_checks import check_same_model
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.encode.encoder import Encoder
from vecfill.encode.load import load_model
from vecfill.encode.model.model_files import dimension_of
from vecfill.errors import ConfigError
from vecfill.postgres import search_sql
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.driver_errors import server_message
from vecfill.postgres.index_scan import configure_scan, index_used
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.row_security import check_visible
from vecfill.postgres.search_sql import Measure
from vecfill.postgres.selection import MISSING
from vecfill.postgres.session import open_session
from vecfill.postgres.transaction import transaction
from vecfill.read.nearest_rows import nearest_readable_rows
from vecfill.read.unreadable_rows import is_row_fault
from vecfill.wording import count_of

log = logging.getLogger(__name__)

DEFAULT_LIMIT = 5


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A row in the result of a search.

    Attributes:
        key: the key's columns as text, with a comma between them; for a table without a key, the row's current
            ``ctid``.
        distance: from the text's vector; NaN if undefined, such as the cosine of a zero vector.
        values: the columns of ``show``, as text.
    """

    key: str
    distance: float
    values: tuple[str | None, ...]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The result of a search.

    Attributes:
        table: ``schema.table``.
        distance: ``cosine``, ``l2``, ``l1``, or ``ip``, the negative inner product.
        index: the index that the server used, or None if it compared every row.
        hits: nearest first.
        row_security: row-level policies apply to the role, so that only rows that it may see are searched.
    """

    table: str
    distance: str
    index: str | None
    hits: tuple[Hit, ...]
    row_security: bool = False


def search(
    target: Target,
    model: Model,
    text: str,
    *,
    database: str | Database | None = None,
    limit: int = DEFAULT_LIMIT,
    show: tuple[str, ...] = (),
    encoder: Encoder | None = None,
) -> Found:
    """Finds the rows of the target that are nearest to a text. The role needs only SELECT.

    Args:
        target: where to search; its ``text``, ``set`` and ``dim`` are not used.
        model: the one that made the vectors.
        text: what to search for; the model's own query prompt is put before it.
        database: connection string; None takes libpq's environment.
        limit: the most hits.
        show: columns whose values come with each hit.
        encoder: the model, if it is loaded already.

    Returns:
        The hits; none if no row that meets the condition has a vector.

    Raises:
        ConfigError: no database; or as ``nearest``.
        DatabaseError: the table stayed locked, or the server away, for too long.
    """
    with open_session(database) as session:
        return _nearest(session.run, target, model, text, limit=limit, show=show, encoder=encoder)


def nearest(
    connection: Connection,
    target: Target,
    model: Model,
    text: str,
    *,
    limit: int = DEFAULT_LIMIT,
    show: tuple[str, ...] = (),
    encoder: Encoder | None = None,
) -> Found:
    """Searches as ``search`` does, on an open connection; the other arguments are the same.

    Raises:
        ConfigError: a blank text; a target, a column or a dimension that does not fit; no pgvector; vectors that
            cannot be compared. All but the last are found before the model is loaded.
        MixedModelsError: the ledger of a tracked target says that other models made the vectors.
    """
    return _nearest(lambda work: work(connection), target, model, text, limit=limit, show=show, encoder=encoder)


def _nearest(
    on_connection: Callable[[Callable[[Connection], Any]], Any],  # may call its argument again after a fault
    target: Target,
    model: Model,
    text: str,
    *,
    limit: int,
    show: tuple[str, ...],
    encoder: Encoder | None,
) -> Found:
    if not text.strip():
        raise ConfigError("the text to search for is blank: write what the rows are to be near to")
    if limit < 1:
        raise ConfigError(f"limit is {limit}: it must be at least 1")
    relation, schema, measure = on_connection(lambda connection: _checked(connection, target, model, show))
    if given := encoder.dim if encoder else dimension_of(model):
        check_dimension(relation, model, given)
    vector = (encoder or load_model(model)).encode_query(text)
    check_dimension(relation, model, len(vector))
    if not vector.any():
        raise ConfigError(
            f"model {model.name} gives this text a vector of zeros, to which no row is near: it may know none of its "
            "words: search for other words"
        )
    found: Found = on_connection(
        lambda connection: _found(connection, relation, schema, measure, vector=vector, limit=limit, show=show)
    )
    return found


def _checked(
    connection: Connection, target: Target, model: Model, show: tuple[str, ...]
) -> tuple[Relation, str, Measure]:
    plain = replace(target, text=None, set=(), dim=None)
    relation = inspect(connection, plain, text_needed=False, key_needed=False)
    check_sql(connection, relation, MISSING, writing=False)
    check_visible(connection, relation)
    check_same_model(connection, relation, target, model)
    return relation, *comparison(connection, relation, show)


def comparison(connection: Connection, relation: Relation, show: tuple[str, ...] = ()) -> tuple[str, Measure]:
    """Returns pgvector's schema and the distance by which a search compares vectors.

    Raises:
        ConfigError: no pgvector, or no such column to show.
    """
    table = relation.table.name.as_string()
    with transaction(connection, read_only=True) as cursor:
        schema = cursor.execute(search_sql.EXTENSION_SCHEMA, ()).fetchone()
        columns = [name for (name,) in cursor.execute(search_sql.COLUMNS, (table,)).fetchall()]
        indexes = cursor.execute(search_sql.INDEXES, (table,)).fetchall()
    if schema is None:
        raise ConfigError("this database has no pgvector, which compares the vectors: CREATE EXTENSION vector")
    if unknown := [name for name in show if name not in columns]:
        raise ConfigError(
            f"--show {', '.join(unknown)}: {relation.table.label} has no such column; its columns are "
            f"{', '.join(sorted(columns))}"
        )
    return schema[0], search_sql.measure_of(relation, indexes)


def _found(
    connection: Connection,
    relation: Relation,
    schema: str,
    measure: Measure,
    *,
    vector: npt.NDArray[np.float32],
    limit: int,
    show: tuple[str, ...],
) -> Found:
    query = search_sql.nearest(relation, schema, measure, show)
    values = (vector.astype(np.float64).tolist(), limit)
    try:
        with transaction(connection, read_only=True) as cursor:
            configure_scan(cursor, schema, limit)
            index = index_used(cursor, query, values, relation, measure)
            rows = cursor.execute(query, values).fetchall()
    except psycopg.errors.DataException as error:
        raise ConfigError(
            f"the rows of {relation.table.label} cannot all be compared with this text: {server_message(error)}: "
            "exclude rows with --where, or choose another model"
        ) from error
    except Exception as error:
        if not is_row_fault(error):
            raise
        rows = nearest_readable_rows(connection, relation, schema, measure, show=show, values=values)
        index = None
    if index and len(rows) < limit:
        why = "its scan is limited (hnsw.max_scan_tuples, ivfflat.max_probes), so that more may qualify"
        log.info("index %s gave %d of %s: %s", index, len(rows), count_of(limit, "row"), why)
    hits = (Hit(key=key, distance=distance, values=tuple(shown)) for key, distance, *shown in rows)
    return Found(
        table=relation.table.label,
        distance=measure.distance,
        index=index,
        hits=tuple(sorted(hits, key=_rank)[:limit]),
        row_security=relation.access.policies,
    )


def _rank(hit: Hit) -> tuple[bool, float]:
    """Nearest first, NaN last: an iterative scan of IVFFlat may be a little out of order."""
    return math.isnan(hit.distance), hit.distance
