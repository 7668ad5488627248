"""What goes with a column by its number: views, policies, generated columns, and other objects of the server."""

from __future__ import annotations

import re
from dataclasses import dataclass

from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.obstacles_sql import FUNCTIONS, MENDS, OBJECTS, USERS_OF_VIEW, VIEW_EXTRAS
from vecfill.postgres.relation import Relation
from vecfill.postgres.transaction import transaction

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


def functions_of(connection: Connection, relation: Relation, ledger: str) -> tuple[str, ...]:
    """Returns the functions whose bodies may name the embedding column, by a search of their text."""
    word = f"(^|[^[:alnum:]_$]){re.escape(relation.table.vector.name)}($|[^[:alnum:]_$])"
    with transaction(connection, read_only=True) as cursor:
        rows = cursor.execute(FUNCTIONS, (ledger, word)).fetchall()
    return tuple(name for (name,) in rows)


def obstacles_now(cursor: Cursor, relation: Relation, column: str) -> tuple[Obstacle, ...]:
    """Returns the same for any column, in an open transaction, and in the order in which they can be taken away."""
    found = dict[int, Obstacle]()
    for kind, oid, identity in cursor.execute(OBJECTS, (list(relation.table.tree), column)).fetchall():
        _find(cursor, kind, oid, identity, found)
    return tuple(dict.fromkeys(found.values()))


def _find(cursor: Cursor, kind: str, oid: int, identity: str, found: dict[int, Obstacle]) -> None:
    """Adds an object, after all that uses it if it is a view."""
    if oid in found:
        return
    row = cursor.execute(MENDS[kind], (oid,)).fetchone() if kind in MENDS else None
    if row is None:
        found[oid] = Obstacle(kind=kind, name=identity)
        return
    named, name, before, after, view = row
    extras = list[str]()
    if view:
        for its_kind, its_oid, its_identity in cursor.execute(USERS_OF_VIEW, (view,)).fetchall():
            _find(cursor, its_kind, its_oid, its_identity, found)
        extras = [statement for (statement,) in cursor.execute(VIEW_EXTRAS, (view,)).fetchall()]
    found[oid] = Obstacle(kind=named, name=name, before=before, after=(*after, *extras))
