"""The target as it is now: another session may change its partitions, columns or rights at any time during a run."""

from __future__ import annotations

import logging
from dataclasses import replace

from vecfill.backfill import checks
from vecfill.backfill.prepared import Prepared
from vecfill.errors import ConfigError
from vecfill.interruptible import Stopped
from vecfill.postgres.database import Connection
from vecfill.postgres.introspect import inspect
from vecfill.postgres.queue_introspect import check_queue_table, with_queue_table
from vecfill.postgres.relation import Relation, with_dimension
from vecfill.postgres.row_security import check_visible
from vecfill.write.sink import TableSink

log = logging.getLogger(__name__)


def look_again(prepared: Prepared, *, thorough: bool, stopped: Stopped) -> Prepared:
    """Returns the run with the target as it is now; the same object if nothing changed that its statements are made of.

    Args:
        prepared: a run with a job.
        thorough: also check the rights and the statements: something failed.
        stopped: whether to stop looking.

    Raises:
        ConfigError: the target changed, and this run's rows and vectors do not fit it any more.
        StoppedError: ``stopped`` became true.
        TableLockedError, ServerGoneError, SecretError: as ``Session.run``.
    """
    held = prepared.relation
    now = prepared.source.session.run(lambda connection: _inspected(connection, prepared, thorough), stopped=stopped)
    if lasting(now) == lasting(held):
        return prepared
    label, change = held.table.label, _difference(held, now)
    log.warning(
        "%s changed during the run (%s): continuing with the table as it is now",
        *(label, change or "its columns, indexes, triggers or rights"),
        extra={"target": label},
    )
    job = prepared.job
    assert job is not None  # noqa: S101
    assert isinstance(job.sink, TableSink)  # noqa: S101
    source = prepared.source.at(now)
    sink = replace(job.sink, relation=source.relation)
    return replace(prepared, relation=now, source=source, job=replace(job, source=source, sink=sink))


def _inspected(connection: Connection, prepared: Prepared, thorough: bool) -> Relation:
    held, selection = prepared.relation, prepared.source.selection
    try:
        now = replace(inspect(connection, replace(prepared.target, dim=None)), tracking=held.tracking, queue=held.queue)
        if not now.table.vector.declared and held.table.vector.dim:
            now = with_dimension(now, held.table.vector.dim)
        _check_fits(held, now)
        if now.access.policies and not held.access.policies:
            check_visible(connection, now)
        if thorough:
            check_queue_table(connection, with_queue_table(connection, now, prepared.target))
            checks.check_sql(connection, now, selection)
            checks.check_write(connection, now, selection)
    except ConfigError as error:
        raise ConfigError(f"{held.table.label} changed during the run: {error}") from error
    return now


def _check_fits(held: Relation, now: Relation) -> None:
    """Checks that rows read before can be written now, with the vectors that this run makes.

    Raises:
        ConfigError: they cannot.
    """
    if now.table.oid != held.table.oid:
        raise ConfigError("another table has this name now: run again to fill that one")
    if now.table.key != held.table.key:
        before, after = (", ".join(key.name for key in one.table.key) for one in (held, now))
        what = "has another type than at the start" if before == after else f"takes the place of ({before})"
        raise ConfigError(f"the key ({after}) {what}: run again to use it")
    before_dim, vector = held.table.vector.dim, now.table.vector
    if vector.dim != before_dim:
        raise ConfigError(
            f"{vector.name} is {vector.kind}({vector.dim}) and this run makes vectors of {before_dim} dimensions: "
            "choose another model or column, or set --truncate-dim"
        )


def lasting(relation: Relation) -> Relation:
    """The relation without sizes, which change with every write."""
    table = relation.table
    leaves = tuple(replace(leaf, pages=0) for leaf in table.leaves)
    indexes = tuple(replace(index, bytes=0) for index in table.indexes)
    return replace(relation, table=replace(table, leaves=leaves, indexes=indexes))


def _difference(held: Relation, now: Relation) -> str:
    """The partitions that came and went, and the new type of the embedding column; empty for another change."""
    before, after = ({leaf.name.as_string() for leaf in one.table.leaves} for one in (held, now))
    parts = [f"without {name}" for name in sorted(before - after)] + [f"with {name}" for name in sorted(after - before)]
    if now.table.vector != held.table.vector:
        parts.append(f"{now.table.vector.name} is {now.table.vector.kind} now")
    return ", ".join(parts)
