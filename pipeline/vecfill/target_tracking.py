"""``vecfill track``: the ledger of a target, its tables and triggers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from psycopg import sql

from vecfill import adoption
from vecfill.adoption import Adoption
from vecfill.backfill.checks import check_sql, check_writable, settle_dimension
from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.errors import ConfigError
from vecfill.ledger import layout_sql, trigger_sql
from vecfill.ledger.ddl import execute, has_tables
from vecfill.ledger.key_types import KeyTypes, changed_types, retype
from vecfill.ledger.registry import TargetRow, condition_of, find_targets, ledger_version
from vecfill.ledger.trigger_sql import Watched
from vecfill.postgres.database import Connection, Cursor, Database
from vecfill.postgres.dependencies import Reads, base_columns, compared_by_image, reads
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.selection import selection_of
from vecfill.postgres.session import open_session
from vecfill.postgres.template import parse_template
from vecfill.postgres.tracking import Tracking
from vecfill.postgres.transaction import transaction


@dataclass(frozen=True, kw_only=True)
class TrackResult:
    """What ``track`` did, or with ``dry_run`` would do.

    Attributes:
        table: ``schema.table``.
        ddl: the statements, in order.
        grants: statements for each role that runs, with ``ROLE`` in place of its name.
        created: the target was not tracked before.
        changed: it was tracked with another text, key or set of triggers.
        beside: the ``--where`` of other tracked targets in the same column.
        elsewhere: other tables and functions that the text reads; their changes fire no trigger of this table.
        adopted: vectors of unknown origin that ``adopt`` took over; None without it.
    """

    table: str
    ddl: tuple[str, ...]
    grants: tuple[str, ...]
    created: bool
    changed: bool
    elsewhere: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    adopted: Adoption | None = None
    exit_code: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "exit_code"}


def track(
    target: Target,
    *,
    database: str | Database | None = None,
    triggers: bool = True,
    dry_run: bool = False,
    adopt: Model | None = None,
) -> TrackResult:
    """Makes the ledger of a target, or brings it up to date with the target's settings.

    Args:
        target: the table, its text and its embedding column.
        database: connection string; None takes libpq's environment.
        triggers: capture changes; without triggers each run compares every row with the ledger.
        dry_run: return the statements and run none.
        adopt: take existing vectors of unknown origin over as this model's, if a sample of them agrees.

    Raises:
        ConfigError: the target cannot be tracked as given; this role may not create the ledger or the triggers; the
            ledger is of a newer version.
        MixedModelsError: the model to adopt did not make the existing vectors; the target is tracked all the same.
        LeaseError: a run works on the target whose vectors are to be adopted.
    """
    if target.queue.table is not None:
        raise ConfigError(
            f"{target.table} takes its work from the queue table {target.queue.table}, which says "
            "what changes: leave the queue table out of the settings to track the target instead"
        )
    with open_session(database) as session:
        if adopt:
            session.run(lambda connection: settle_dimension(inspect(connection, target), adopt))
        made = session.run(lambda connection: _track(connection, target, triggers=triggers, dry_run=dry_run))
        return replace(made, adopted=adoption.adopt(session, target, adopt)) if adopt and not dry_run else made


def _track(connection: Connection, target: Target, *, triggers: bool, dry_run: bool) -> TrackResult:
    relation = inspect(connection, target)
    check_writable(relation)
    check_sql(connection, relation, selection_of(target), writing=False)
    planned = plan_tracking(connection, relation, target, triggers=triggers)
    if not dry_run:
        execute(connection, relation.table.label, planned.statements)
    return planned.result


@dataclass(frozen=True, kw_only=True)
class TrackingPlan:
    """What tracking a target takes.

    Attributes:
        number: the target's number in the ledger.
        statements: in order; one transaction runs them.
        result: what ``track`` returns once they have run.
    """

    number: int
    statements: list[sql.Composed]
    result: TrackResult


def plan_tracking(connection: Connection, relation: Relation, target: Target, *, triggers: bool = True) -> TrackingPlan:
    """Plans the tracking of a target, whose embedding column need not exist yet.

    Raises:
        ConfigError: the text reads a column that a write changes; this role may not create temporary objects.
    """
    text, where = _reads(connection, relation, target)
    key = [part.name for part in relation.table.key]
    _check_text(relation, target, text)
    with transaction(connection, read_only=True) as cursor:
        exists = ledger_version(cursor, target.state_schema) is not None
        others = find_targets(cursor, relation, target) if exists else {}
        found = others.pop(condition_of(target), None)
        number = found.id if found else _next_number(cursor, relation, target, exists=exists)
        relation = replace(relation, tracking=Tracking.of(target.state_schema, number, relation.table.key))
        watched = _watched(cursor, relation, target, text, where)
        retyped = changed_types(cursor, relation) if found else None
        kept = found is not None and found.key == key and has_tables(cursor, relation)
    row = {"text": target.text, "text_sql": target.text_sql, "key": key, "triggers": triggers}
    changed = found is not None and (found.settings != row or bool(retyped) or not kept)
    ddl = [
        *(() if exists else layout_sql.shared_tables(target.state_schema)),
        *_tables(relation, found, retyped, kept=kept),
        *trigger_sql.functions(relation, watched),
        *(
            trigger_sql.triggers(relation, watched)
            if triggers
            else trigger_sql.drop_triggers(relation.ledger, relation.table.name)
        ),
        _register(relation, target, row, anew=found is None, scan=found is None or changed),
    ]
    result = TrackResult(
        table=relation.table.label,
        ddl=tuple(statement.as_string() for statement in ddl),
        grants=tuple(one.as_string() for one in layout_sql.grants(relation, sql.SQL("ROLE"))),
        created=found is None,
        changed=changed,
        elsewhere=tuple(sorted({*text.relations, *text.functions})),
        beside=tuple(others),
    )
    return TrackingPlan(number=number, statements=ddl, result=result)


def _tables(
    relation: Relation, found: TargetRow | None, retyped: KeyTypes | None, *, kept: bool
) -> Iterator[sql.Composed]:
    """Creates the target's tables, new ones for another key; one of a wider type keeps them."""
    if kept and (retyped is None or retyped.widened):
        yield from retype(relation, retyped) if retyped else ()
        return
    if found is not None:
        yield from layout_sql.drop_tables(relation.ledger)
    yield from layout_sql.target_tables(relation)


def _reads(connection: Connection, relation: Relation, target: Target) -> tuple[Reads, Reads]:
    """What the text and ``where`` read."""
    if relation.user_sql.text_sql is not None:
        text = reads(connection, relation, "--text-sql", relation.user_sql.text)
    else:
        text = Reads(columns=parse_template(target.text or "", relation.table.columns).fields)
    where = relation.user_sql.where
    return text, reads(connection, relation, "--where", where) if where is not None else Reads()


def _check_text(relation: Relation, target: Target, text: Reads) -> None:
    for name in (relation.table.vector.name, *(name for name, _ in relation.user_sql.assignments)):
        if name in text.columns:
            raise ConfigError(
                f"--text-sql {target.text_sql!r} reads {name}, which a write changes, so every vector would be "
                "outdated at once: leave the column out"
            )


def _watched(cursor: Cursor, relation: Relation, target: Target, text: Reads, where: Reads) -> Watched:
    columns = base_columns(cursor, relation, text.columns), base_columns(cursor, relation, where.columns)
    vector = relation.table.vector.name
    conditions = tuple(name for name in columns[1] if name not in (*columns[0], vector))
    keys = tuple(part.name for part in relation.table.key)
    return Watched(
        text=columns[0],
        where=conditions,
        zeros=target.zero_is_missing or relation.table.vector.not_null,
        image=compared_by_image(cursor, relation, (*columns[0], *conditions, *keys)),
    )


def _next_number(cursor: Cursor, relation: Relation, target: Target, *, exists: bool) -> int:
    """Returns a number that is free in this ledger, and in the names of the triggers that other ledgers have here."""
    ids = sql.SQL("SELECT id FROM {}").format(sql.Identifier(target.state_schema, "target"))
    query = sql.SQL(_LAST_NUMBER).format(ids if exists else sql.SQL("SELECT 0"))
    row = cursor.execute(query, (list(relation.table.tree),)).fetchone()
    return int(row[0]) + 1 if row else 1


_LAST_NUMBER = """
SELECT COALESCE(pg_catalog.max(n), 0) FROM ({} UNION ALL
  SELECT (pg_catalog.regexp_match(tgname::pg_catalog.text, '^vecfill_([0-9]{{1,9}})_'))[1]::pg_catalog.int4
  FROM pg_catalog.pg_trigger WHERE tgrelid OPERATOR(pg_catalog.=) ANY ($1::pg_catalog.oid[])) AS vecfill_n (n)
"""


def _register(relation: Relation, target: Target, row: dict[str, Any], *, anew: bool, scan: bool) -> sql.Composed:
    """The target's row; ``scan`` ends the run in progress, and has the next one read the table as a whole."""
    tracking = relation.ledger
    if anew:
        return sql.SQL(
            "INSERT INTO {} (id, relation, embedding, condition, text, text_sql, key, triggers) "
            "VALUES ({}, {}::pg_catalog.regclass, {}, {}, {}, {}, {}, {})"
        ).format(
            tracking.targets,
            sql.Literal(tracking.id),
            sql.Literal(relation.table.name.as_string()),
            sql.Literal(relation.table.vector.name),
            sql.Literal(condition_of(target)),
            *map(sql.Literal, row.values()),
        )
    return sql.SQL(
        "UPDATE {} SET text = {}, text_sql = {}, key = {}, triggers = {}{} WHERE id OPERATOR(pg_catalog.=) {}"
    ).format(
        tracking.targets,
        *map(sql.Literal, row.values()),
        sql.SQL(", scanned = '{{}}', holder = NULL" if scan else "").format(),
        sql.Literal(tracking.id),
    )
