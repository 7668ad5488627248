"""A queue table of the application's own, resolved against the catalogue, as the statements name it. Pure.

It is not the queue of changes of a tracked target (``tracking``): its entries have a status, which other workers read
and write too. An entry is *open* while it is pending or processing.
"""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from vecfill.blocks import key_names

ENTRY = "vecfill_c"
"""Alias of an entry in every statement."""


@dataclass(frozen=True, kw_only=True)
class EntryKey:
    """A key column of the queue table, the target's column that it names, and the operator that compares them."""

    name: str
    target: str
    equals: sql.Composable


@dataclass(frozen=True, kw_only=True)
class Stamp:
    """A timestamp column.

    Attributes:
        name: as the catalogue spells it.
        now: the time now as such a column holds it.
        exact: it holds microseconds.
        nullable: it accepts NULL.
    """

    name: str
    now: sql.Composable
    exact: bool
    nullable: bool


@dataclass(frozen=True, kw_only=True)
class QueueTable:
    """What the statements of a run need to know of the queue table. Can be pickled.

    Attributes:
        label: ``schema.table`` for messages and results.
        name: quoted, with its schema.
        key: the key columns.
        only: columns and their values in the entries of this target; the others are another's.
        status: the status column.
        pending, processing, done, failed: its values, cast to its type; ``done`` is None if entries are deleted.
        words: the same values as text, as the server shows them.
        claimed, finished: timestamp columns to set.
        attempts, error: other columns to set.
        error_length: the longest text that ``error`` takes; None for any.
        order: the entries to take first.
        stuck_s: age of a claim above which it is taken over.
        embed_filled: embed the text of a row again that has a vector.
        rest: also fill rows that no open entry names.
        single: a partial unique index allows no two entries of one key with some status.
        indexed: an index finds the entries of a key.
        mark: tells this run's claims from others: microseconds of the time of the claim or, if there is no such column
            for them, the first transaction that can be this run's.
        taking_over: abandoned entries wait too, as if a run had taken them over.
    """

    label: str
    name: sql.Composable
    key: tuple[EntryKey, ...]
    only: tuple[tuple[str, sql.Composable], ...]
    status: str
    pending: sql.Composable
    processing: sql.Composable
    done: sql.Composable | None
    failed: sql.Composable
    words: tuple[str, ...]
    claimed: Stamp | None
    finished: Stamp | None
    attempts: str | None
    error: str | None
    error_length: int | None
    order: tuple[sql.Composable, ...]
    stuck_s: float
    embed_filled: bool
    rest: bool
    single: bool
    indexed: bool
    mark: int
    taking_over: bool = False

    def keys_of(self, alias: str) -> sql.Composed:
        """Returns the key columns of an entry."""
        return sql.SQL(", ").join(sql.Identifier(alias, part.name) for part in self.key)

    def named_keys_of(self, alias: str) -> sql.Composed:
        """Returns the key columns of an entry, named as in ``blocks``."""
        return sql.SQL(", ").join(
            sql.SQL("{} AS {}").format(sql.Identifier(alias, part.name), sql.Identifier(name))
            for part, name in zip(self.key, key_names(len(self.key)), strict=True)
        )

    def waits(self, *, listed: bool) -> sql.Composable:
        """Condition: the entry names a row to survey, or to read if its place is ``listed``."""
        if listed:
            return self.is_open()
        pending = self.has_status(self.pending)
        return sql.SQL("({} OR {})").format(pending, self.is_abandoned) if self.taking_over else pending

    def is_named_row(self, target: str, alias: str) -> sql.Composed:
        """Condition: a row of the target has the key that ``named_keys_of`` returned."""
        return sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(sql.Identifier(target, part.target), part.equals, sql.Identifier(alias, name))
            for part, name in zip(self.key, key_names(len(self.key)), strict=True)
        )

    def is_row(self, target: str, alias: str = ENTRY) -> sql.Composed:
        """Condition: a row of the target has the key of an entry."""
        return sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(
                sql.Identifier(target, part.target), part.equals, sql.Identifier(alias, part.name)
            )
            for part in self.key
        )

    def is_staged(self, staged: str, alias: str = ENTRY) -> sql.Composed:
        """Condition: a row of the staging table has the key of an entry."""
        return sql.SQL(" AND ").join(
            sql.SQL("{} {} {}").format(
                sql.Identifier(staged, f"vecfill_{name}"), part.equals, sql.Identifier(alias, part.name)
            )
            for part, name in zip(self.key, key_names(len(self.key)), strict=True)
        )

    def has_status(self, value: sql.Composable, alias: str = ENTRY) -> sql.Composed:
        """Condition: an entry is this target's, and has this status."""
        return self._equal((self.status, value), *self.only, alias=alias)

    def is_own(self, alias: str = ENTRY) -> sql.Composable:
        """Condition: an entry is this target's, and not another's that shares the queue."""
        return self._equal(*self.only, alias=alias) if self.only else sql.SQL("true")

    @staticmethod
    def _equal(*values: tuple[str, sql.Composable], alias: str) -> sql.Composed:
        return sql.SQL(" AND ").join(
            sql.SQL("{} OPERATOR(pg_catalog.=) {}").format(sql.Identifier(alias, name), value) for name, value in values
        )

    def is_open(self, alias: str = ENTRY) -> sql.Composed:
        """Condition: an entry is pending or processing."""
        return sql.SQL("({} OR {})").format(
            self.has_status(self.pending, alias), self.has_status(self.processing, alias)
        )

    def row_has(self, target: str, condition: sql.Composable) -> sql.Composed:
        """Condition: some entry of a row of the target meets a condition."""
        return sql.SQL("EXISTS (SELECT FROM {} AS {} WHERE {} AND {} AND {})").format(
            self.name, sql.Identifier(ENTRY), self.is_row(target), self.is_own(), condition
        )

    @property
    def is_claimed(self) -> sql.Composed:
        """Condition: this run claimed an entry, and has not settled it."""
        return sql.SQL("({} AND {})").format(self.has_status(self.processing), self._is_ours)

    @property
    def _is_ours(self) -> sql.Composed:
        if self.claimed is None or not self.claimed.exact:
            return sql.SQL("pg_catalog.age({}.xmin) OPERATOR(pg_catalog.<=) pg_catalog.age({}::pg_catalog.xid)").format(
                sql.Identifier(ENTRY), sql.Literal(str(self.mark))
            )
        time = sql.Identifier(ENTRY, self.claimed.name)
        return sql.SQL(
            "COALESCE({0} OPERATOR(pg_catalog.=) (pg_catalog.date_trunc('second', {0}) OPERATOR(pg_catalog.+) {1}), "
            "false)"
        ).format(time, self._mark)

    @property
    def _mark(self) -> sql.Composed:
        return sql.SQL("{}::pg_catalog.interval").format(sql.Literal(f"{self.mark} microseconds"))

    @property
    def claim_time(self) -> sql.Composed:
        """The time that a claim of this run sets: the second before this one, and the run's mark."""
        assert self.claimed is not None  # noqa: S101
        if not self.claimed.exact:
            return sql.SQL("{}").format(self.claimed.now)
        return sql.SQL(
            "(pg_catalog.date_trunc('second', {}) OPERATOR(pg_catalog.-) '1 s'::pg_catalog.interval"
            " OPERATOR(pg_catalog.+) {})"
        ).format(self.claimed.now, self._mark)

    @property
    def is_abandoned(self) -> sql.Composed:
        """Condition: an entry is processing, was claimed too long ago, or nobody knows when, and not by this run."""
        stuck: sql.Composable
        if self.claimed is None:
            stuck = sql.SQL("true" if self.stuck_s == 0 else "false")
        else:
            stuck = sql.SQL(
                "COALESCE({} OPERATOR(pg_catalog.<=) ({} OPERATOR(pg_catalog.-) {}::pg_catalog.interval), true)"
            ).format(sql.Identifier(ENTRY, self.claimed.name), self.claimed.now, sql.Literal(f"{self.stuck_s} seconds"))
        return sql.SQL("({} AND {} AND NOT {})").format(self.has_status(self.processing), stuck, self._is_ours)
