"""The statements of a search for the nearest vectors. Pure: SQL text in, SQL text out.

pgvector's types, functions and operators are qualified with the schema of the extension: hosted servers keep it off the
search path.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from psycopg import sql

from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.read_sql import leaf_source, within
from vecfill.postgres.relation import Relation
from vecfill.postgres.target_sql import Query, embedding, is_zero, target, where
from vecfill.postgres.template import verbatim_sql

OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>", "l1": "<+>"}
"""pgvector's operators by distance, the middle part of an operator class name (``vector_cosine_ops``,
``halfvec_l2_ops``). ``<#>`` is the negative inner product."""

MAX_EF_SEARCH = 1_000
"""Upper limit of ``hnsw.ef_search``: the most rows that a non-iterative HNSW scan returns."""

EXTENSION_SCHEMA = """
SELECT n.nspname::pg_catalog.text
FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'vector'
"""

COLUMNS = """
SELECT attname::pg_catalog.text FROM pg_catalog.pg_attribute
WHERE attrelid = pg_catalog.to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""

INDEXES = """
SELECT c.relname::pg_catalog.text, o.opcname::pg_catalog.text, a.attname::pg_catalog.text,
       pg_catalog.pg_get_expr(i.indexprs, i.indrelid)
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
JOIN pg_catalog.pg_opclass AS o ON o.oid = i.indclass[0]
LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] AND i.indkey[0] <> 0
WHERE m.amname IN ('hnsw', 'ivfflat') AND i.indisvalid AND i.indisready
  AND (i.indrelid = pg_catalog.to_regclass($1) OR i.indrelid IN
       (SELECT p.relid FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass($1)) AS p))
ORDER BY i.indrelid <> pg_catalog.to_regclass($1), i.indpred IS NOT NULL, a.attname IS NULL, m.amname, c.relname
"""
"""Vector indexes that a scan may use. Order: the table's own before its partitions', full before partial, on the column
before on a cast of it, HNSW before IVFFlat."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """The distance between two vectors, and the form in which the column is compared.

    Attributes:
        distance: one of ``OPERATORS``.
        kind: ``vector`` or ``halfvec``: the compared type.
        cast: the dimension that the column is cast to; 0 for a cast without a dimension, None for no cast.
        index: the index that determined the distance; None without one.
    """

    distance: str
    kind: str
    cast: int | None
    index: str | None


def measure_of(relation: Relation, indexes: list[tuple[str, str, str | None, str | None]]) -> Measure:
    """Returns the distance of the first index on the embedding column or on a cast of it; cosine without an index.

    Args:
        relation: the target.
        indexes: result of ``INDEXES``.
    """
    for name, opclass, column, expression in indexes:
        kind, _, distance = opclass.removesuffix("_ops").partition("_")
        if distance not in OPERATORS or kind not in ("vector", "halfvec"):
            continue
        if column == relation.table.vector.name:
            return Measure(distance=distance, kind=kind, cast=None, index=name)
        if (dim := _cast_dimension(relation, expression or "")) is not None:
            return Measure(distance=distance, kind=kind, cast=dim, index=name)
    if relation.table.vector.is_array:
        return Measure(distance="cosine", kind="vector", cast=0, index=None)
    return Measure(distance="cosine", kind=relation.table.vector.kind, cast=None, index=None)


def _cast_dimension(relation: Relation, expression: str) -> int | None:
    """Returns N if an index is on ``(embedding)::vector(N)``, in the server's spelling, else None."""
    name = relation.table.vector.name
    quoted = '"' + name.replace('"', '""') + '"'
    match = re.fullmatch(r"\((.+)\)::(?:.+\.)?(?:vector|halfvec)\((\d+)\)", expression)
    return int(match[2]) if match and match[1] in (name, quoted) else None


def nearest(relation: Relation, schema: str, measure: Measure, show: tuple[str, ...]) -> Query:
    """Selects the ``$2`` rows nearest to the vector ``$1`` (float8[]): key as text, distance, columns to show."""
    return _nearest(relation, schema, measure, show, source=target(relation), condition=_searched(relation))


def nearest_in_part(
    relation: Relation, schema: str, measure: Measure, show: tuple[str, ...], *, leaf: Leaf, bounds: Sequence[str]
) -> Query:
    """Selects the same from a leaf, within bounds of ``read_sql``, which have one parameter each."""
    condition = within(_searched(relation), relation, leaf, bounds, 3)
    return _nearest(relation, schema, measure, show, source=leaf_source(leaf, relation), condition=condition)


def _searched(relation: Relation) -> sql.Composed:
    return sql.SQL("{} IS NOT NULL{} AND {}").format(
        embedding(relation),
        sql.SQL(" AND NOT {}").format(is_zero(relation)) if relation.table.vector.is_array else sql.SQL(""),
        where(relation),
    )


def _nearest(
    relation: Relation,
    schema: str,
    measure: Measure,
    show: tuple[str, ...],
    *,
    source: sql.Composable,
    condition: sql.Composable,
) -> Query:
    alias = relation.table.alias
    return sql.SQL(
        "SELECT {key}, ({operand} {operator} {query})::pg_catalog.float8{show}\nFROM {source}\n"
        "WHERE {condition}\nORDER BY {operand} {operator} {query} LIMIT $2::pg_catalog.int8"
    ).format(
        key=shown_key(relation),
        operand=_operand(relation, schema, measure),
        operator=sql.SQL("OPERATOR({}.{})").format(sql.Identifier(schema), verbatim_sql(OPERATORS[measure.distance])),
        query=sql.SQL("$1::pg_catalog.float8[]::{}.{}").format(sql.Identifier(schema), sql.Identifier(measure.kind)),
        show=sql.SQL("").join(sql.SQL(", {}").format(_as_text(alias, name)) for name in show),
        source=source,
        condition=condition,
    )


def shown_key(relation: Relation) -> sql.Composed:
    """The key columns as text, with a comma between them; the row's ``ctid`` without a key."""
    names = [column.name for column in relation.table.key] or ["ctid"]
    return sql.SQL(" OPERATOR(pg_catalog.||) ', ' OPERATOR(pg_catalog.||) ").join(
        _as_text(relation.table.alias, name) for name in names
    )


def _as_text(alias: str, name: str) -> sql.Composed:
    return sql.SQL("{}::pg_catalog.text").format(sql.Identifier(alias, name))


def _operand(relation: Relation, schema: str, measure: Measure) -> sql.Composable:
    column = sql.Identifier(relation.table.alias, relation.table.vector.name)
    if measure.cast is None:
        return column
    typmod = f"({measure.cast})" if measure.cast else ""
    return sql.SQL("{}::{}.{}{}").format(
        column, sql.Identifier(schema), sql.Identifier(measure.kind), verbatim_sql(typmod)
    )


def explain(query: Query) -> Query:
    """Explains a query, as JSON."""
    return sql.SQL("EXPLAIN (FORMAT JSON) {}").format(query)


def load_pgvector(schema: str) -> Query:
    """Makes the server load pgvector: its settings do not exist before."""
    return sql.SQL("SELECT '[1]'::{}.vector").format(sql.Identifier(schema))


SETTINGS = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY ($1)"


def scan_settings(known: dict[str, str], limit: int) -> dict[str, str]:
    """Returns the settings with which an index scan continues until ``limit`` rows meet the condition.

    Args:
        known: the pgvector settings of this server and their values; iterative scans exist since 0.8.
        limit: number of rows wanted.
    """
    wanted = {"hnsw.iterative_scan": "strict_order", "ivfflat.iterative_scan": "relaxed_order"}
    found = {name: value for name, value in wanted.items() if known.get(name) == "off"}
    if "hnsw.ef_search" in known:
        found["hnsw.ef_search"] = str(max(int(known["hnsw.ef_search"]), min(limit, MAX_EF_SEARCH)))
    return found


SCAN_SETTINGS = ["hnsw.iterative_scan", "ivfflat.iterative_scan", "hnsw.ef_search"]
"""The settings that ``scan_settings`` needs the values of."""
