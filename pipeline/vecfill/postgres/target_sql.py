"""The parts that all statements over the target are made of. Pure: SQL text in, SQL text out.

Functions and operators are schema-qualified, identifiers quoted, values parameters (``$1``). The user's ``where`` and
``set`` stand in brackets on their own lines. Names that the user's SQL could mistake for columns start ``vecfill_``.
"""

from __future__ import annotations

from psycopg import sql

from vecfill.postgres.relation import Relation

Query = sql.Composed


def target(relation: Relation) -> sql.Composed:
    """The target as it stands in FROM and UPDATE: without its children where it is no partitioned table."""
    return sql.SQL("{only}{name} AS {alias}").format(
        only=sql.SQL("ONLY " if relation.table.plain else ""),
        name=relation.table.name,
        alias=sql.Identifier(relation.table.alias),
    )


def column(relation: Relation, name: str) -> sql.Identifier:
    """A column of the target's row."""
    return sql.Identifier(relation.table.alias, name)


def embedding(relation: Relation) -> sql.Identifier:
    """The embedding column of the target's row."""
    return column(relation, relation.table.vector.name)


def where(relation: Relation) -> sql.Composed:
    """The user's condition on its own lines, or true."""
    return sql.SQL("(\n{}\n)").format(
        relation.user_sql.where if relation.user_sql.where is not None else sql.SQL("true")
    )
