"""What ``vecfill migrate start`` will do: checked and put together before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg import sql

from vecfill.backfill.checks import check_writable
from vecfill.config.migrate import MigrateOptions
from vecfill.config.target import Target
from vecfill.encode.model.fingerprint import Fingerprint
from vecfill.errors import ConfigError
from vecfill.ledger import layout_sql, migrations
from vecfill.ledger.completed_target import find_completed, need_tracked
from vecfill.ledger.migrations import find_migration
from vecfill.ledger.models import register_model
from vecfill.ledger.registry import condition_of, find_targets, ledger_version
from vecfill.ledger.waiting_indexes import check_none_waits
from vecfill.migration.carry_over import grants_of, properties_of
from vecfill.migration.column_rules import rules_of
from vecfill.migration.look import check_owner
from vecfill.migration.new_column import new_column
from vecfill.migration.obstacles import Obstacle, functions_of, obstacles_of
from vecfill.migration.start_forecast import StartForecast, forecast_start
from vecfill.migration.twins import plan_twins, without_twin
from vecfill.postgres.database import Connection, Cursor
from vecfill.postgres.introspect import inspect
from vecfill.postgres.migrate_sql import NewColumn, Twin, add_column
from vecfill.postgres.relation import Relation
from vecfill.postgres.tracking import Tracking
from vecfill.postgres.transaction import transaction
from vecfill.postgres.update_effects import listed_publications, update_effects
from vecfill.target_tracking import plan_tracking


@dataclass(frozen=True, kw_only=True)
class StartPlan:
    """The new column, the indexes that it will get, the statements, and what stands in the way later.

    Attributes:
        schema: of the ledger; ``condition`` is the ``where`` of the target.
        not_copied: what the old column has and the new one will not have, a sentence each.
        functions: functions whose bodies may name the old column.
        forecast: what it will cost.
        published: the publications that send the table's rows.
    """

    schema: str
    condition: str
    relation: Relation
    column: NewColumn
    twins: list[Twin]
    statements: list[sql.Composed]
    obstacles: tuple[Obstacle, ...]
    not_copied: tuple[str, ...]
    functions: tuple[str, ...]
    forecast: StartForecast
    published: tuple[str, ...]

    def work(self, cursor: Cursor) -> list[sql.Composed]:
        """Returns the statements; none if an attempt was committed whose answer was lost."""
        table, name = self.relation.table.oid, self.column.name
        found = find_migration(cursor, self.schema, table, name, self.condition)
        return [] if found and not found.ended else self.statements


def plan_start(
    connection: Connection, target: Target, own: Fingerprint, dim: int, options: MigrateOptions
) -> StartPlan:
    """Checks that the migration can work, and puts the statements together.

    Raises:
        ConfigError: it cannot.
    """
    target, relation = _old_column(connection, target)
    rules = rules_of(connection, relation, new_column(connection, relation, dim, options), zeros=target.zero_is_missing)
    column = rules.column
    twins = plan_twins(connection, relation, column)
    tracking = plan_tracking(connection, _with_new(relation, column), replace(target, column=column.name))
    upgrades = _upgrades(connection, relation, target)
    effects, listed = update_effects(connection, relation), listed_publications(connection, relation)
    return StartPlan(
        schema=target.state_schema,
        condition=condition_of(target),
        relation=relation,
        column=column,
        twins=twins,
        statements=[
            add_column(relation, column),
            *properties_of(connection, relation, column.name),
            *rules.checks,
            *upgrades,
            *tracking.statements,
            *grants_of(connection, relation.ledger, Tracking.of(target.state_schema, tracking.number, ())),
            register_model(target.state_schema, own.digest, own.name, own.recorded),
            migrations.begin(
                *(target.state_schema, relation, condition_of(target)),
                targets=(relation.ledger.id, tracking.number),
                new_column=column.name,
                digest=own.digest,
            ),
        ],
        obstacles=obstacles_of(connection, relation),
        not_copied=(*rules.left, *without_twin(relation), *_unpublished(listed, column)),
        functions=functions_of(connection, relation, target.state_schema),
        forecast=forecast_start(connection, relation, column, effects),
        published=tuple(name for name in effects.publications if name not in listed),
    )


def _old_column(connection: Connection, target: Target) -> tuple[Target, Relation]:
    """Returns the tracked target, with the text and key that the ledger knows, once this role may migrate it."""
    tracked = need_tracked(connection, target, "a migration")
    with transaction(connection, read_only=True) as cursor:
        check_none_waits(cursor, tracked.waiting)
    target, _ = find_completed(connection, target, tracked.relation)
    relation = replace(inspect(connection, target), tracking=tracked.relation.ledger)
    check_writable(relation)
    check_owner(connection, relation, target.state_schema)
    return target, relation


def _with_new(relation: Relation, column: NewColumn) -> Relation:
    """Returns the target as it will be, with the new column as its embedding column."""
    vector = replace(
        relation.table.vector,
        name=column.name,
        kind=column.kind,
        dim=column.dim,
        declared=True,
        not_null=column.not_null is not None,
    )
    names = (*relation.table.columns, column.name)
    return replace(relation, table=replace(relation.table, vector=vector, columns=names))


def _upgrades(connection: Connection, relation: Relation, target: Target) -> list[sql.Composed]:
    """Returns the statements that bring the ledger to this version.

    Raises:
        ConfigError: the column belongs to several tracked targets.
    """
    with transaction(connection, read_only=True) as cursor:
        version = ledger_version(cursor, target.state_schema) or 0
        others = set(find_targets(cursor, relation, target)) - {condition_of(target)}
    if others:
        raise ConfigError(
            f"{relation.table.label}.{relation.table.vector.name} is tracked with several conditions, also --where "
            f"{min(others) or '(none)'!r}, and a migration needs the column for itself: run `vecfill untrack` for the "
            "others first"
        )
    return list(layout_sql.upgrades(target.state_schema, version))


def _unpublished(listed: tuple[str, ...], column: NewColumn) -> list[str]:
    return [
        f"publication {name} sends a list of columns, without {column.name}: add it there if subscribers need it"
        for name in listed
    ]
