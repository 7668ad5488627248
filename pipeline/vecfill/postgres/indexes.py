"""Reads the indexes of a table and its partitions. ``catalogue`` explains the form of the query."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FIRST_NORMAL_OID = 16_384
"""Oids below this belong to the server's built-in objects; extensions and users get higher ones."""

BTREE_OID = 403
"""Oid of the access method ``btree``, the same on every server."""


@dataclass(frozen=True, kw_only=True)
class Index:
    """An index.

    Attributes:
        table: oid of the table or partition that it indexes.
        name: without its schema.
        method: oid of its access method.
        unique: it is unique and checked immediately, not deferred.
        primary: it implements the primary key.
        valid, ready: false while ``CREATE INDEX CONCURRENTLY`` runs, or after it failed.
        whole: it contains all rows: it is not partial.
        columns: numbers of the key columns, 0 for an expression.
        classes: oids of their operator classes.
        bytes: its size.
        on_column: it uses the embedding column: in its key, in an expression or in its condition.
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
        """Two rows cannot have the same key, except where it contains NULL."""
        return self.unique and self.valid and self.ready and self.whole

    @property
    def is_partial_on_column(self) -> bool:
        """A partial B-tree index that uses the embedding column: it may list the rows without a vector."""
        return self.on_column and not self.whole and self.method == BTREE_OID and self.valid and self.ready

    @property
    def is_for_vectors(self) -> bool:
        """A vector index: its access method comes from an extension."""
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
"""A column reference in the server's serialised form of an expression, unchanged since long before version 14. Asking
``pg_depend`` for the columns of an expression costs 90 buffers."""


def indexes_of(cursor: Any, columns: Mapping[int, int]) -> list[Index]:
    """Returns the indexes of tables, sorted by name.

    Args:
        cursor: in a transaction.
        columns: table oid → number of its embedding column, 0 if it has none.
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
