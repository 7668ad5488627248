"""Migrations of tracked targets to another model: one row each, and a row for each phase that it has reached."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql

from vecfill.errors import ConfigError
from vecfill.ledger.layout_sql import SINCE_MIGRATIONS
from vecfill.ledger.registry import ledger_version
from vecfill.postgres.database import Cursor
from vecfill.postgres.relation import Relation

STARTED, FILLED, INDEXED = "started", "filled", "indexed"
"""The new column exists and is tracked; every row has its vector; the indexes exist."""

SWAPPED, ROLLED_BACK = "swapped", "rolled back"
"""The application's column carries the new vectors; the old ones again."""

FINISHED, ABANDONED = "finished", "abandoned"
"""The old column is gone; the new one is."""


@dataclass(frozen=True, kw_only=True)
class Migration:
    """A migration as the ledger has it.

    Attributes:
        old_target, new_target: numbers of the targets of the two columns.
        old_column, new_column: their names now.
        to_column: name of the new column while the old one has the application's.
        model: number of the new model; ``model_name`` is its name.
        phases: name and time of each phase, in the order in which they were reached.
        ended: it was finished or abandoned.
    """

    id: int
    old_target: int
    new_target: int
    old_column: str
    new_column: str
    to_column: str
    model: int
    model_name: str
    ended: bool
    phases: tuple[tuple[str, datetime], ...]

    @property
    def phase(self) -> str:
        """The last phase that it has reached."""
        return self.phases[-1][0]

    @property
    def kept(self) -> str:
        """The column that stays when it has ended."""
        return self.old_column if self.phase == ABANDONED else self.new_column


def find_migration(cursor: Cursor, schema: str, table: int, column: str, condition: str) -> Migration | None:
    """Returns the migration of a column: the one in progress, else the last one that ended; None if there is none.

    Args:
        cursor: in a transaction.
        schema: of the ledger.
        table: its oid.
        column: the old column or the new one.
        condition: the ``where`` of the target.
    """
    if (ledger_version(cursor, schema) or 0) < SINCE_MIGRATIONS:
        return None
    query = sql.SQL(_FIND).format(*(sql.Identifier(schema, name) for name in ("migration", "model")))
    row = cursor.execute(query, (table, condition, column)).fetchone()
    if row is None:
        return None
    query = sql.SQL(_PHASES).format(sql.Identifier(schema, "migration_phase"))
    phases = cursor.execute(query, (row[0],)).fetchall()
    fields = dict(zip(Migration.__dataclass_fields__, row, strict=False))
    return Migration(**fields, phases=tuple(phases))


_FIND = """
SELECT g.id, g.old_target, g.new_target, g.old_column, g.new_column, g.to_column, g.model, m.name, g.ended IS NOT NULL
FROM {} AS g JOIN {} AS m ON m.id OPERATOR(pg_catalog.=) g.model
WHERE g.relation::pg_catalog.oid OPERATOR(pg_catalog.=) $1::pg_catalog.oid
  AND g.condition OPERATOR(pg_catalog.=) $2::pg_catalog.text
  AND $3::pg_catalog.text OPERATOR(pg_catalog.=) ANY (ARRAY[g.old_column, g.new_column])
ORDER BY g.ended IS NOT NULL, g.id DESC LIMIT 1
"""

_PHASES = "SELECT phase, at FROM {} WHERE migration OPERATOR(pg_catalog.=) $1::pg_catalog.int4 ORDER BY id"


def phase_of(cursor: Cursor, schema: str, number: int) -> str | None:
    """Returns the last phase that a migration has reached; None if there is no such migration."""
    query = sql.SQL(_PHASES).format(sql.Identifier(schema, "migration_phase"))
    phases = cursor.execute(query, (number,)).fetchall()
    return phases[-1][0] if phases else None


def check_no_migration(cursor: Cursor, schema: str, number: int) -> None:
    """Checks that no migration in progress needs a target.

    Raises:
        ConfigError: one does.
    """
    if (ledger_version(cursor, schema) or 0) < SINCE_MIGRATIONS:
        return
    query = sql.SQL(_NEEDED).format(sql.Identifier(schema, "migration"))
    if row := cursor.execute(query, (number,)).fetchone():
        raise ConfigError(
            f"a migration from column {row[0]} to {row[1]} is in progress: end it by `vecfill migrate finish` or "
            "`vecfill migrate abandon` first"
        )


_NEEDED = """
SELECT old_column, new_column FROM {} WHERE ended IS NULL
  AND $1::pg_catalog.int4 OPERATOR(pg_catalog.=) ANY (ARRAY[old_target, new_target])
"""


def begin(
    schema: str, relation: Relation, condition: str, *, targets: tuple[int, int], new_column: str, digest: str
) -> sql.Composed:
    """Notes a new migration.

    Args:
        schema: of the ledger.
        relation: the table, with the old column as its embedding column.
        condition: the ``where`` of the target.
        targets: numbers of the old and the new target.
        new_column: its name.
        digest: of the new model's fingerprint; the ledger knows the model.
    """
    return sql.SQL(_BEGIN).format(
        sql.Identifier(schema, "migration"),
        sql.Literal(relation.table.name.as_string()),
        *map(sql.Literal, (condition, *targets, relation.table.vector.name, new_column, new_column)),
        sql.Identifier(schema, "model"),
        sql.Literal(digest),
        sql.Identifier(schema, "migration_phase"),
        sql.Literal(STARTED),
    )


_BEGIN = """
WITH vecfill_m AS (
  INSERT INTO {} (relation, condition, old_target, new_target, old_column, new_column, to_column, model)
  VALUES ({}::pg_catalog.regclass, {}, {}, {}, {}, {}, {},
    (SELECT id FROM {} WHERE fingerprint OPERATOR(pg_catalog.=) {})) RETURNING id)
INSERT INTO {} (migration, phase) SELECT id, {} FROM vecfill_m
"""


def reach(schema: str, migration: Migration, phase: str) -> sql.Composed:
    """Notes that a migration has reached a phase, once if it is repeated."""
    table, number, name = sql.Identifier(schema, "migration_phase"), sql.Literal(migration.id), sql.Literal(phase)
    return sql.SQL(_REACH).format(table, number, name, name, table, number)


_REACH = """
INSERT INTO {} (migration, phase) SELECT {}::pg_catalog.int4, {}::pg_catalog.text
WHERE {}::pg_catalog.text IS DISTINCT FROM (
  SELECT phase FROM {} WHERE migration OPERATOR(pg_catalog.=) {}::pg_catalog.int4 ORDER BY id DESC LIMIT 1)
"""


def exchange(schema: str, migration: Migration, old_column: str, new_column: str) -> Iterator[sql.Composed]:
    """Notes the new names of the two columns; a run that is at work on one of them can write nothing more."""
    targets = [(migration.old_target, old_column), (migration.new_target, new_column)]
    if new_column == migration.to_column:
        targets.reverse()  # the column with the application's name gives it up first
    for number, column in targets:
        yield sql.SQL("UPDATE {} SET embedding = {}, holder = NULL WHERE id OPERATOR(pg_catalog.=) {}").format(
            sql.Identifier(schema, "target"), *map(sql.Literal, (column, number))
        )
    yield sql.SQL("UPDATE {} SET old_column = {}, new_column = {} WHERE id OPERATOR(pg_catalog.=) {}").format(
        sql.Identifier(schema, "migration"), *map(sql.Literal, (old_column, new_column, migration.id))
    )


def end(schema: str, migration: Migration) -> sql.Composed:
    """Notes that a migration has ended."""
    return sql.SQL("UPDATE {} SET ended = pg_catalog.clock_timestamp() WHERE id OPERATOR(pg_catalog.=) {}").format(
        sql.Identifier(schema, "migration"), sql.Literal(migration.id)
    )
