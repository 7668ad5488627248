"""The statements of the checks before a run: EXPLAINs of its statements, and a sample of stored vectors. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import LiteralString

from psycopg import sql

from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.read_sql import leaf_source, within
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import UNKNOWN, Selection
from vecfill.postgres.target_sql import Query, column, embedding, numbers, target, target_sample, where


def sample(selection: Selection, relation: Relation, *, percent: float | None) -> Query:
    """Selects text and vector of up to ``$1`` filled rows with a text that ``where`` selects.

    ``percent`` limits it to a sample of the pages.
    """
    return _sample(relation, target_sample(relation, percent), _sampled(selection, relation))


def sample_part(selection: Selection, relation: Relation, leaf: Leaf, bounds: Sequence[str]) -> Query:
    """Selects the same from a leaf, within bounds of ``read_sql``, which have one parameter each."""
    condition = within(_sampled(selection, relation), relation, leaf, bounds, 2)
    return _sample(relation, leaf_source(leaf, relation, bounds, 2), condition)


def _sample(relation: Relation, source: sql.Composable, condition: sql.Composable) -> Query:
    return sql.SQL("SELECT {}, {} FROM {}\nWHERE {} LIMIT $1::pg_catalog.int8").format(
        relation.user_sql.text, numbers(relation), source, condition
    )


def _sampled(selection: Selection, relation: Relation) -> sql.Composed:
    return sql.SQL("{} IS NOT NULL AND {} AND NOT {} AND {}").format(
        embedding(relation), _to_sample(selection, relation), relation.user_sql.blank, where(relation)
    )


def _to_sample(selection: Selection, relation: Relation) -> sql.Composable:
    """Condition: nothing but a sample can tell which model made the row's vector."""
    if relation.tracking is None or selection.refresh is None:
        return sql.SQL("NOT {}").format(selection.open(relation))
    return sql.SQL("{} OPERATOR(pg_catalog.=) {}").format(selection.refresh(relation), sql.Literal(UNKNOWN))


def checks(selection: Selection, relation: Relation, *, writing: bool = True) -> Iterator[tuple[str, Query]]:
    """Yields the option to check and its statement: an EXPLAIN needs the same rights and runs nothing.

    Without ``writing`` the statements need SELECT only, and skip what only a run uses.

    Each user expression is checked twice, alone and as we embed it: alone, ``true) or (true`` does not parse; in
    brackets on its own lines, ``true union select 1`` does not.
    """
    source = target(relation)
    if relation.user_sql.where is not None:
        yield "--where", _explain("SELECT 1 FROM {} WHERE {}", source, relation.user_sql.where)
        yield "--where", _explain("SELECT 1 FROM {} WHERE {}", source, where(relation))
    if relation.user_sql.text_sql is not None:
        yield "--text-sql", _explain("SELECT CASE WHEN true THEN {} END FROM {}", relation.user_sql.text_sql, source)
    for name, expression in relation.user_sql.assignments if writing else ():
        yield f"--set {name}", _explain("SELECT {} FROM {}", expression, source)
        yield f"--set {name}", _explain("UPDATE {} SET {} = (\n{}\n)", source, sql.Identifier(name), expression)
    key = [column(relation, part.name) for part in relation.table.key] if writing else []
    read = [relation.user_sql.text, embedding(relation), column(relation, "ctid"), *key]
    yield (
        "--text",
        _explain("SELECT {} FROM {} WHERE {}", sql.SQL(", ").join(read), source, selection.eligible(relation)),
    )
    if writing:
        yield "--column", _explain("UPDATE {} SET {} = NULL", source, sql.Identifier(relation.table.vector.name))


def _explain(query: LiteralString, *parts: sql.Composable) -> Query:
    return sql.SQL("EXPLAIN {}").format(sql.SQL(query).format(*parts))
