"""``vecfill migrate start``: adds the column for the new vectors and tracks it, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from psycopg import sql

from vecfill.backfill.checks import check_writable
from vecfill.backfill.forecast import size, vector_bytes
from vecfill.config.migrate import MigrateOptions
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.encode.fingerprint import Fingerprint, fingerprint_of
from vecfill.encode.model_files import dimension_of
from vecfill.errors import ConfigError
from vecfill.ledger import layout_sql, migrations
from vecfill.ledger.completed_target import find_completed, need_tracked
from vecfill.ledger.models import register_model
from vecfill.ledger.registry import condition_of, find_targets, ledger_version
from vecfill.migration.brief_lock import under_lock
from vecfill.migration.carry_over import grants_of, properties_of
from vecfill.migration.look import check_owner, find
from vecfill.migration.new_column import new_column
from vecfill.migration.obstacles import Obstacle, obstacles_of
from vecfill.migration.step_options import UNASKED, StepOptions
from vecfill.migration.twins import plan_twins
from vecfill.postgres.database import Connection, Cursor, Database
from vecfill.postgres.index_sql import build_statements
from vecfill.postgres.introspect import inspect
from vecfill.postgres.migrate_sql import NewColumn, Twin, add_column
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import open_session, transaction
from vecfill.postgres.tracking import Tracking
from vecfill.postgres.update_effects import update_effects
from vecfill.target_tracking import plan_tracking

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class MigrationStarted:
    """What ``migrate start`` did, or with ``dry_run`` would do.

    Attributes:
        table: ``schema.table``.
        column: the old column; ``new_column`` the new one, of ``type``.
        ddl: the statements, in order.
        later: the statements that ``migrate run`` will build indexes with.
        obstacles: what else uses the old column.
        created: False if the migration had been started before.
    """

    table: str
    column: str
    new_column: str
    type: str
    ddl: tuple[str, ...]
    later: tuple[str, ...]
    obstacles: tuple[Obstacle, ...]
    created: bool
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "exit_code"}


@dataclass(frozen=True, kw_only=True)
class _Plan:
    relation: Relation
    column: NewColumn
    twins: list[Twin]
    statements: list[sql.Composed]
    obstacles: tuple[Obstacle, ...]
    published: tuple[str, ...]


def start_migration(
    target: Target,
    model: Model,
    *,
    database: str | Database | None = None,
    options: MigrateOptions | None = None,
    step: StepOptions = UNASKED,
) -> MigrationStarted:
    """Adds a column for the new model's vectors to a tracked target; from then on both columns can be kept fresh.

    Args:
        target: the tracked target, with its old column; ``dim`` is that of the new vectors.
        model: the new model.
        database: connection string; None takes libpq's environment.
        options: the new column; None takes the defaults.
        step: how long to wait for the table, and whether to go ahead.

    Raises:
        ConfigError: the target is not tracked; the migration cannot work as given; consent was refused.
        TableLockedError: the table stayed locked.
    """
    options = options or MigrateOptions()
    own, dim = fingerprint_of(model), dimension_of(model) or target.dim
    if dim is None:
        raise ConfigError(f"model {model.name} does not declare its dimension: pass --dim")
    target = replace(target, dim=None)
    with open_session(database) as session:
        if found := session.run(lambda connection: _started(connection, target, own)):
            return found
        plan = session.run(lambda connection: _plan(connection, target, own, dim, options))
        if not step.dry_run:
            _confirm(plan, step)
            work: Callable[[Cursor], list[sql.Composed]] = lambda _: plan.statements  # noqa: E731
            under_lock(session, plan.relation, step.locks, work, verb="prepared for a migration")
        return _result(plan)


def _started(connection: Connection, target: Target, own: Fingerprint) -> MigrationStarted | None:
    """What was started before, perhaps by a command that was killed before it could tell."""
    found = find(connection, target)
    if found is None or found.migration.ended:
        return None
    migration, label = found.migration, found.relation.table.label
    if own.digest != found.digest:
        raise ConfigError(
            f"{label}.{migration.old_column} is being migrated to {migration.model_name}, and this is {own.name}: "
            "choose the same model with the same settings, or run `vecfill migrate abandon` first"
        )
    column = inspect(connection, replace(target, column=migration.new_column), text_needed=False, key_needed=False)
    vector = column.table.vector
    return MigrationStarted(
        table=label,
        column=migration.old_column,
        new_column=migration.new_column,
        type=f"{vector.kind}({vector.dim})" if vector.declared else vector.kind,
        ddl=(),
        later=(),
        obstacles=(),
        created=False,
    )


def _plan(connection: Connection, target: Target, own: Fingerprint, dim: int, options: MigrateOptions) -> _Plan:
    tracked = need_tracked(connection, target, "a migration")
    target, _ = find_completed(connection, target, tracked.relation)
    relation = replace(inspect(connection, target), tracking=tracked.relation.ledger)
    check_writable(relation)
    check_owner(connection, relation, target.state_schema)
    column = new_column(connection, relation, dim, options)
    twins = plan_twins(connection, relation, column)
    vector = replace(relation.table.vector, name=column.name, kind=column.kind, dim=dim, declared=True, not_null=False)
    names = (*relation.table.columns, column.name)
    ahead = replace(relation, table=replace(relation.table, vector=vector, columns=names))
    tracking = plan_tracking(connection, ahead, replace(target, column=column.name))
    schema, condition = target.state_schema, condition_of(target)
    with transaction(connection, read_only=True) as cursor:
        version = ledger_version(cursor, schema) or 0
        others = set(find_targets(cursor, relation, target)) - {condition}
    if others:
        raise ConfigError(
            f"{relation.table.label}.{relation.table.vector.name} is tracked with several conditions, also --where "
            f"{min(others) or '(none)'!r}, and a migration needs the column for itself: run `vecfill untrack` for the "
            "others first"
        )
    begin = migrations.begin(
        *(schema, relation, condition),
        targets=(relation.ledger.id, tracking.number),
        new_column=column.name,
        digest=own.digest,
    )
    return _Plan(
        relation=relation,
        column=column,
        twins=twins,
        statements=[
            add_column(relation, column),
            *properties_of(connection, relation, column.name),
            *layout_sql.upgrades(schema, version),
            *tracking.statements,
            *grants_of(connection, relation.ledger, Tracking.of(schema, tracking.number, ())),
            register_model(schema, own.digest, own.name, own.recorded),
            begin,
        ],
        obstacles=obstacles_of(connection, relation),
        published=update_effects(connection, relation).publications,
    )


def _confirm(plan: _Plan, step: StepOptions) -> None:
    """Says what the migration will cost, and asks where others have to act first."""
    relation, column = plan.relation, plan.column
    label = relation.table.label
    vector = replace(relation.table.vector, kind=column.kind, dim=column.dim)
    pages = sum(leaf.pages for leaf in relation.table.leaves)
    indexes = sum(index.bytes for index in relation.table.indexes if index.is_for_vectors)
    share = column.dim / (relation.table.vector.dim or column.dim)
    log.info(
        "%s: each row gets %s for the new vector beside the old, and is written anew: the table, now %s, grows by that "
        "and its old row versions; the new indexes take up to %s; the server does not tell how much disk is free",
        *(label, size(vector_bytes(vector)), size(pages * relation.access.server.block_bytes)),
        size(int(indexes * share)),
        extra={"target": label},
    )
    if plan.published:
        step.confirm(
            f"{label} is published by {', '.join(plan.published)}, and its subscribers stop at the first change of a "
            f"row that has column {column.name}, unless their table has it: add it there first"
        )


def _result(plan: _Plan) -> MigrationStarted:
    column = plan.column
    return MigrationStarted(
        table=plan.relation.table.label,
        column=plan.relation.table.vector.name,
        new_column=column.name,
        type=column.kind if column.schema is None else f"{column.kind}({column.dim})",
        ddl=tuple(statement.as_string() for statement in plan.statements),
        later=tuple(statement.as_string() for statement in build_statements(plan.twins)),
        obstacles=plan.obstacles,
        created=True,
    )
