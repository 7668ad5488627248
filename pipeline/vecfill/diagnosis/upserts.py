"""Finds statements that insert vectors without the columns that each row must have. Pure.

PostgreSQL checks NOT NULL before ON CONFLICT, so an upsert of ``(id, embedding, updated_at)`` fails for every row of a
table with a required title, even for rows that exist.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

_NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_INSERT = re.compile(
    rf"\binsert\s+into\s+(?:(?P<schema>{_NAME})\s*\.\s*)?(?P<table>{_NAME})(?:\s+as\s+{_NAME})?\s*\((?P<columns>[^()]*)\)",
    re.IGNORECASE,
)
_OF = re.compile(r'of relation "(?P<table>[^"]+)"')
_FAULT = re.compile(r'null value in column "(?P<column>[^"]+)"|violates not-null|\b23502\b', re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table that statements insert into: its name, its embedding column, and the columns without a default."""

    schema: str
    name: str
    embedding: str
    required: Sequence[str]


def missing_columns(source: str, table: Table) -> Iterator[tuple[str, ...]]:
    """Yields the required columns that each INSERT of vectors in a source text leaves out.

    Args:
        source: SQL, also with other text around it, as in the body of a function.
        table: the target.
    """
    for found in _INSERT.finditer(source):
        schema, name = (_plain(found[part]) if found[part] else None for part in ("schema", "table"))
        columns = {_plain(one.strip()) for one in found["columns"].split(",")}
        if name != table.name or schema not in (None, table.schema) or table.embedding not in columns:
            continue
        if absent := tuple(one for one in table.required if one not in columns):
            yield absent


def is_not_null_fault(error: str, tables: Collection[str] = ()) -> bool:
    """Whether an error's text says that a required column had no value, in one of ``tables`` if it names its own."""
    named = _OF.search(error)
    return _FAULT.search(error) is not None and not (named and tables and named["table"] not in tables)


def without_detail(error: str) -> str:
    """Returns an error's text in one line, without the DETAIL that may quote a row."""
    return " ".join(re.split(r"\s*\bDETAIL:", error)[0].split())


def _plain(name: str) -> str:
    """Returns a name of SQL as the catalogue has it."""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()
