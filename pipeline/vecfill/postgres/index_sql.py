"""The DDL of an index that is to be built, of a whole table or partition by partition. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from psycopg import sql

from vecfill.postgres.template import verbatim_sql


@dataclass(frozen=True, kw_only=True)
class WantedIndex:
    """An index that is to be built.

    Attributes:
        name: of the index.
        schema: of the index.
        table: that it indexes, quoted, with its schema.
        table_oid: its oid.
        partitioned: it has no rows of its own but the indexes of partitions attached.
        parent: name of the index that it is to be attached to; None for the index of a whole table.
        parent_schema: of that.
        rest: its definition from USING on.
        column: a column that an index of this name must use to be the one; None for any.
        tablespace: None for the database's own.
        comment: on the index.
        statistics: number of a column of the index, and its statistics target.
    """

    name: str
    schema: str
    table: str
    table_oid: int
    partitioned: bool
    parent: str | None
    parent_schema: str | None
    rest: str
    column: str | None = None
    tablespace: str | None = None
    comment: str | None = None
    statistics: tuple[tuple[int, int], ...] = ()

    @property
    def identifier(self) -> sql.Identifier:
        """Its name with its schema."""
        return sql.Identifier(self.schema, self.name)


def create_index(wanted: WantedIndex) -> sql.Composed:
    """Builds an index beside the table's use; of a partitioned one only the frame."""
    rest = wanted.rest
    if wanted.tablespace:
        head, where, condition = rest.partition(" WHERE ")
        rest = f"{head} TABLESPACE {sql.Identifier(wanted.tablespace).as_string()}{where}{condition}"
    return sql.SQL("CREATE INDEX {} {} ON {} {}").format(
        *(sql.SQL("") if wanted.partitioned else sql.SQL("CONCURRENTLY"), sql.Identifier(wanted.name)),
        *(
            verbatim_sql(f"ONLY {wanted.table}" if wanted.partitioned else wanted.table),
            verbatim_sql(rest),
        ),
    )


def describe_index(wanted: WantedIndex) -> Iterator[sql.Composed]:
    """Yields the statements that give an index what its definition does not have: comment and statistics targets."""
    if wanted.comment:
        yield sql.SQL("COMMENT ON INDEX {} IS {}").format(wanted.identifier, sql.Literal(wanted.comment))
    for column, goal in wanted.statistics:
        yield sql.SQL("ALTER INDEX {} ALTER COLUMN {} SET STATISTICS {}").format(
            wanted.identifier, sql.Literal(column), sql.Literal(goal)
        )


def drop_index(wanted: WantedIndex) -> sql.Composed:
    """Drops what a build that failed has left."""
    return sql.SQL("DROP INDEX CONCURRENTLY IF EXISTS {}").format(wanted.identifier)


def attach_index(wanted: WantedIndex) -> sql.Composed:
    """Makes the index of a partition a part of the one of the whole table."""
    return sql.SQL("ALTER INDEX {} ATTACH PARTITION {}").format(
        sql.Identifier(wanted.parent_schema or "", wanted.parent or ""), wanted.identifier
    )


def build_statements(wanted: Iterable[WantedIndex]) -> Iterator[sql.Composed]:
    """Yields the statements that build indexes, to show them."""
    for one in wanted:
        yield create_index(one)
        yield from describe_index(one)
        if one.parent:
            yield attach_index(one)
