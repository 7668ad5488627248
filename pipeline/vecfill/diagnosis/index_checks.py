"""The indexes over the embedding column: which there are, which are broken, and whether a search can use them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from vecfill.diagnosis import queries
from vecfill.diagnosis.finding import Finding, advice, ok, problem
from vecfill.diagnosis.look import Examined, statement
from vecfill.diagnosis.recorded_statements import recorded_statements
from vecfill.postgres.known_problems import known_problems
from vecfill.postgres.search_sql import OPERATORS
from vecfill.vector_search import comparison

UNUSED_BYTES, UNUSED_AGE = 1_000_000, 10_000
"""Size and age, in transactions of the server, of an index from which a lack of scans is worth a word."""


def known(look: Examined) -> Iterator[Finding]:
    """What a run warns of too, with the statements that mend it."""
    indexes = {one.bare: one.name for one in column_indexes(look)}
    for one in known_problems(look.connection, look.relation):
        mend = tuple(statement("REINDEX INDEX CONCURRENTLY {}", indexes[name]) for name in one.indexes)
        if one.name == "pgvector-version":
            mend = ("ALTER EXTENSION vector UPDATE;", *mend)
        yield (advice if one.name == "child-tables" else problem)(one.name, f"{one.what}: {one.remedy}", *mend)


def column_indexes(look: Examined) -> list[Any]:
    """Returns the indexes that use the embedding column, of the table and its partitions."""
    on_column = {(index.table, index.name) for index in look.relation.table.indexes if index.on_column}
    found = look.ask(queries.COLUMN_INDEXES, look.tree)
    return [one for one in found if (one.table, one.bare) in on_column]


def for_vectors(look: Examined) -> list[Any]:
    """Returns the vector indexes that hold entries: not those of a partitioned table, which are its partitions'."""
    names = set(look.relation.table.vector_indexes)
    return [one for one in column_indexes(look) if one.bare in names and one.kind == "i"]


def vector_index(look: Examined) -> Iterator[Finding]:
    """Names the vector indexes, their access methods and the operators that they serve."""
    found = for_vectors(look)
    if not found:
        yield ok("vector-index", "none: updates are cheap, and a search reads every vector")
    for one in found:
        operator = operator_of(one.opclass)
        serves = f"serves {operator}" if operator else f"by operator class {one.opclass}"
        yield ok("vector-index", f"{one.name} ({one.method}) {serves}; {one.bytes / 1e6:,.1f} MB, {one.scans:,} scans")


def operator_of(operator_class: str) -> str | None:
    """Returns pgvector's operator of an operator class such as ``vector_cosine_ops``."""
    return OPERATORS.get(operator_class.removesuffix("_ops").partition("_")[2])


def unused(look: Examined) -> Iterator[Finding]:
    """Vector indexes that no search has used since the statistics began."""
    yield from never_scanned([one for one in for_vectors(look) if one.valid and one.bytes > UNUSED_BYTES])


def never_scanned(indexes: Sequence[Any]) -> Iterator[Finding]:
    """Judges indexes by their scans; a new one may not have had its chance."""
    for one in indexes:
        if one.scans or one.age < UNUSED_AGE:
            continue
        yield advice(
            "index-unused",
            f"no search has used {one.name} ({one.method}, {one.bytes / 1e6:,.1f} MB) since the server's statistics "
            "began, on this server: drop it if none does on a standby either",
            statement("DROP INDEX CONCURRENTLY {}", one.name),
        )


def operators(look: Examined) -> Iterator[Finding]:
    """Operators of searches, ours and by pg_stat_statements the application's, against those that the indexes serve."""
    indexes = [one for one in for_vectors(look) if one.valid]
    if not indexes:
        return
    if comparison(look.connection, look.relation)[1].index is None:
        names = ", ".join(f"{one.name} ({one.method}, {one.opclass})" for one in indexes)
        yield advice("index-operator", f"`vecfill search` can use none of {names}, and reads every vector")
    statements = recorded_statements(look, "<(=|-|#|[+])>")
    served = {operator for one in indexes if (operator := operator_of(one.opclass))}
    yield from unserved(statements, served, look.relation.table.vector.name, indexes[0])


def unserved(statements: Sequence[Any], served: set[str], column: str, index: Any) -> Iterator[Finding]:
    """Compares the operators of statements over the column with those that indexes serve."""
    used: dict[str, int] = {}
    for one in statements:
        for operator in re.findall(rf'\b{re.escape(column)}"?\s*(<[=\-#+]>)', one.query):
            used[operator] = used.get(operator, 0) + one.calls
    for operator, calls in used.items():
        if operator not in served:
            distance = next(name for name, known_as in OPERATORS.items() if known_as == operator)
            kind = index.opclass.partition("_")[0]
            made = re.sub(r"^CREATE INDEX \S+ ", "CREATE INDEX CONCURRENTLY ", index.definition)
            yield problem(
                "index-operator",
                f"{calls:,} searches by {operator}, which no index serves: they serve {', '.join(sorted(served))}",
                f"{made.replace(index.opclass, f'{kind}_{distance}_ops')};",
            )
    if used and not used.keys() - served:
        yield ok("index-operator", f"searches are by {', '.join(sorted(used))}, which an index serves")


CHECKS = {
    "index-invalid": known,
    "vector-index": vector_index,
    "index-unused": unused,
    "index-operator": operators,
}
