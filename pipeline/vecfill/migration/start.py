"""``vecfill migrate start``: adds the column for the new vectors and tracks it, in one transaction."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

from vecfill.config.migrate import MigrateOptions
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.encode.model.fingerprint import Fingerprint, fingerprint_of
from vecfill.encode.model.model_files import dimension_of
from vecfill.errors import ConfigError
from vecfill.migration.brief_lock import under_lock
from vecfill.migration.look import find
from vecfill.migration.obstacles import Obstacle
from vecfill.migration.start_forecast import StartForecast
from vecfill.migration.start_plan import StartPlan, plan_start
from vecfill.migration.step_options import UNASKED, StepOptions
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.index_sql import build_statements
from vecfill.postgres.introspect import inspect
from vecfill.postgres.session import open_session

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
        functions: functions whose bodies may name the old column: they follow the name.
        forecast: what it will cost; None if the migration had been started before.
        not_copied: what the old column has and the new one will not have, a sentence each.
        created: False if the migration had been started before.
    """

    table: str
    column: str
    new_column: str
    type: str
    ddl: tuple[str, ...]
    later: tuple[str, ...]
    obstacles: tuple[Obstacle, ...]
    not_copied: tuple[str, ...]
    functions: tuple[str, ...]
    forecast: StartForecast | None
    created: bool
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "exit_code"}


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
        if found := session.run(lambda connection: _started(connection, target, own, options)):
            return found
        plan = session.run(lambda connection: plan_start(connection, target, own, dim, options))
        if not step.dry_run:
            _confirm(plan, step)
            under_lock(session, plan.relation, step.locks, plan.work, verb="prepared for a migration")
        return _result(plan)


def _started(
    connection: Connection, target: Target, own: Fingerprint, options: MigrateOptions
) -> MigrationStarted | None:
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
    for flag, given, is_now in (
        ("--to-column", options.to_column, migration.to_column),
        ("--to-type", options.to_type, vector.kind),
    ):
        if given not in (None, is_now):
            raise ConfigError(
                f"{flag} {given}: the migration of {label}.{migration.old_column} was started with {is_now}: leave "
                f"{flag} out, or run `vecfill migrate abandon` first"
            )
    return MigrationStarted(
        table=label,
        column=migration.old_column,
        new_column=migration.new_column,
        type=f"{vector.kind}({vector.dim})" if vector.declared else vector.kind,
        ddl=(),
        later=(),
        obstacles=(),
        not_copied=(),
        functions=(),
        forecast=None,
        created=False,
    )


def _confirm(plan: StartPlan, step: StepOptions) -> None:
    """Says what the migration will cost, and asks where it costs much or others have to act first."""
    relation, column = plan.relation, plan.column
    label = relation.table.label
    for line in plan.forecast.lines(label):
        log.info("%s", line, extra={"target": label})
    if excess := plan.forecast.excess():
        step.confirm(excess)
    if plan.published:
        step.confirm(
            f"{label} is published by {', '.join(plan.published)}, and its subscribers stop at the first change of a "
            f"row that has column {column.name}, unless their table has it: add it there first"
        )


def _result(plan: StartPlan) -> MigrationStarted:
    column = plan.column
    return MigrationStarted(
        table=plan.relation.table.label,
        column=plan.relation.table.vector.name,
        new_column=column.name,
        type=column.kind if column.schema is None else f"{column.kind}({column.dim})",
        ddl=tuple(statement.as_string() for statement in plan.statements),
        later=tuple(statement.as_string() for statement in build_statements(plan.twins)),
        obstacles=plan.obstacles,
        not_copied=plan.not_copied,
        functions=plan.functions,
        forecast=plan.forecast,
        created=True,
    )
