"""The statements of a search: the rows whose vectors are nearest to one. Pure: SQL text in, SQL text out.

pgvector's types, functions and operators are named in the schema that the extension is in: hosted servers keep it off
the search path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from psycopg import sql

from vecfill.postgres.relation import Relation
from vecfill.postgres.template import verbatim_sql

Query = sql.Composed

OPERATORS = {"cosine": "<=>", "l2": "<->", "ip": "<#>", "l1": "<+>"}
"""pgvector's operators by the middle of the operator class's name: ``vector_cosine_ops``, ``halfvec_l2_ops``.
``<#>`` is the negative inner product."""

MAX_EF_SEARCH = 1_000
"""Upper bound of ``hnsw.ef_search``, the most rows that an HNSW scan gives unless it is iterative."""

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
"""Vector indexes that a scan may use: first the table's own before its partitions', whole before partial, the column's
before those on a cast of it, HNSW before IVFFlat."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How far two vectors are excluded, and what of the column is compared.

    Attributes:
        distance: one of ``OPERATORS``.
        kind: ``vector`` or ``halfvec``: the type that is compared.
        cast: the dimension that the column is cast to, 0 for a cast without one, None where it is taken as it is.
        index: the index that this distance comes from; None without one.
    """

    distance: str
    kind: str
    cast: int | None
    index: str | None


def measure_of(relation: Relation, indexes: list[tuple[str, str, str | None, str | None]]) -> Measure:
    """The distance of the first index on the embedding column, or on a cast of it; cosine where there is none.

    Args:
        relation: the target.
        indexes: rows of ``INDEXES``.
    """
    for name, opclass, column, expression in indexes:
        kind, _, distance = opclass.removesuffix("_ops").partition("_")
        if distance not in OPERATORS or kind not in ("vector", "halfvec"):
            continue
        if column == relation.table.vector.name:
            return Measure(distance=distance, kind=kind, cast=None, index=name)
        if (dim := _cast_dimension(relation, expression or "")) is not None:
            return Measure(distance=distance, kind=kind, cast=dim, index=name)
    if relation.table.vector.kind == "real[]":
        return Measure(distance="cosine", kind="vector", cast=0, index=None)
    return Measure(distance="cosine", kind=relation.table.vector.kind, cast=None, index=None)


def _cast_dimension(relation: Relation, expression: str) -> int | None:
    """N where an index is on ``(embedding)::vector(N)``, as the server spells it; None for anything else."""
    name = relation.table.vector.name
    quoted = '"' + name.replace('"', '""') + '"'
    match = re.fullmatch(r"\((.+)\)::(?:.+\.)?(?:vector|halfvec)\((\d+)\)", expression)
    return int(match[2]) if match and match[1] in (name, quoted) else None


def nearest(relation: Relation, schema: str, measure: Measure, show: tuple[str, ...]) -> Query:
    """The ``$2`` rows nearest to the vector ``$1`` (float8[]): key and columns to show as text, and the distance."""
    alias = relation.table.alias
    return sql.SQL(
        "SELECT {key}, ({operand} {operator} {query})::pg_catalog.float8{show}\nFROM {only}{name} AS {alias}\n"
        "WHERE {embedding} IS NOT NULL AND (\n{where}\n)\n"
        "ORDER BY {operand} {operator} {query} LIMIT $2::pg_catalog.int8"
    ).format(
        key=sql.SQL(" OPERATOR(pg_catalog.||) ', ' OPERATOR(pg_catalog.||) ").join(
            _as_text(alias, name) for name in [column.name for column in relation.table.key] or ["ctid"]
        ),
        operand=_operand(relation, schema, measure),
        operator=sql.SQL("OPERATOR({}.{})").format(sql.Identifier(schema), verbatim_sql(OPERATORS[measure.distance])),
        query=sql.SQL("$1::pg_catalog.float8[]::{}.{}").format(sql.Identifier(schema), sql.Identifier(measure.kind)),
        show=sql.SQL("").join(sql.SQL(", {}").format(_as_text(alias, name)) for name in show),
        only=sql.SQL("ONLY " if relation.table.plain else ""),
        name=relation.table.name,
        alias=sql.Identifier(alias),
        embedding=sql.Identifier(alias, relation.table.vector.name),
        where=relation.user_sql.where if relation.user_sql.where is not None else sql.SQL("true"),
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
    """The plan of a query, as JSON."""
    return sql.SQL("EXPLAIN (FORMAT JSON) {}").format(query)


def load_pgvector(schema: str) -> Query:
    """Makes the server load pgvector, whose settings exist only from then on."""
    return sql.SQL("SELECT '[1]'::{}.vector").format(sql.Identifier(schema))


SETTINGS = "SELECT name, setting FROM pg_catalog.pg_settings WHERE name = ANY ($1)"


def scan_settings(known: dict[str, str], limit: int) -> dict[str, str]:
    """What a scan of an index is to be told, so that it goes on until ``limit`` rows meet the condition.

    Args:
        known: the settings of pgvector that this server has, with their values; iterative scans came with 0.8.
        limit: rows that are wanted.
    """
    wanted = {"hnsw.iterative_scan": "strict_order", "ivfflat.iterative_scan": "relaxed_order"}
    found = {name: value for name, value in wanted.items() if known.get(name) == "off"}
    if "hnsw.ef_search" in known:
        found["hnsw.ef_search"] = str(max(int(known["hnsw.ef_search"]), min(limit, MAX_EF_SEARCH)))
    return found


SCAN_SETTINGS = ["hnsw.iterative_scan", "ivfflat.iterative_scan", "hnsw.ef_search"]
"""The settings that ``scan_settings`` wants to know of."""
