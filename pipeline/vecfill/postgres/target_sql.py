"""The statements that read the user's table, made from the introspected target. Pure: SQL text in, SQL text out.

Those that write are in ``landing``.

Functions and operators are schema-qualified, identifiers quoted, values parameters (``$1``). The user's ``where`` and
``set`` stand in brackets on their own lines. Names that the user's SQL could mistake for columns start ``vecfill_``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import LiteralString

from psycopg import sql

from vecfill.postgres.target import Relation

Query = sql.Composed


def target(relation: Relation) -> sql.Composed:
    """The target as it stands in FROM and UPDATE: without its children where it is no partitioned table."""
    return sql.SQL("{only}{name} AS {alias}").format(
        only=sql.SQL("ONLY " if relation.plain else ""), name=relation.name, alias=sql.Identifier(relation.alias)
    )


def column(relation: Relation, name: str) -> sql.Identifier:
    """A column of the target's row."""
    return sql.Identifier(relation.alias, name)


def embedding(relation: Relation) -> sql.Identifier:
    """The embedding column of the target's row."""
    return column(relation, relation.vector.name)


def where(relation: Relation) -> sql.Composed:
    """The user's condition on its own lines, or true."""
    return sql.SQL("(\n{}\n)").format(relation.where if relation.where is not None else sql.SQL("true"))


def eligible(relation: Relation) -> Query:
    """Condition: no vector yet, something to embed, and the user's ``where``."""
    return sql.SQL("({embedding} IS NULL AND NOT {blank} AND {where})").format(
        embedding=embedding(relation), blank=relation.blank, where=where(relation)
    )


def sample(relation: Relation, *, percent: float | None) -> Query:
    """Texts and vectors of up to ``$1`` rows that have both, from ``percent`` of the pages where given."""
    tablesample = sql.SQL("" if percent is None else " TABLESAMPLE SYSTEM ({})").format(
        *([] if percent is None else [percent])
    )
    return sql.SQL(
        "SELECT {text}, {embedding}::pg_catalog.float4[] FROM {source}{tablesample}\n"
        "WHERE {embedding} IS NOT NULL AND NOT {blank} LIMIT $1::pg_catalog.int8"
    ).format(
        text=relation.text,
        embedding=embedding(relation),
        source=target(relation),
        tablesample=tablesample,
        blank=relation.blank,
    )


def checks(relation: Relation, *, writing: bool = True) -> Iterator[tuple[str, Query]]:
    """Yields what each statement checks, and the statement: an EXPLAIN, which needs the same rights and runs nothing.

    Without ``writing`` they need no right but SELECT, and leave out what only a run uses.

    The user's SQL comes alone and as we use it: alone, ``true) or (true`` does not parse; in brackets on its own
    lines, ``true union select 1`` does not.
    """
    source = target(relation)
    if relation.where is not None:
        yield "--where", _explain("SELECT 1 FROM {} WHERE {}", source, relation.where)
        yield "--where", _explain("SELECT 1 FROM {} WHERE {}", source, where(relation))
    for name, expression in relation.assignments if writing else ():
        yield f"--set {name}", _explain("SELECT {} FROM {}", expression, source)
        yield f"--set {name}", _explain("UPDATE {} SET {} = (\n{}\n)", source, sql.Identifier(name), expression)
    key = [column(relation, part.name) for part in relation.key] if writing else []
    read = [relation.text, embedding(relation), column(relation, "ctid"), *key]
    yield "--text", _explain("SELECT {} FROM {} WHERE {}", sql.SQL(", ").join(read), source, eligible(relation))
    if writing:
        yield "--column", _explain("UPDATE {} SET {} = NULL", source, sql.Identifier(relation.vector.name))


def _explain(query: LiteralString, *parts: sql.Composable) -> Query:
    return sql.SQL("EXPLAIN {}").format(sql.SQL(query).format(*parts))
