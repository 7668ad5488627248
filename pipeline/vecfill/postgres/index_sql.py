"""The DDL of an index that is to be built, of a whole table or partition by partition. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

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


def drop_vector_index(wanted: WantedIndex) -> sql.Composed:
    """Drops an index, with those that are attached to it."""
    return sql.SQL("DROP INDEX {}").format(wanted.identifier)


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


@dataclass(frozen=True, kw_only=True)
class SavedIndex(WantedIndex):
    """An index with all that makes it again once it was dropped.

    Attributes:
        definition: as ``pg_get_indexdef`` gives it with an empty search path.
        method: its access method.
        valid: searches could use it.
        afterwards: statements that restore what a definition does not say, such as its comment.
    """

    definition: str
    method: str
    valid: bool
    afterwards: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """``schema.index`` for messages."""
        return f"{self.schema}.{self.name}"

    def is_part_of(self, other: WantedIndex) -> bool:
        """Whether it is attached to another one."""
        return (self.parent, self.parent_schema) == (other.name, other.schema)

    @property
    def statements(self) -> tuple[str, ...]:
        """What builds it again."""
        return (*(one.as_string() for one in build_statements([self])), *self.afterwards)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def of(cls, found: dict[str, Any]) -> SavedIndex:
        """Makes it of plain values; those that a newer version may have added are left out."""
        known = {field.name: found[field.name] for field in fields(cls) if field.name in found}
        return cls(**{**known, "afterwards": tuple(found["afterwards"])})


VECTOR_INDEXES = """
SELECT c.relname::pg_catalog.text, n.nspname::pg_catalog.text, pg_catalog.format('%I.%I', n.nspname, t.relname),
  i.indrelid, c.relkind OPERATOR(pg_catalog.=) 'I'::pg_catalog."char", u.relname::pg_catalog.text,
  (SELECT m.nspname FROM pg_catalog.pg_namespace AS m WHERE m.oid = u.relnamespace)::pg_catalog.text,
  pg_catalog.pg_get_indexdef(c.oid),
  (SELECT a.amname FROM pg_catalog.pg_am AS a WHERE a.oid = c.relam)::pg_catalog.text,
  i.indisvalid AND i.indisready, pg_catalog.format('%I', c.relname),
  (SELECT pg_catalog.format('%I', s.spcname) FROM pg_catalog.pg_tablespace AS s WHERE s.oid = c.reltablespace),
  pg_catalog.pg_get_expr(i.indpred, i.indrelid), pg_catalog.obj_description(c.oid, 'pg_class'), i.indisclustered,
  ARRAY(SELECT pg_catalog.format('ALTER COLUMN %s SET STATISTICS %s', a.attnum, a.attstattarget)
    FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attstattarget >= 0 ORDER BY a.attnum),
  ARRAY(SELECT pg_catalog.format('DEPENDS ON EXTENSION %I', e.extname)
    FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_extension AS e ON e.oid = d.refobjid
    WHERE d.classid = 1259 AND d.objid = c.oid AND d.refclassid = 3079 AND d.deptype = 'x' ORDER BY e.extname),
  i.indisunique OR i.indisexclusion OR i.indisreplident
    OR EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.conindid = c.oid),
  pg_catalog.pg_has_role(c.relowner, 'USAGE'), pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text,
  pg_catalog.has_schema_privilege(n.oid, 'CREATE')
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_inherits AS h ON h.inhrelid = c.oid
LEFT JOIN pg_catalog.pg_class AS u ON u.oid = h.inhparent
WHERE i.indrelid = ANY ($1::pg_catalog.oid[]) AND c.relam >= 16384
ORDER BY c.relkind <> 'I', (SELECT pg_catalog.count(*)
  FROM pg_catalog.pg_partition_ancestors(i.indrelid::pg_catalog.regclass)), c.relname
"""
"""The indexes of extensions' access methods of a table and its partitions, the frames of partitioned ones first, the
topmost before the rest. Run it with an empty search path. 1259 and 3079 are pg_class and pg_extension."""


def saved_index(row: Sequence[Any]) -> SavedIndex:
    """Makes an index of a row of ``VECTOR_INDEXES``."""
    name, schema, table, table_oid, partitioned, parent, parent_schema, definition, method, valid, *more = row
    quoted, tablespace, condition, comment, clustered, statistics, depends, *_ = more
    _, _, rest = definition.removeprefix(f"CREATE INDEX {quoted} ON ").partition(f"{table} ")
    where = f" WHERE {condition}" if condition else ""
    if tablespace:
        rest = f"{rest.removesuffix(where)} TABLESPACE {tablespace}{where}"
    own = sql.Identifier(schema, name).as_string()
    afterwards = [f"ALTER INDEX {own} {change}" for change in (*statistics, *depends)]
    if comment is not None:
        afterwards.append(f"COMMENT ON INDEX {own} IS {sql.Literal(comment).as_string()}")
    if clustered:
        afterwards.append(f"ALTER TABLE {table} CLUSTER ON {quoted}")
    return SavedIndex(
        name=name,
        schema=schema,
        table=table,
        table_oid=table_oid,
        partitioned=partitioned,
        parent=parent,
        parent_schema=parent_schema,
        rest=rest,
        definition=definition,
        method=method,
        valid=valid,
        afterwards=tuple(afterwards),
    )
