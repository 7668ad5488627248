"""The table: its key and column, the column against the model, and how much of it has a vector."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from psycopg import sql

from vecfill.backfill.checks import check_sql, settle_dimension
from vecfill.config.model import Model
from vecfill.diagnosis import queries
from vecfill.diagnosis.finding import Finding, advice, ok, problem, unknown
from vecfill.diagnosis.look import LOCKED, Examined, Look, statement
from vecfill.encode.model.model_files import dimension_of
from vecfill.encode.model.model_location import is_local
from vecfill.errors import ConfigError
from vecfill.indexing.update_cost import COLUMN_TYPE
from vecfill.postgres.introspect import inspect
from vecfill.postgres.selection import MISSING, selection_of
from vecfill.postgres.target_sql import column, target, target_sample, where
from vecfill.read.survey import Coverage, survey
from vecfill.wording import count_of, verb_of

COUNTED_PAGES, SAMPLED_PAGES = 50_000, 5_000
"""Heap pages (400 MB) up to which every row is counted, and those that a sample of a bigger table reads."""

MUCH = 0.1
"""Share of rows without a vector that is a problem, in a table that has been filled before."""

STAMPS = ("created_at", "inserted_at", "created", "posted_at", "published_at", "created_on")


def locked_target() -> Finding:
    """What there is to say of a table that cannot be opened."""
    return unknown("target", f"{LOCKED}; what needs the table itself was not checked")


def broken_target(look: Look, message: str) -> Finding:
    """Explains a table that no run can work on, whatever the options: such as one without the column."""
    column_name = look.target.column
    if not look.ask(COLUMN_TYPE, look.oid, column_name):
        others = look.ask(queries.VECTOR_COLUMNS, look.oid)
        dim = dimension(look) or 384
        beside = f"; it has {', '.join(f'{one.name} {one.type}' for one in others)}" if others else ""
        add = statement(f"ALTER TABLE {{}} ADD COLUMN {{}} vector({dim})", look.name, (column_name,))
        return problem("target", f"{look.label} has no column {column_name}{beside}", add)
    return problem("target", message)


def dimension(look: Look) -> int | None:
    """Returns the dimension of the model, if its files say so without a network."""
    try:
        return dimension_of(look.model) if look.model and not look.model.is_api and is_local(look.model) else None
    except ConfigError:
        return None


def key(look: Examined) -> Iterator[Finding]:
    """The key by which rows are written."""
    found = look.relation.table.key
    if found:
        yield ok("key", ", ".join(part.name for part in found))
        return
    try:
        inspect(look.connection, look.target, text_needed=False)
    except ConfigError as error:
        add = statement("ALTER TABLE {} ADD PRIMARY KEY ({})", look.name, ("id",))
        yield problem("key", str(error), *([add] if "id" in look.relation.table.columns else []))


def column_type(look: Examined) -> Iterator[Finding]:
    """The embedding column itself."""
    vector = look.relation.table.vector
    shown = f"{vector.name} {vector.kind}" + (f"({vector.dim})" if vector.declared else "")
    if vector.not_null and selection_of(look.target) == MISSING:
        yield advice(
            "column",
            f"{shown} is NOT NULL, so every row counts as filled: if zeros are placeholders, pass --zero-is-missing",
            look.run_command("--zero-is-missing"),
        )
    elif not vector.declared and not vector.is_array:
        more = f"; its vectors have {vector.dim} dimensions" if vector.dim else ""
        yield advice(
            "column",
            f"{shown} declares no dimension{more}: no vector index can be made on it as it is",
            *(
                [
                    statement(
                        f"ALTER TABLE {{}} ALTER COLUMN {{}} TYPE {vector.kind}({vector.dim})", look.name, look.column
                    )
                ]
                if vector.dim
                else []
            ),
        )
    else:
        yield ok("column", shown)


def model(look: Examined) -> Iterator[Finding]:
    """The column against the model that ``--model`` or the ledger names."""
    if look.model is None:
        yield unknown("model", "no model is named: give --model, or track the target")
    elif look.model.is_api:
        yield unknown("model", f"{look.model.name} is an API, which is not asked for its dimension")
    elif not is_local(look.model):
        yield unknown("model", f"{look.model.name} is not on this machine, and the network is not asked")
    elif (given := dimension(look)) is None:
        yield unknown("model", f"{look.model.name} declares no dimension")
    else:
        yield from _fit(look, look.model, given)


def coverage(look: Examined) -> Iterator[Finding]:
    """Rows with and without a vector: counted, or of a big table estimated from a sample of its pages."""
    yield from covered(coverage_of(look), look.run_command(), text=bool(look.target.text or look.target.text_sql))


def coverage_of(look: Examined) -> Coverage:
    """Counts or estimates the coverage."""
    selection = selection_of(look.target)
    check_sql(look.connection, look.relation, selection, writing=False)  # or every row could not be read, one by one
    pages = sum(leaf.pages for leaf in look.relation.table.leaves)
    if pages <= COUNTED_PAGES:
        return survey(look.connection, look.relation, selection, exact=True).coverage
    query = sql.SQL(
        "SELECT pg_catalog.count(*) AS rows, pg_catalog.count(*) FILTER (WHERE {missing}) AS missing,\n"
        "  pg_catalog.count(*) FILTER (WHERE {missing} AND {blank}) AS empty FROM {source} WHERE {where}"
    ).format(
        missing=selection.missing(look.relation),
        blank=look.relation.user_sql.blank,
        source=target_sample(look.relation, 100.0 * SAMPLED_PAGES / pages),
        where=where(look.relation),
    )
    (row,) = look.ask(query)
    times = pages / SAMPLED_PAGES
    total, missing, empty = (round(count * times) for count in (row.rows, row.missing, row.empty))
    return Coverage(total=total, filled=total - missing, missing=missing - empty, empty=empty, estimated=True)


def covered(found: Coverage, run: str, *, text: bool = True) -> Iterator[Finding]:
    """Judges a coverage."""
    about = "about " if found.estimated else ""
    rows, has = count_of(found.total, "row"), verb_of(found.missing, "has")
    shown = f"{about}{found.missing:,} of {rows} {has} {'a text but ' if text else ''}no vector"
    share = found.missing / found.total if found.total else 0.0
    if found.missing and found.filled and share >= MUCH:
        yield problem("coverage", f"{shown} ({share:.0%})", run)
    elif found.missing:
        yield advice("coverage", f"{shown} ({share:.0%})", run)
    else:
        has, are = verb_of(found.filled, "has"), verb_of(found.empty, "is")
        yield ok("coverage", f"{about}{found.filled:,} of {rows} {has} a vector, {found.empty:,} {are} empty")


def newest_vector(look: Examined) -> Iterator[Finding]:
    """Whether the newest rows have vectors, by a column that tells when a row was made."""
    stamps = [row.name for row in look.ask(queries.TIME_COLUMNS, look.oid)]
    stamp = next((name for name in STAMPS if name in stamps), None)
    if stamp is None or sum(leaf.pages for leaf in look.relation.table.leaves) > COUNTED_PAGES:
        return
    query = sql.SQL(
        "WITH vecfill_n AS (SELECT pg_catalog.max({stamp}) AS newest FROM {source}\n"
        "  WHERE NOT {missing} AND {where})\n"
        "SELECT vecfill_n.newest::pg_catalog.text AS newest, (SELECT pg_catalog.count(*) FROM {source}\n"
        "  WHERE {stamp} > vecfill_n.newest AND {missing} AND NOT {blank} AND {where}) AS rows FROM vecfill_n"
    ).format(
        stamp=column(look.relation, stamp),
        source=target(look.relation),
        missing=selection_of(look.target).missing(look.relation),
        blank=look.relation.user_sql.blank,
        where=where(look.relation),
    )
    (row,) = look.ask(query)
    yield from stopped(row.newest, row.rows, stamp, look.run_command())


def stopped(newest: str | None, late: int, stamp: str, run: str) -> Iterator[Finding]:
    """Judges how many rows without a vector are newer than the newest row with one."""
    if newest is None:
        return
    if late > LATE_ROWS:
        what = f"{late:,} rows without a vector are newer than the newest row with one ({stamp} {newest})"
        yield problem("newest-vector", what, run)
    else:
        yield ok("newest-vector", f"the newest row with a vector has {stamp} {newest}; {late:,} without are newer")


LATE_ROWS = 100
"""Rows newer than the newest vector that a schedule of some minutes explains."""


def _fit(look: Examined, model: Model, given: int) -> Iterator[Finding]:
    try:
        settle_dimension(look.relation, model)
    except ConfigError as error:
        beside = f"{look.relation.table.vector.name}_{given}"
        add = statement(f"ALTER TABLE {{}} ADD COLUMN {{}} vector({given})", look.name, (beside,))
        migrate = look.command("migrate start", "--model", shlex.quote(model.name))
        yield problem("model", str(error), migrate if look.tracked else add)
        return
    yield ok("model", f"{model.name} gives {given} dimensions, as the column has")


CHECKS = {
    "key": key,
    "column": column_type,
    "model": model,
    "coverage": coverage,
    "newest-vector": newest_vector,
}
