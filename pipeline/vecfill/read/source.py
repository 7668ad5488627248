"""A PostgreSQL table as the source of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

from psycopg import sql

from vecfill.interruptible import Stopped
from vecfill.job import Reader as ReadStage
from vecfill.job import Unit, Worker
from vecfill.postgres.database import Connection
from vecfill.postgres.relation import Relation, with_dimension
from vecfill.postgres.selection import MISSING, Selection
from vecfill.postgres.session import Session
from vecfill.read.look import Look, Lookout
from vecfill.read.ordered_rows import OrderedList
from vecfill.read.pieces import Pieces
from vecfill.read.reader import Reader
from vecfill.read.survey import Survey, survey
from vecfill.read.units import plan_units
from vecfill.read.user_sql_errors import explain_user_sql_errors


@dataclass(frozen=True, kw_only=True)
class TableSource:
    """Surveys a target, splits its eligible rows into units and reads them. Pickles without its connection.

    Attributes:
        session: the run's own; the reader in this process uses it too, but never at the same time.
        relation: the target.
        selection: the rows to take.
        order: what follows ORDER BY, to take the rows in this order; None for the order of the table.
        pieces: the size of the survey's statements.
        lookout: what the looks have learned.
    """

    session: Session
    relation: Relation
    selection: Selection = MISSING
    order: sql.Composable | None = None
    pieces: Pieces = field(default_factory=Pieces)
    lookout: Lookout = field(default_factory=Lookout)

    remembers_failures: ClassVar[bool] = False
    """Whether rows that failed are remembered where the rows are taken from, and so are not found again."""

    def look(self, excluded: tuple[str, ...] = ()) -> Look:
        """Looks cheaply whether there may be eligible rows; ``excluded`` are keys to pass over.

        Raises:
            As ``survey``.
        """
        return self.session.run(
            lambda connection: self.lookout.look(connection, self.relation, self.selection, excluded)
        )

    def tidy(self, most_pages: int) -> None:
        """Does nothing: only a ledger has rows to try again, and a queue that ``most_pages`` should hold."""

    def survey(
        self,
        *,
        exact: bool = False,
        excluded: tuple[str, ...] = (),
        earlier: Survey | None = None,
        stopped: Stopped | None = None,
    ) -> Survey:
        """Counts the rows; see ``survey.survey``.

        Raises:
            StoppedError: ``stopped``, or the session's own, became true.
            TableLockedError: another session keeps the table locked.
            ConfigError: the user's SQL fails on all rows, or on very many.
            ServerGoneError: the server did not recover.
        """
        return self.session.run(
            lambda connection: self._surveyed(connection, exact=exact, excluded=excluded, earlier=earlier),
            stopped=stopped,
        )

    def _surveyed(
        self, connection: Connection, *, exact: bool, excluded: tuple[str, ...], earlier: Survey | None
    ) -> Survey:
        """Does the work of ``survey``, each time that it tries."""
        return self._counted(connection, exact=exact, excluded=excluded, earlier=earlier)

    def _counted(
        self,
        connection: Connection,
        *,
        exact: bool = False,
        excluded: tuple[str, ...],
        earlier: Survey | None,
        leaves: Container[int] | None = None,
    ) -> Survey:
        """Counts the rows to take of these leaves."""
        return survey(
            connection,
            self.relation,
            self.selection,
            exact=exact,
            excluded=excluded,
            earlier=earlier,
            pieces=self.pieces,
            leaves=leaves,
        )

    def with_dimension(self, dim: int | None) -> Self:
        """Returns the same source of a target whose embedding column has this dimension."""
        return replace(self, relation=with_dimension(self.relation, dim)) if dim else self

    def at(self, relation: Relation) -> Self:
        """Returns the same source of the target as it is now."""
        return replace(self, relation=relation, lookout=Lookout())

    def plan(
        self, found: Survey, *, limit: int | None, most_rows: int, excluded: tuple[str, ...] = ()
    ) -> Sequence[Unit]:
        """Splits the surveyed rows into units; see ``units.plan_units`` and ``OrderedList.blocks``.

        Raises:
            ConfigError: the server cannot put the rows into the order.
            StoppedError, TableLockedError, ServerGoneError: as ``survey``, if there is an order.
        """
        if self.order is None or not found.buckets:
            return plan_units(found.buckets, limit, most_rows, excluded)
        rows = OrderedList(relation=self.relation, selection=self.selection, order=self.order, excluded=excluded)
        with explain_user_sql_errors(self.relation):
            return self.session.run(
                lambda connection: rows.blocks(connection, found.buckets, limit=limit, most_rows=most_rows)
            )

    def reader(self, worker: Worker) -> ReadStage:
        """Returns the read stage of one worker."""
        return Reader(self.session, self.relation, self.selection, worker)

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Leaves nothing of the run behind in the source at the end of the body."""
        yield

    def close(self) -> None:
        """Closes the connection; the next use opens another."""
        self.session.close()
