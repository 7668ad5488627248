"""The staging table, which holds a batch on the server, and the statements that fill it. Pure.

Normally it is a temporary table filled by COPY. For a role that may not create temporary tables it is a common table
expression over ``unnest``: every statement then takes one array a column, after its own parameters.
"""

from __future__ import annotations

from psycopg import sql

from vecfill.blocks import key_names
from vecfill.errors import ConfigError
from vecfill.postgres.key import KeyColumn
from vecfill.postgres.relation import Relation
from vecfill.postgres.target_sql import column, embedding, target

Query = sql.Composed


def key_columns(relation: Relation) -> list[sql.Identifier]:
    """Returns the key columns of the staging table."""
    return [sql.Identifier(f"vecfill_{name}") for name in key_names(relation.table.arity)]


def create_staging_table(relation: Relation) -> Query:
    """Creates the temporary table with the target's key and vector types and collations; the commit drops it."""
    return sql.SQL("CREATE TEMPORARY TABLE vecfill_staging ON COMMIT DROP AS\n{} WITH NO DATA").format(
        staging_columns(relation)
    )


def staging_columns(relation: Relation) -> sql.Composed:
    """Returns a query whose columns are those of the staging table."""
    return sql.SQL(
        "SELECT 0::pg_catalog.int4 AS vecfill_n, {keys}, ''::pg_catalog.bytea AS vecfill_hash,\n"
        "  {embedding} AS vecfill_embedding\n"
        "FROM {source}"
    ).format(
        keys=sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(column(relation, part.name), name)
            for part, name in zip(relation.table.key, key_columns(relation), strict=True)
        ),
        embedding=embedding(relation),
        source=target(relation),
    )


def copy_into_staging_table() -> Query:
    """Copies rows into the staging table; columns in the order of ``create_staging_table``."""
    return sql.SQL("COPY pg_temp.vecfill_staging FROM STDIN (FORMAT BINARY)").format()


def array_types(relation: Relation, *, vectors: bool) -> list[sql.Composable]:
    """Returns the types of the arrays after ``$1``: positions, keys, hashes; with ``vectors`` the embeddings too.

    An array has no array type. Its vectors are sent as one long array, with the offset of each row's numbers in
    a second array: NULL for a row without a vector.

    Raises:
        ConfigError: a key column has a type without an array type.
    """
    names = [
        sql.SQL("pg_catalog._int4"),
        *(_array_over(relation, part) for part in relation.table.key),
        sql.SQL("pg_catalog._bytea"),
    ]
    if not vectors:
        return names
    if relation.table.vector.array is None:
        return [*names, sql.SQL("pg_catalog._int4"), relation.table.vector.numbers]
    return [*names, relation.table.vector.array]


def _array_over(relation: Relation, part: KeyColumn) -> sql.Composable:
    if part.array is None:
        raise ConfigError(
            f"key column {part.name} of {relation.table.label} has a type without an array type, and this role may "
            "not create temporary tables: choose another --key, or GRANT TEMPORARY ON DATABASE to the role"
        )
    return part.array


def staging_table_of_arrays(relation: Relation, *, vectors: bool) -> sql.Composed:
    """Returns the staging table as a common table expression over the arrays from ``$2`` on."""
    types = array_types(relation, vectors=vectors)
    arrays = [sql.SQL(f"${n}::{{}}").format(kind) for n, kind in enumerate(types, start=2)]
    columns = [sql.Identifier("vecfill_n"), *key_columns(relation), sql.Identifier("vecfill_hash")]
    shown: list[sql.Composable] = [*columns]
    if vectors and relation.table.vector.array is None:
        columns.append(sql.Identifier("vecfill_at"))
        shown.append(sql.SQL(_SLICE).format(numbers=arrays.pop(), dim=sql.Literal(relation.table.vector.dim)))
    elif vectors:
        columns.append(sql.Identifier("vecfill_embedding"))
        shown.append(columns[-1])
    return sql.SQL(_FROM_ARRAYS).format(
        shown=sql.SQL(", ").join(shown),
        arrays=sql.SQL(", ").join(sql.SQL("pg_catalog.unnest({})").format(array) for array in arrays),
        columns=sql.SQL(", ").join(columns),
    )


_FROM_ARRAYS = """vecfill_staging AS MATERIALIZED (
  SELECT {shown} FROM ROWS FROM ({arrays}) AS vecfill_arrays ({columns}))"""

_SLICE = """CASE WHEN vecfill_at IS NOT NULL THEN ({numbers})[
    vecfill_at OPERATOR(pg_catalog.+) 1 : vecfill_at OPERATOR(pg_catalog.+) {dim}] END AS vecfill_embedding"""


def with_staging_table(relation: Relation, query: sql.Composed) -> Query:
    """Returns a query about the staged rows that can run alone: with the arrays, where they are the staging table."""
    if not relation.access.arrays:
        return query
    return sql.SQL("WITH {}\n{}").format(staging_table_of_arrays(relation, vectors=False), query)


def staging_table(relation: Relation) -> sql.SQL:
    """Returns the name of the staging table in a statement."""
    return sql.SQL("vecfill_staging" if relation.access.arrays else "pg_temp.vecfill_staging")
