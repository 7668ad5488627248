"""What goes with a column by its number: views, policies, generated columns, and other objects of the server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.obstacles_sql import MENDS, OBJECTS, VIEW_RIGHTS
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import transaction

VIEW = "view"


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """An object that uses a column, and goes on to use it whatever its name becomes.

    Attributes:
        kind: such as ``view`` or ``policy``.
        name: as the server writes it.
        before: the statement that takes it away.
        after: the statements that make it again, then for the column that has the name.
    """

    kind: str
    name: str
    before: str = ""
    after: tuple[str, ...] = ()

    @property
    def remedy(self) -> str:
        """What to do about it, in one line."""
        if not self.before:
            return f"{self.kind} {self.name}: drop it"
        again = " ".join("; ".join(self.after).split())
        return f"{self.kind} {self.name}: {self.before}; and afterwards {again}"


def obstacles_of(connection: Connection, relation: Relation) -> tuple[Obstacle, ...]:
    """Returns the objects that use the embedding column, but for its indexes and what tracking has made."""
    with transaction(connection, read_only=True) as cursor:
        return obstacles_now(cursor, relation, relation.table.vector.name)


def obstacles_now(cursor: Cursor, relation: Relation, column: str) -> tuple[Obstacle, ...]:
    """Returns the same for any column, in an open transaction."""
    return tuple(dict.fromkeys(_found(cursor, relation, column)))


def _found(cursor: Cursor, relation: Relation, column: str) -> Iterator[Obstacle]:
    for kind, oid, identity in cursor.execute(OBJECTS, (list(relation.table.tree), column)).fetchall():
        row = cursor.execute(MENDS[kind], (oid,)).fetchone() if kind in MENDS else None
        if row is None:
            yield Obstacle(kind=kind, name=identity)
            continue
        named, name, before, after, view = row
        rights = [right for (right,) in cursor.execute(VIEW_RIGHTS, (view,)).fetchall()] if view else []
        yield Obstacle(kind=named, name=name, before=before, after=(*after, *rights))
