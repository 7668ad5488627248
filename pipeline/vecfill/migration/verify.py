"""``vecfill migrate verify``: whether the new column is complete and right, and how its neighbours differ."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from psycopg import sql

from vecfill.config.model import Model
from vecfill.config.target import Target
from vecfill.config.verify import VerifyOptions
from vecfill.errors import ConfigError
from vecfill.ledger.completed_target import find_completed
from vecfill.migration.look import need
from vecfill.migration.own_search import OwnSearches, own_searches, sampled_percent
from vecfill.postgres import search_sql
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.index_scan import configure_scan
from vecfill.postgres.introspect import inspect
from vecfill.postgres.relation import Relation
from vecfill.postgres.session import open_session
from vecfill.postgres.target_sql import key_text, numbers, target_sample
from vecfill.postgres.transaction import transaction
from vecfill.table_status import Status, status
from vecfill.vector_search import comparison
from vecfill.verification.verify import HEALTHY_RECALL, VerifyResult
from vecfill.verification.verify import verify as verify_vectors
from vecfill.wording import count_of

AMONG = 10
"""Neighbours that are compared, of each row."""

COMPARED_ROWS = 50


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """How many of the nearest neighbours of a row are the same by both columns.

    Attributes:
        rows: rows whose neighbours were compared.
        among: neighbours of each.
        mean: mean share of neighbours by the old vectors that are neighbours by the new ones too; 0 to 1.
        least: the smallest share.
    """

    rows: int
    among: int
    mean: float
    least: float


@dataclass(frozen=True, kw_only=True)
class MigrationVerified:
    """What ``migrate verify`` found.

    Attributes:
        table: ``schema.table``.
        old_column, new_column: the two columns.
        model: the new model.
        phase: the last phase that the migration has reached.
        coverage: of the new column.
        verified: the sample that was embedded again.
        searches: for each vector index of the new column, how many rows it finds by their own vectors.
        overlap: None if no row has both vectors.
        problems: what is wrong, a sentence each; none if the application can move.
    """

    table: str
    old_column: str
    new_column: str
    model: str
    phase: str
    coverage: Status
    verified: VerifyResult
    searches: OwnSearches
    overlap: Overlap | None
    problems: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 if anything is wrong."""
        return 1 if self.problems else 0

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            **{name: getattr(self, name) for name in ("table", "old_column", "new_column", "model", "phase")},
            "coverage": self.coverage.as_dict(),
            "verified": self.verified.as_dict(),
            "searches": asdict(self.searches),
            "overlap": vars(self.overlap) if self.overlap else None,
            "problems": list(self.problems),
        }


def verify_migration(
    target: Target, model: Model, *, database: str | Database | None = None, options: VerifyOptions | None = None
) -> MigrationVerified:
    """Checks the new column: complete, nothing queued, a sample embedded again, rows found through the index.

    Args:
        target: the target with its old column or its new one.
        model: the new model.
        database: connection string; None takes libpq's environment.
        options: how many vectors to compare; None takes the defaults.

    Raises:
        ConfigError: no migration is in progress; or as ``verify``.
    """
    with open_session(database) as session:
        found = session.run(lambda connection: need(connection, target))
        migration, label = found.migration, found.relation.table.label
        if migration.ended:
            raise ConfigError(f"the migration of {label} was {migration.phase}: `vecfill verify` checks its column")
        new = session.run(lambda connection: _completed(connection, found.new_target(target)))
        counted = status(new, database=session.database)
        verified = verify_vectors(new, model, database=session.database, options=options)
        searches = session.run(lambda connection: _searches(connection, new))
        old = replace(new, column=migration.old_column)
        overlap = session.run(lambda connection: _overlap(connection, old, new))
    return MigrationVerified(
        table=label,
        old_column=migration.old_column,
        new_column=migration.new_column,
        model=model.name,
        phase=migration.phase,
        coverage=counted,
        verified=verified,
        searches=searches,
        overlap=overlap,
        problems=tuple(_problems(counted, verified, searches)),
    )


def _completed(connection: Connection, new: Target) -> Target:
    return find_completed(connection, new, inspect(connection, new, text_needed=False, key_needed=False))[0]


def _problems(counted: Status, verified: VerifyResult, searches: OwnSearches) -> list[str]:
    coverage, found = counted.coverage, list[str]()
    queued = counted.ledger.queued if counted.ledger else 0
    if coverage.missing:
        found.append(f"{count_of(coverage.missing, 'row', 'has')} no vector: run `vecfill migrate run`")
    if coverage.failed:
        found.append(f"{count_of(coverage.failed, 'row')} failed: `vecfill failures` lists them")
    if queued:
        found.append(f"{count_of(queued, 'change', 'is')} queued: run `vecfill run` for the new column")
    if verified.off:
        found.append(f"{verified.off:,} of {count_of(verified.compared, 'sampled vector')} off")
    for recall in searches.found:
        if recall.found >= HEALTHY_RECALL * recall.rows:
            continue
        found.append(
            f"index {recall.index} finds {recall.found:,} of {count_of(recall.rows, 'row')} by their own vectors"
        )
    return found


def _searches(connection: Connection, new: Target) -> OwnSearches:
    bare = replace(new, text=None, text_sql=None)
    return own_searches(connection, inspect(connection, bare, text_needed=False))


def _overlap(connection: Connection, old: Target, new: Target) -> Overlap | None:
    relations = [inspect(connection, replace(one, text=None, text_sql=None), text_needed=False) for one in (old, new)]
    with transaction(connection, relations[0].access.reading, read_only=True) as cursor:
        rows = cursor.execute(_both(*relations), (COMPARED_ROWS,)).fetchall()
    if not rows:
        return None
    near = [_neighbours(connection, relation, rows, place) for place, relation in enumerate(relations, 1)]
    shares = [len(one & other) / max(1, len(one)) for one, other in zip(*near, strict=True)]
    mean = sum(shares) / len(shares)
    return Overlap(rows=len(rows), among=AMONG, mean=round(mean, 3), least=round(min(shares), 3))


def _both(old: Relation, new: Relation) -> sql.Composed:
    """Selects key and both vectors of up to ``$1`` random rows that have both."""
    return sql.SQL(
        "SELECT {}, {}, {} FROM {} WHERE {} IS NOT NULL AND {} IS NOT NULL ORDER BY pg_catalog.random() "
        "LIMIT $1::pg_catalog.int8"
    ).format(
        *(key_text(old), numbers(old), numbers(new), target_sample(old, sampled_percent(old))),
        *(sql.Identifier(one.table.alias, one.table.vector.name) for one in (old, new)),
    )


def _neighbours(connection: Connection, relation: Relation, rows: list[tuple[Any, ...]], place: int) -> list[set[str]]:
    """The keys of the rows nearest to each of some rows, by the vectors of one column, through its index."""
    schema, measure = comparison(connection, relation)
    query = search_sql.nearest(relation, schema, measure, ())
    with transaction(connection, relation.access.reading, read_only=True) as cursor:
        configure_scan(cursor, schema, AMONG)
        return [{key for key, _ in cursor.execute(query, (row[place], AMONG)).fetchall()} for row in rows]
