"""``--index``: whether a run keeps the vector indexes or builds them again afterwards, by figures of both ways."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg

from vecfill.backfill.forecast import Forecast, IndexForecast
from vecfill.backfill.meter import duration
from vecfill.config.run import RunOptions
from vecfill.errors import ConfigError
from vecfill.indexing.build_cost import build_seconds
from vecfill.indexing.dropping import check_rebuildable
from vecfill.indexing.update_cost import measured
from vecfill.ledger.registry import Tracked
from vecfill.ledger.waiting_indexes import still_missing, waits
from vecfill.postgres.database import Connection
from vecfill.postgres.driver_errors import is_reported, server_message
from vecfill.postgres.index_sql import SavedIndex
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import Session

log = logging.getLogger(__name__)

MEASURED_ROWS = 2_000
"""Rows to write from which a run measures what its vector indexes cost; fewer take some seconds either way."""

PLAIN_S = 0.0001
"""Seconds that a row takes without a vector index: 10,000 to 70,000 rows/s were measured."""

WORTH = 2.0
"""How many times as fast the run must be without the indexes for ``auto`` to have searches do without them."""


@dataclass(frozen=True, kw_only=True)
class Ways:
    """Seconds that a run takes, its build included: with the vector indexes, and without; ``model`` is the model's."""

    keep: float
    rebuild: float
    model: float

    @property
    def rebuilds(self) -> bool:
        """Whether it is worth it."""
        return self.keep > WORTH * self.rebuild

    @property
    def reason(self) -> str:
        """Why."""
        figures = f"{duration(self.keep)} with the indexes, {duration(self.rebuild)} without them and with their build"
        if not self.rebuilds and self.model >= self.keep / WORTH:
            return f"{figures}: the model takes the longest, about {duration(self.model)}"
        return figures


def ways(ahead: IndexForecast, rows: int, model_rows_per_s: float) -> Ways:
    """Compares both ways of writing ``rows`` rows; what the model needs goes on beside the writing."""
    model = rows / model_rows_per_s
    return Ways(keep=max(model, ahead.keep_s), rebuild=max(model, rows * PLAIN_S) + ahead.build_s, model=model)


def with_indexes(
    session: Session,
    relation: Relation,
    tracked: Tracked | None,
    options: RunOptions,
    ahead: Forecast,
    *,
    total: int,
    model_rows_per_s: float,
    measure: bool = True,
) -> tuple[Forecast, tuple[SavedIndex, ...]]:
    """Decides what becomes of the vector indexes, and completes the forecast with it.

    Args:
        session: to the target's database.
        relation: the target.
        tracked: what the ledger says of it; None if it is not tracked.
        options: of the run.
        ahead: the forecast.
        total: rows of the table.
        model_rows_per_s: a rough rate of the model.
        measure: write some rows and roll them back; a plan, which writes nothing, takes known figures.

    Returns:
        The forecast, and the indexes to drop.

    Raises:
        ConfigError: ``--index rebuild`` was asked for, and this role may not, or the target is not tracked.
    """
    if ahead.indexed is None:
        return ahead, ()
    indexes: list[SavedIndex] = []
    if options.index != "keep":
        try:
            indexes = _rebuildable(session, relation, tracked)
        except ConfigError as error:
            if options.index == "rebuild":
                raise
            log.info("--index auto keeps the indexes: %s", error)
    if measure and ahead.rows >= MEASURED_ROWS:
        found = session.run(lambda connection: _measured(connection, relation, indexes, ahead, total))
        ahead = replace(ahead, indexed=found)
    assert ahead.indexed is not None  # noqa: S101
    if options.index == "auto" and indexes:
        both = ways(ahead.indexed, ahead.rows, model_rows_per_s)
        basis = "" if measure else " (by known figures; a run measures)"
        log.info("--index auto: %s: %s%s", "rebuild" if both.rebuilds else "keep", both.reason, basis)
        indexes = indexes if both.rebuilds else []
    if indexes:
        ahead = replace(ahead, indexed=replace(ahead.indexed, rebuild=True))
    return ahead, tuple(indexes)


def say_waiting(session: Session, waiting: Sequence[SavedIndex]) -> None:
    """Warns of indexes that a run has dropped and could not build again."""
    for one in session.run(lambda connection: still_missing(connection, waiting)):
        log.warning(
            "%s; a run does it at its end, a watch does not",
            waits(one, waiting),
            extra={"index": one.label, "ddl": one.definition, "event": "index-waits"},
        )


def _rebuildable(session: Session, relation: Relation, tracked: Tracked | None) -> list[SavedIndex]:
    if tracked is None:
        raise ConfigError(
            f"--index rebuild keeps the definitions of indexes in the ledger, and {relation.table.label} is not "
            "tracked: run `vecfill track` first, or pass --index keep"
        )
    return session.run(lambda connection: check_rebuildable(connection, relation))


def _measured(
    connection: Connection, relation: Relation, indexes: Sequence[SavedIndex], ahead: Forecast, total: int
) -> IndexForecast:
    """Measures both ways on a sample that is rolled back; known figures where that does not work."""
    known = ahead.indexed
    assert known is not None  # noqa: S101
    try:
        found = measured(connection, relation)
    except psycopg.Error as error:
        if not is_reported(error):
            raise
        log.debug("the update of a row was not measured: %s", server_message(error))
        found = None
    build = build_seconds(connection, relation, indexes, total) if indexes else None
    if found is not None and found.updated:
        known = replace(known, keep_s=ahead.rows * found.ms / 1000, measured_rows=found.updated)
    return known if build is None else replace(known, build_s=build)


def without(relation: Relation, indexes: Sequence[SavedIndex]) -> Relation:
    """Returns the target without these indexes."""
    gone = {(one.table_oid, one.name) for one in indexes}
    kept = tuple(index for index in relation.table.indexes if (index.table, index.name) not in gone)
    return replace(relation, table=replace(relation.table, indexes=kept))
