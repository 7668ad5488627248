"""SQL fragments shared by all statements on the target. Pure: SQL text in, SQL text out.

Functions and operators are schema-qualified, identifiers quoted, values passed as parameters (``$1``). The user's
``where`` and ``set`` are in brackets on their own lines. Our own names start with ``vecfill_``, so that the user's SQL
cannot take them for columns.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from vecfill.postgres.relation import Relation

Query = sql.Composed


def target(relation: Relation) -> sql.Composed:
    """Returns the target for FROM and UPDATE; for a table that is not partitioned, without its children."""
    return sql.SQL("{only}{name} AS {alias}").format(
        only=sql.SQL("ONLY " if relation.table.plain else ""),
        name=relation.table.name,
        alias=sql.Identifier(relation.table.alias),
    )


def target_sample(relation: Relation, percent: float | None) -> sql.Composed:
    """Returns a random sample of the target's pages for FROM; all of them if ``percent`` is None."""
    if percent is None:
        return target(relation)
    return sql.SQL("{} TABLESAMPLE SYSTEM ({})").format(target(relation), sql.Literal(percent))


def column(relation: Relation, name: str) -> sql.Identifier:
    """Returns a column of the target's row."""
    return sql.Identifier(relation.table.alias, name)


def embedding(relation: Relation) -> sql.Identifier:
    """Returns the embedding column of the target's row."""
    return column(relation, relation.table.vector.name)


def key_text(relation: Relation) -> sql.Composed:
    """Returns the key as text, and of a row without a key its place."""
    return as_text([column(relation, part.name) for part in relation.table.key] or [column(relation, "ctid")])


def as_text(key: Sequence[sql.Composable]) -> sql.Composed:
    """Returns the columns of a key as text: that of the column alone, or of a row of several columns."""
    return sql.SQL("{}::pg_catalog.text" if len(key) == 1 else "ROW({})::pg_catalog.text").format(
        sql.SQL(", ").join(key)
    )


def numbers(relation: Relation) -> sql.Composed:
    """Returns the embedding as an array of numbers."""
    return sql.SQL("{}::{}").format(embedding(relation), relation.table.vector.numbers)


def is_zero(relation: Relation) -> sql.Composed:
    """Condition: the embedding is a placeholder, zeros or an empty array. False for NULL."""
    return sql.SQL("((0::pg_catalog.float8 OPERATOR(pg_catalog.=) ALL ({})) IS TRUE)").format(numbers(relation))


def where(relation: Relation) -> sql.Composed:
    """Returns the user's condition on its own lines, or true."""
    return sql.SQL("(\n{}\n)").format(
        relation.user_sql.where if relation.user_sql.where is not None else sql.SQL("true")
    )


def assignments(relation: Relation, vector: sql.Composable) -> sql.Composed:
    """Returns what an UPDATE sets: the embedding column, and the user's ``set``."""
    own = (relation.table.vector.name, vector)
    users = ((name, sql.SQL("(\n{}\n)").format(value)) for name, value in relation.user_sql.assignments)
    return sql.SQL(", ").join(sql.SQL("{} = {}").format(sql.Identifier(name), value) for name, value in (own, *users))
