"""The transaction in which two columns exchange their names: a last look under the lock, then the renames."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.ledger.migrations import SWAPPED, Migration, exchange, phase_of, reach
from vecfill.migration.look import check_free
from vecfill.migration.obstacles import VIEW, Obstacle, obstacles_now
from vecfill.postgres.database import Cursor
from vecfill.postgres.exchange_sql import CONSTRAINTS, NEXT, OLD, exchange_constraints, exchange_indexes, rename_column
from vecfill.postgres.migrate_sql import INDEXES, suffixed
from vecfill.postgres.relation import Relation
from vecfill.postgres.tracking import Tracking


class QueuedError(ConfigError):
    """Changes are queued, so that some vectors would be those of older texts."""


@dataclass(frozen=True, kw_only=True)
class Cutover:
    """An exchange of names, one way or the other.

    Attributes:
        schema: of the ledger.
        migration: as it was found.
        relation: the table; its embedding column is the one that gives up the application's name.
        phase: ``swapped`` or ``rolled back``.
        recreate: drop views that use the column, and make them again.
        max_queued: the most changes that may be queued for the column that gets the name; None for any number.
    """

    schema: str
    migration: Migration
    relation: Relation
    phase: str
    recreate: bool
    max_queued: int | None

    @property
    def forward(self) -> bool:
        """Whether the new vectors get the application's name."""
        return self.phase == SWAPPED

    @property
    def name(self) -> str:
        """The application's name for the column."""
        return self.relation.table.vector.name

    @property
    def freed(self) -> str:
        """The name that the column gets which has the application's now."""
        return suffixed(self.name, OLD) if self.forward else self.migration.to_column

    @property
    def enters(self) -> str:
        """The column that gets the application's name."""
        return self.migration.new_column if self.forward else self.migration.old_column

    def statements(self, cursor: Cursor) -> list[sql.Composed]:
        """Looks once more under the lock, and returns the statements; none if the names are exchanged already.

        Raises:
            LeaseError: a run works on one of the two columns.
            QueuedError: more changes are queued than allowed.
            ConfigError: as ``plan``.
        """
        if self._is_done(cursor):
            return []
        for number in (self.migration.old_target, self.migration.new_target):
            check_free(cursor, self.schema, number, self.relation.table.label)
        self._check_queue(cursor)
        return self.plan(cursor)

    def plan(self, cursor: Cursor) -> list[sql.Composed]:
        """Returns the statements.

        Raises:
            ConfigError: another session has ended or exchanged it; other objects use the column.
        """
        self._check_unchanged(cursor)
        views = self.obstacles(cursor)
        rows = cursor.execute(INDEXES, (list(self.relation.table.tree),)).fetchall()
        own = {(index.table, index.name) for index in self.relation.table.indexes if index.on_column}
        constraints = self._constraints(cursor, self.name), self._constraints(cursor, self.enters)
        suffixes = (OLD, NEXT) if self.forward else (NEXT, OLD)
        old, new = (self.freed, self.name) if self.forward else (self.name, self.freed)
        return [
            *(_verbatim(view.before) for view in views),
            rename_column(self.relation, self.name, self.freed),
            rename_column(self.relation, self.enters, self.name),
            *exchange_indexes(rows, own, *suffixes),
            *exchange_constraints(self.relation, *constraints, *suffixes),
            *exchange(self.schema, self.migration, old, new),
            reach(self.schema, self.migration, self.phase),
            *(_verbatim(statement) for view in reversed(views) for statement in view.after),
        ]

    def _constraints(self, cursor: Cursor, column: str) -> list[str]:
        return [name for name, _ in cursor.execute(CONSTRAINTS, (self.relation.table.oid, column)).fetchall()]

    def obstacles(self, cursor: Cursor) -> tuple[Obstacle, ...]:
        """Returns the views to make again.

        Raises:
            ConfigError: other objects use the column.
        """
        found = obstacles_now(cursor, self.relation, self.name)
        views = tuple(one for one in found if one.kind == VIEW) if self.recreate else ()
        if others := [one.remedy for one in found if one not in views]:
            more = "" if self.recreate else "; or pass --views recreate for views"
            raise ConfigError(
                f"these use {self.relation.table.label}.{self.name} by its number, so they would go on with the "
                f"vectors that it has now: take them away first, and make them again afterwards: {' | '.join(others)}"
                f"{more}"
            )
        return views

    def _is_done(self, cursor: Cursor) -> bool:
        """Whether an attempt was committed whose answer was lost, or another session was faster."""
        found = phase_of(cursor, self.schema, self.migration.id)
        return found == self.phase != self.migration.phase

    def _check_unchanged(self, cursor: Cursor) -> None:
        query = sql.SQL(
            "SELECT old_column, new_column FROM {} WHERE id OPERATOR(pg_catalog.=) $1::pg_catalog.int4 "
            "AND ended IS NULL"
        ).format(sql.Identifier(self.schema, "migration"))
        row = cursor.execute(query, (self.migration.id,)).fetchone()
        if row != (self.migration.old_column, self.migration.new_column):
            raise ConfigError(
                f"another session has changed the migration of {self.relation.table.label} meanwhile: see `vecfill "
                "migrate status`"
            )

    def _check_queue(self, cursor: Cursor) -> None:
        if self.max_queued is None:
            return
        number = self.migration.new_target if self.forward else self.migration.old_target
        query = sql.SQL("SELECT pg_catalog.count(*) FROM (SELECT FROM {} LIMIT $1::pg_catalog.int8) AS vecfill_c")
        changes = Tracking.of(self.schema, number, ()).changes
        row = cursor.execute(query.format(changes), (self.max_queued + 1,)).fetchone()
        if row and row[0] > self.max_queued:
            raise QueuedError(
                f"changes of {self.relation.table.label} come faster than they are embedded, so more than "
                f"{self.max_queued} (--max-queued) were queued at each attempt: no column was renamed: try again when "
                "fewer come, or raise --lock-wait or --max-queued"
            )


def _verbatim(statement: str) -> sql.Composed:
    return sql.Composed([sql.SQL(statement)])
