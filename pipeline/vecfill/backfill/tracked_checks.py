"""Checks that only concern tracked targets: what may be selected, whose vectors there are, which triggers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg import sql

from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.config.target import Target
from vecfill.encode.model.fingerprint import fingerprint_of, same_space
from vecfill.errors import ConfigError, DatabaseError, MixedModelsError, PartialRunError
from vecfill.ledger.layout_sql import rights_to_run
from vecfill.ledger.models import NOT_REGISTERED, other_models, writers
from vecfill.ledger.registry import Tracked
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import Session, open_session
from vecfill.postgres.transaction import transaction
from vecfill.read.source import TableSource
from vecfill.read.survey import Coverage, Survey

log = logging.getLogger(__name__)

MAX_CHANGED_SHARE, MIN_CHANGED = 0.2, 1_000
"""Share of the vectors whose text changed above which a run needs confirmation, if they are as many: a mistaken UPDATE,
or a template that reads a counter, changes most rows at once."""


def check_select(relation: Relation, tracked: Tracked | None, options: RunOptions) -> None:
    """Checks that the target can tell the rows that ``--select`` and ``--audit`` ask for.

    Raises:
        ConfigError: they need a tracked target.
    """
    if tracked is not None:
        return
    wanted = [
        *([f"--select {options.select}"] if options.select in ("changed", "all") else []),
        *(["--audit"] if options.audit else []),
    ]
    if wanted:
        raise ConfigError(
            f"{wanted[0]} needs a tracked target, and {relation.table.label} is not tracked, so nothing tells which "
            "text and model a vector came from: run `vecfill track` with the same options first"
        )


def check_one_queue(tracked: Tracked | None, target: Target) -> None:
    """Checks that nothing else than the queue of changes names the rows of a tracked target.

    Raises:
        ConfigError: a queue table does too.
    """
    if tracked is not None and target.queue.table is not None:
        raise ConfigError(
            f"{tracked.relation.table.label} is tracked, so its own queue of changes names the rows to embed: leave "
            f"out --queue-table {target.queue.table}, or run `vecfill untrack`"
        )


def check_rights(connection: Connection, relation: Relation) -> None:
    """Checks that the ledger has the tables of vectors, and that this role may do all that a run does in it.

    A run goes on without a table to record it in.

    Raises:
        ConfigError: a table or a right is missing.
    """
    wanted = [(table.as_string(), right) for table, rights in rights_to_run(relation) for right in rights]
    with transaction(connection, read_only=True) as cursor:
        lacking = cursor.execute(_LACKING, tuple(map(list, zip(*wanted, strict=True)))).fetchall()
    runs = sql.Identifier(relation.ledger.schema, "run").as_string()
    if gone := dict.fromkeys(table for table, _, exists in lacking if not exists and table != runs):
        raise ConfigError(
            f"{relation.table.label} is tracked, but somebody dropped {', '.join(gone)} of the ledger: run `vecfill "
            "untrack`, then `vecfill track`"
        )
    if grants := [f"GRANT {right} ON {table} TO" for table, right, exists in lacking if exists]:
        role = sql.Identifier(relation.access.server.role).as_string()
        raise ConfigError(
            f"{relation.table.label} is tracked, and this role lacks rights on the ledger: "
            + "; ".join(f"{grant} {role}" for grant in grants)
        )


_LACKING = """
SELECT name, privilege, pg_catalog.to_regclass(name) IS NOT NULL
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[]))
  AS wanted (name, privilege)
WHERE CASE WHEN pg_catalog.to_regclass(name) IS NULL THEN true
  ELSE NOT pg_catalog.has_table_privilege(name, privilege) END
"""


def warn_not_watched(tracked: Tracked) -> None:
    """Warns if triggers of tracking are gone or disabled."""
    if not tracked.watched:
        log.warning(
            "triggers of tracking on %s are missing or disabled, so every row is compared with the ledger: run "
            "`vecfill track` again",
            tracked.relation.table.label,
            extra={"target": tracked.relation.table.label},
        )


def check_models(
    connection: Connection,
    tracked: Tracked,
    source: TableSource,
    found: Survey,
    *,
    model: Model,
    options: RunOptions,
    note: Callable[[Connection, Tracked, Mapping[str, int]], None],
) -> None:
    """Checks that no other model's vectors stay beside those of this run; calls ``note`` if it will write.

    Raises:
        MixedModelsError: the ledger knows vectors of another model.
    """
    relation = tracked.relation
    others = other_models(connection, tracked, source.selection)
    if others and options.select != "all":
        figures = ", ".join(f"{rows:,} by {name}" for name, rows in others.items())
        column = f"{relation.table.label}.{relation.table.vector.name}"
        number = relation.ledger.model
        own = "not in the ledger yet" if number == NOT_REGISTERED else f"model {number} of the ledger"
        line = f"{column} holds {figures}, and this is {model.name} ({own}), with other weights or other settings"
        if found.coverage.open and not options.allow_mixed:
            raise MixedModelsError(
                f"{line}: choose the other model, or pass --select all to replace its vectors, or --allow-mixed to "
                "keep both"
            )
        log.warning("%s: --select all replaces them", line, extra={"target": relation.table.label})
    if found.coverage.open:
        note(connection, tracked, others)


def needs_sample(tracked: Tracked | None, options: RunOptions, coverage: Coverage) -> bool:
    """Whether only a sample can tell which model made the existing vectors: the ledger does not know all of them."""
    if tracked is None:
        return True
    unknown = coverage.unknown or tracked.unknown or 0
    return options.select != "all" and unknown > 0 and tracked.relation.ledger.model not in tracked.models


def excess_of_changes(tracked: Tracked | None, options: RunOptions, coverage: Coverage) -> str | None:
    """The share of changed rows and its limit; None if it is below, or if all rows were asked for."""
    if tracked is None or options.select == "all" or coverage.changed < MIN_CHANGED:
        return None
    share = coverage.changed / max(coverage.filled, 1)
    if share <= MAX_CHANGED_SHARE:
        return None
    return (
        f"the text of {coverage.changed:,} rows with a vector has changed, {share:.0%} of all, which exceeds the "
        f"confirmation limit of {MAX_CHANGED_SHARE:.0%}"
    )


def check_same_model(connection: Connection, relation: Relation, target: Target, model: Model) -> None:
    """Checks that no other models made the vectors, as far as the ledger knows.

    Raises:
        MixedModelsError: they did.
    """
    try:
        makers = writers(connection, relation, target)
        own = fingerprint_of(model) if makers else None
    except ConfigError as error:  # a search needs no right on the ledger
        log.debug("the models of the vectors are not known: %s", error)
        return
    if own is None or any(same_space(own.details, one) for _, one in makers):
        return
    column = f"{relation.table.label}.{relation.table.vector.name}"
    names = sorted({name for name, _ in makers})
    differs = " with other weights or settings" if own.name in names else ""
    raise MixedModelsError(
        f"the vectors of {column} come from {', '.join(names)}, and this search uses {own.name}{differs}: distances "
        "between models mean nothing: leave --model out to use the one that the ledger names"
    )


def recorded_model(target: Target, database: str | Database | None) -> dict[str, Any]:
    """Returns the fields of ``Model`` that make the model which made a tracked target's vectors.

    Raises:
        ConfigError: the target is not tracked, no run has written yet, or several models have.
    """
    bare = replace(target, text=None, text_sql=None, set=(), dim=None)
    with open_session(database) as session:
        makers = session.run(
            lambda connection: writers(
                connection, inspect(connection, bare, text_needed=False, key_needed=False), target
            )
        )
    if len(makers) != 1:
        why = f"come from {', '.join(sorted({name for name, _ in makers}))}" if makers else "have no model in a ledger"
        raise ConfigError(f"the vectors of {target.table}.{target.column} {why}: pass --model")
    name, details = makers[0]
    defaults = {"truncate_dim": None, "max_tokens": None, "long": "truncate", "overlap": 0}
    known = {field: details.get(field, default) for field, default in defaults.items()}
    return {"name": name, "revision": details.get("commit"), **known}


@contextmanager
def ledger_expected(session: Session, relation: Relation) -> Iterator[None]:
    """Explains an error of a run by a ledger that was dropped meanwhile.

    Raises:
        DatabaseError: it was.
    """
    try:
        yield
    except (ConfigError, DatabaseError, PartialRunError, psycopg.Error) as error:
        if relation.tracking is None or session.run(lambda connection: _has_ledger(connection, relation)):
            raise
        raise DatabaseError(
            f"the ledger of {relation.table.label} in schema {relation.ledger.schema} was dropped while this run "
            "worked; what it wrote is kept: run `vecfill track` again"
        ) from error


def _has_ledger(connection: Connection, relation: Relation) -> bool:
    with transaction(connection, read_only=True) as cursor:
        query = "SELECT pg_catalog.to_regclass($1::pg_catalog.text) IS NOT NULL"
        found = cursor.execute(query, (relation.ledger.changes.as_string(),)).fetchone()
    return bool(found and found[0])
