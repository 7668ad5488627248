"""The indexes of a table and its partitions. See ``catalogue`` on the query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIRST_NORMAL_OID = 16_384
"""Objects that the server is born with have lower numbers than those that extensions and users make."""

BTREE_OID = 403
"""The number of the access method ``btree``, of each server."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """An index.

    Attributes:
        table: oid of the table or partition that it is on.
        name: its own.
        method: oid of its access method.
        unique: it forbids two rows of the same key, at once.
        primary: it is the primary key's.
        valid, ready: what ``CREATE INDEX CONCURRENTLY`` says of it.
        whole: it holds all rows.
        columns: numbers of the key's columns, 0 for an expression.
        classes: oids of their operator classes.
        bytes: its size.
        on_column: the embedding column occurs in it: in its key, an expression or its condition.
    """

    table: int
    name: str
    method: int
    unique: bool
    primary: bool
    valid: bool
    ready: bool
    whole: bool
    columns: tuple[int, ...]
    classes: tuple[int, ...]
    bytes: int
    on_column: bool

    @property
    def identifies_rows(self) -> bool:
        """No two rows have the same key, but for NULLs."""
        return self.unique and self.valid and self.ready and self.whole

    @property
    def is_partial_on_column(self) -> bool:
        """It may name the rows without a vector: a partial B-tree index that has to do with the column."""
        return self.on_column and not self.whole and self.method == BTREE_OID and self.valid and self.ready

    @property
    def is_for_vectors(self) -> bool:
        """An index over vectors: its access method came with an extension."""
        return self.on_column and self.method >= FIRST_NORMAL_OID


_INDEXES = """
SELECT i.indrelid, (SELECT c.relname FROM pg_catalog.pg_class AS c WHERE c.oid = i.indexrelid),
       (SELECT c.relam FROM pg_catalog.pg_class AS c WHERE c.oid = i.indexrelid),
       i.indisunique AND i.indimmediate, i.indisprimary, i.indisvalid, i.indisready,
       i.indkey::pg_catalog.int2[], i.indclass::pg_catalog.oid[], i.indnkeyatts,
       pg_catalog.pg_relation_size(i.indexrelid), i.indexprs, i.indpred
FROM pg_catalog.pg_index AS i WHERE i.indrelid = {tables}
"""
_COLUMN_IN_TREE = re.compile(rb":varattno (\d+) ")
"""A column in the server's own form of an expression, the same since long before version 14. To ask ``pg_depend`` for
what an expression depends on costs 90 buffers."""


def indexes_of(cursor: Any, columns: Mapping[int, int]) -> list[Index]:
    """The indexes of tables, by name.

    Args:
        cursor: in a transaction.
        columns: the number of the embedding column, by the oid of the table; 0 where it has none.
    """
    tables = list(columns)
    one = len(tables) == 1
    query = _INDEXES.format(tables="$1::pg_catalog.oid" if one else "ANY ($1::pg_catalog.oid[])")
    rows = cursor.execute(query, (tables[0] if one else tables,)).fetchall()
    return sorted((_index(columns[row[0]], *row) for row in rows), key=lambda index: index.name)


def _index(column: int, table: int, name: str, method: int, *rest: Any) -> Index:
    unique, primary, valid, ready, columns, classes, length, size, expressions, condition = rest
    trees = b" ".join(tree for tree in (expressions, condition) if tree is not None)
    return Index(
        table=table,
        name=name,
        method=method,
        unique=unique,
        primary=primary,
        valid=valid,
        ready=ready,
        whole=condition is None,
        columns=tuple(columns[:length]),
        classes=tuple(classes[:length]),
        bytes=size,
        on_column=column in {*columns, *map(int, _COLUMN_IN_TREE.findall(trees))} - {0},
    )
