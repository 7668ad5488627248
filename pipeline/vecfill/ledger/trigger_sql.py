"""The triggers that capture the changes of a target, as SQL for ``track`` to run or to print. Pure.

Their functions run with the rights of the role that tracks (SECURITY DEFINER), so that a role that edits the table
needs none. They have no SET clause, which would double the cost of an edit (``bench track``): every name in them is
schema-qualified, so the caller's ``search_path`` has no influence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import LiteralString

from psycopg import sql

from vecfill.postgres.relation import Relation
from vecfill.postgres.target_sql import is_zero
from vecfill.postgres.tracking import Tracking

TRIGGERS = ("insert", "edit", "open", "delete", "truncate")
"""Names of the triggers and of their functions."""


@dataclass(frozen=True, kw_only=True)
class Watched:
    """The columns whose changes concern a target.

    Attributes:
        text: the text reads them.
        where: ``where`` reads them.
        zeros: a vector of zeros may be a placeholder for a missing one.
        image: those of both, and of the key, whose ``=`` ignores differences that their text shows, such as ``numeric``
            or ``citext``.
    """

    text: tuple[str, ...]
    where: tuple[str, ...]
    zeros: bool = False
    image: frozenset[str] = frozenset()


def functions(relation: Relation, watched: Watched) -> Iterator[sql.Composed]:
    """Creates the functions of the triggers, one a trigger: a constant kind is cheaper than a trigger's argument."""
    for name, body in _BODIES.items():
        yield sql.SQL(
            "CREATE OR REPLACE FUNCTION {function}() RETURNS pg_catalog.trigger LANGUAGE plpgsql SECURITY DEFINER AS "
            "$vecfill$\nBEGIN\n{body}\n  RETURN NULL;\nEND $vecfill$"
        ).format(function=_function(relation.ledger, name), body=_body(relation, watched, body))


def drop_functions(tracking: Tracking) -> Iterator[sql.Composed]:
    """Drops the functions of the triggers."""
    for name in TRIGGERS:
        yield sql.SQL("DROP FUNCTION IF EXISTS {}()").format(_function(tracking, name))


def _function(tracking: Tracking, name: str) -> sql.Identifier:
    return sql.Identifier(tracking.schema, f"on_{name}_{tracking.id}")


def _body(relation: Relation, watched: Watched, body: LiteralString) -> sql.Composed:
    tracking = relation.ledger
    columns = [column for column, _ in tracking.key]
    return sql.SQL(body).format(
        changes=tracking.changes,
        columns=tracking.key_columns,
        new=_values("NEW", columns),
        old=_values("OLD", columns),
        moved=_moved(relation, watched.image),
    )


_BODIES: dict[str, LiteralString] = {
    "insert": "  INSERT INTO {changes} ({columns}, kind) VALUES ({new}, 'I');",
    "edit": """  INSERT INTO {changes} ({columns}, kind) VALUES ({new}, 'U');
  IF {moved} THEN
    INSERT INTO {changes} ({columns}, kind) VALUES ({old}, 'D');
  END IF;""",
    "open": "  INSERT INTO {changes} ({columns}, kind) VALUES ({new}, 'O');",
    "delete": "  INSERT INTO {changes} ({columns}, kind) VALUES ({old}, 'D');",
    "truncate": "  INSERT INTO {changes} (kind) VALUES ('T');",
}
"""Kinds of an entry: a new row (I), another text or key (U), a row without its vector or that ``where`` may select now
(O), a deleted row (D), a truncated table (T, without a key). A run adds rows to try again (R)."""


def triggers(relation: Relation, watched: Watched) -> Iterator[sql.Composed]:
    """Creates the triggers, new in place of those of an earlier ``track``: the next run then reads the table anew."""
    yield from drop_triggers(relation.ledger, relation.table.name)
    keys = tuple(column for column, _ in relation.ledger.key)
    edited = _differs(dict.fromkeys((*watched.text, *keys)), watched.image)
    vector = sql.Identifier(relation.table.vector.name)
    opened = sql.SQL(" OR ").join(
        [
            sql.SQL("NEW.{} IS NULL AND OLD.{} IS NOT NULL").format(vector, vector),
            *([_becomes_zero(relation)] if watched.zeros else []),
            *([_differs(watched.where, watched.image)] if watched.where else []),
        ]
    )
    yield _trigger(relation, "insert", "INSERT")
    yield _trigger(relation, "edit", "UPDATE", edited)
    yield _trigger(relation, "open", "UPDATE", opened)
    yield _trigger(relation, "delete", "DELETE")
    yield _trigger(relation, "truncate", "TRUNCATE")


def drop_triggers(tracking: Tracking, table: sql.Composable) -> Iterator[sql.Composed]:
    """Drops the triggers on a table."""
    for name in TRIGGERS:
        yield sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(trigger_name(tracking, name), table)


def trigger_name(tracking: Tracking, name: str) -> sql.Identifier:
    """Returns the name of a trigger."""
    return sql.Identifier(f"vecfill_{tracking.id}_{name}")


def _trigger(relation: Relation, name: str, event: LiteralString, when: sql.Composable | None = None) -> sql.Composed:
    return sql.SQL("CREATE TRIGGER {} AFTER {} ON {} FOR EACH {}{} EXECUTE FUNCTION {}()").format(
        trigger_name(relation.ledger, name),
        sql.SQL(event),
        relation.table.name,
        sql.SQL("STATEMENT" if event == "TRUNCATE" else "ROW"),
        sql.SQL(" WHEN ({})").format(when) if when else sql.SQL(""),
        _function(relation.ledger, name),
    )


def _values(row: LiteralString, columns: Iterable[str]) -> sql.Composed:
    """The columns of NEW or OLD."""
    return sql.SQL(", ").join(sql.SQL("{}.{}").format(sql.SQL(row), sql.Identifier(name)) for name in columns)


def _becomes_zero(relation: Relation) -> sql.Composed:
    new, old = (is_zero(replace(relation, table=replace(relation.table, alias=row))) for row in ("new", "old"))
    return sql.SQL("{} AND NOT {}").format(new, old)


def _differs(columns: Iterable[str], by_image: frozenset[str]) -> sql.Composed:
    """Condition of a trigger: an UPDATE changed one of these columns; those ``by_image`` are compared byte by byte.

    The server looks up the ``=`` of IS DISTINCT FROM by the ``search_path`` when the trigger is made.
    """
    names = list(columns)
    plain, exact = [name for name in names if name not in by_image], [name for name in names if name in by_image]
    parts = [sql.SQL("OLD.{} IS DISTINCT FROM NEW.{}").format(*[sql.Identifier(name)] * 2) for name in plain]
    return sql.SQL(" OR ").join([*parts, *_other_image(exact)])


def _moved(relation: Relation, by_image: frozenset[str]) -> sql.Composed:
    """Condition in a function: an UPDATE changed the key.

    Not by IS DISTINCT FROM: with a ``search_path`` of its own, a role that edits the table could put an ``=`` of its
    own in the place of the server's, which would run with the rights of the function's owner.
    """
    parts = [
        sql.SQL("NOT (OLD.{} {} NEW.{})").format(sql.Identifier(name), equals, sql.Identifier(name))
        for name, equals in relation.ledger.key
        if name not in by_image
    ]
    return sql.SQL(" OR ").join([*parts, *_other_image([name for name, _ in relation.ledger.key if name in by_image])])


def _other_image(columns: Sequence[str]) -> list[sql.Composed]:
    """The condition that the bytes of one of these columns differ; none without columns."""
    image = sql.SQL("ROW({})::pg_catalog.record OPERATOR(pg_catalog.*<>) ROW({})::pg_catalog.record")
    return [image.format(_values("OLD", columns), _values("NEW", columns))] if columns else []
