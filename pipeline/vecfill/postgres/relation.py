"""The target as the catalogue describes it: the table, the user's expressions over it, and this role's access to it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from psycopg import sql

from vecfill.postgres.catalogue import Leaf
from vecfill.postgres.indexes import Index
from vecfill.postgres.key import KeyColumn
from vecfill.postgres.server import CHECK_CLIENT, Server


@dataclass(frozen=True, kw_only=True)
class VectorColumn:
    """The embedding column.

    Attributes:
        name: as the catalogue spells it.
        kind: one of ``VECTOR_KINDS``.
        dim: dimension; None where neither the type nor a vector in the column tells.
        oid: its type.
        array: the type of arrays over it; None for a plain ``real[]``.
    """

    name: str
    kind: str
    dim: int | None
    oid: int
    array: sql.Composable | None


@dataclass(frozen=True, kw_only=True)
class TargetTable:
    """Identity and columns.

    Attributes:
        label: ``schema.table`` for messages and results.
        oid, name: of the table; the name is quoted, with its schema.
        alias: the name of its rows in every statement: the table's own, so that the user's SQL may use it, or another
            where that could be a name of ours.
        plain: it is no partitioned table.
        columns: names of all its columns.
        key: columns of the key; empty where nothing needs one.
        vector: the embedding column.
        leaves: relations to scan; one for a plain table.
        tree: oids of the table and its partitions.
        indexes: of the table and its partitions.
        triggers: some of them may have triggers.
        children: tables that are no partitions may inherit from it.
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
        """Names of the vector indexes on the embedding column that writes maintain; a partitioned one has no bytes."""
        found = (index for index in self.indexes if index.is_for_vectors and index.ready and index.bytes)
        return tuple(dict.fromkeys(index.name for index in found))


@dataclass(frozen=True, kw_only=True)
class UserSql:
    """The user's expressions over a row of the target.

    Attributes:
        text: a row's text, never NULL.
        size: about how many bytes that has.
        blank: true where the text is empty or white space.
        where: the user's condition, or None.
        assignments: column and expression of each ``--set``.
        generated: the text reads a generated column, which an update may change.
    """

    text: sql.Composable
    size: sql.Composable
    blank: sql.Composable
    where: sql.Composable | None
    assignments: tuple[tuple[str, sql.Composable], ...]
    generated: bool


@dataclass(frozen=True, kw_only=True)
class Access:
    """How this role reaches the target.

    Attributes:
        server: the server, as this role meets it.
        policies: row-level policies apply to this role.
        arrays: this role may make no temporary tables, so a batch is staged as arrays.
        settings: what each of our writing transactions sets, beside the pinned settings.
    """

    server: Server
    policies: bool
    arrays: bool
    settings: dict[str, str]

    @property
    def reading(self) -> dict[str, str]:
        """What each of our reading transactions sets: the server notices there too that its client is gone."""
        return {name: value for name, value in self.settings.items() if name == CHECK_CLIENT}


@dataclass(frozen=True, kw_only=True)
class Relation:
    """The target in full: everything that the statements are made of. Travels by pickle."""

    table: TargetTable
    user_sql: UserSql
    access: Access


def with_dimension(relation: Relation, dim: int) -> Relation:
    """Returns the same target with the dimension of its embedding column settled."""
    table = relation.table
    return replace(relation, table=replace(table, vector=replace(table.vector, dim=dim)))
