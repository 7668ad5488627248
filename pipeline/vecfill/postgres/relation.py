"""The target as the catalogue describes it: the table, the user's expressions over it, and this role's access to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg import sql

from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.indexes import FIRST_NORMAL_OID, Index
from vecfill.postgres.key import KeyColumn
from vecfill.postgres.queue_table import QueueTable
from vecfill.postgres.server import CHECK_CLIENT, Server
from vecfill.postgres.tracking import NESTED_LOOPS, Tracking

VECTOR_KINDS = {"vector": "vector", "halfvec": "halfvec", "_float4": "real[]", "_float8": "double precision[]"}
"""Types of an embedding column: name in the catalogue → name in SQL."""


@dataclass(frozen=True, kw_only=True)
class VectorColumn:
    """The embedding column.

    Attributes:
        name: as the catalogue spells it.
        kind: one of the values of ``VECTOR_KINDS``.
        dim: dimension; None if neither the type nor an existing vector nor ``--dim`` gives it.
        declared: its type declares the dimension.
        not_null: it accepts no NULL, so a row without a vector holds a placeholder.
        oid: its type.
        array: the array type over that type; None for a plain array.
    """

    name: str
    kind: str
    dim: int | None
    declared: bool
    not_null: bool
    oid: int
    array: sql.Composable | None

    @property
    def is_array(self) -> bool:
        """It is a plain array of numbers, or a domain over one, not a type of pgvector's."""
        return self.kind.endswith("[]")

    @property
    def numbers(self) -> sql.SQL:
        """The array type that holds its numbers without loss."""
        return sql.SQL("pg_catalog._float8" if self.kind == "double precision[]" else "pg_catalog._float4")


@dataclass(frozen=True, kw_only=True)
class TargetTable:
    """Identity and columns.

    Attributes:
        label: ``schema.table`` for messages and results.
        oid, name: of the table; the name is quoted, with its schema.
        alias: the table's alias in every statement: the table's own name, so that the user's SQL may use it, unless it
            could clash with one of our names.
        plain: it is not partitioned.
        columns: names of all its columns.
        key: columns of the key; empty if no key is needed.
        vector: the embedding column.
        leaves: relations to scan; one for a plain table.
        tree: oids of the table and its partitions.
        indexes: indexes of the table and its partitions.
        triggers: the table or a partition may have triggers.
        children: tables other than partitions may inherit from it.
    """

    label: str
    oid: int
    name: sql.Composable
    alias: str
    plain: bool
    columns: tuple[str, ...]
    key: tuple[KeyColumn, ...]
    vector: VectorColumn
    leaves: tuple[Leaf, ...]
    tree: tuple[int, ...]
    indexes: tuple[Index, ...]
    triggers: bool
    children: bool

    @property
    def arity(self) -> int:
        """Number of key columns."""
        return len(self.key)

    @property
    def vector_indexes(self) -> tuple[str, ...]:
        """Names of the vector indexes that a write maintains; a partitioned index has no bytes of its own."""
        found = (index for index in self.indexes if index.is_for_vectors and index.ready and index.bytes)
        return tuple(dict.fromkeys(index.name for index in found))

    @property
    def indexes_beside(self) -> tuple[str, ...]:
        """Names of HNSW and other extensions' indexes over other columns: a write that moves a row maintains them."""
        found = (one for one in self.indexes if not one.is_for_vectors and one.method >= FIRST_NORMAL_OID)
        return tuple(dict.fromkeys(one.name for one in found if one.ready and one.bytes))


UNSAFE_PRUNING = 180_000
"""First version of PostgreSQL with the fault that ``Relation.locking`` avoids."""


@dataclass(frozen=True, kw_only=True)
class UserSql:
    """The user's expressions over a row of the target.

    Attributes:
        text: a row's text, never NULL.
        size: approximate bytes of that text.
        blank: true if the text is empty or white space.
        text_sql: the user's SQL expression for the text; None for a template.
        where: the user's condition, or None.
        assignments: column and expression of each ``--set``.
        generated: the text may read a generated column, which an UPDATE may change.
    """

    text: sql.Composable
    size: sql.Composable
    blank: sql.Composable
    text_sql: sql.Composable | None
    where: sql.Composable | None
    assignments: tuple[tuple[str, sql.Composable], ...]
    generated: bool


@dataclass(frozen=True, kw_only=True)
class Access:
    """How this role reaches the target.

    Attributes:
        server: the server's properties for this role.
        policies: row-level policies apply to this role.
        arrays: this role may not create temporary tables, so batches are staged as arrays.
        settings: settings of every writing transaction, in addition to the pinned ones.
    """

    server: Server
    policies: bool
    arrays: bool
    settings: dict[str, str]

    @property
    def reading(self) -> dict[str, str]:
        """Settings of every reading transaction, which waits for locks and notices a lost client like a writing one."""
        return {name: value for name, value in self.settings.items() if name in (CHECK_CLIENT, "lock_timeout")}


@dataclass(frozen=True, kw_only=True)
class Relation:
    """The whole target: everything that the statements are built from. Can be pickled.

    ``tracking`` names the tables of the ledger if the target is tracked and the statements are to use them, ``queue``
    the queue table of the application's own whose entries name the rows to embed. A target has one of them at most.
    """

    table: TargetTable
    user_sql: UserSql
    access: Access
    tracking: Tracking | None = None
    queue: QueueTable | None = None

    @property
    def locking(self) -> dict[str, str]:
        """Settings of a transaction that locks rows of the target.

        If a row to lock changed after the snapshot, PostgreSQL rechecks it in a copy of the query. With run-time
        partition pruning 18.4 crashed then, in ``perform_pruning_base_step``, on a table with partitions of partitions.
        Without pruning each row is looked up in each partition.
        """
        if self.table.plain or self.access.server.version < UNSAFE_PRUNING:
            return self.access.settings
        return self.access.settings | {"enable_partition_pruning": "off"}

    def reading(self, leaf: Leaf) -> dict[str, str]:
        """Settings of a transaction that reads a leaf."""
        return self.access.reading | (NESTED_LOOPS if leaf.queue else {})

    @property
    def ledger(self) -> Tracking:
        """The ledger's tables; only for a tracked target."""
        if self.tracking is None:
            raise ValueError(f"{self.table.label} is not tracked: its statements have no ledger")
        return self.tracking

    @property
    def queue_table(self) -> QueueTable:
        """The queue table; only for a target that has one."""
        if self.queue is None:
            raise ValueError(f"{self.table.label} has no queue table")
        return self.queue

    @property
    def changing_entries(self) -> dict[str, str]:
        """Settings of a transaction that changes entries of a queue: it finds the entries that it locked by place."""
        return self.access.settings | NESTED_LOOPS

    @property
    def naming(self) -> Tracking | QueueTable:
        """What names rows of the target by key, as one more leaf: the queue of changes, or the queue table."""
        return self.queue or self.ledger


def with_dimension(relation: Relation, dim: int) -> Relation:
    """Returns the same target with the dimension of its embedding column set."""
    table = relation.table
    return replace(relation, table=replace(table, vector=replace(table.vector, dim=dim)))


def without_where(relation: Relation) -> Relation:
    """Returns the same target without the user's condition, to find a row on which that fails."""
    return replace(relation, user_sql=replace(relation.user_sql, where=None))


def without_user_sql(relation: Relation) -> Relation:
    """Returns the same target with an empty text for every row, to find a row on which the user's SQL fails."""
    harmless = replace(
        relation.user_sql,
        text=sql.SQL("''::pg_catalog.text"),
        size=sql.SQL("0::pg_catalog.int4"),
        blank=sql.SQL("false"),
        where=None,
    )
    return replace(relation, user_sql=harmless)
