"""``vecfill demo``."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import get_args

import click
from rich.console import Console

from vecfill.backfill.progress import Progress
from vecfill.backfill.result import RunResult
from vecfill.cli.logs import log_to_stderr
from vecfill.cli.progress import shown
from vecfill.cli.report import print_result
from vecfill.config.engine import EngineName, EngineOptions
from vecfill.config.output import Output
from vecfill.demo.board import TARGET, Attempt
from vecfill.demo.story import MODEL, SHOWN, Board, tell
from vecfill.vector_search import Hit
from vecfill.wording import count_of

_WHERE = {
    "ray": ", on Ray; Ray, its actors and the model first take some seconds to start",
    "inline": ", in this process",
}
"""Where the main job runs, per engine."""

_EMPTY = "\"UPDATE jobs SET embedding = NULL WHERE title LIKE 'Senior%'\""
"""Empties some vectors, so that a run has rows to fill; quoted for a shell."""


@click.command()
@click.option("--rows", type=click.IntRange(min=1), metavar="N", help="Load only N listings.  [default: all]")
@click.option(
    "--engine",
    type=click.Choice(get_args(EngineName)),
    default="ray",
    show_default=True,
    help="Engine of the main job, as for `vecfill run`.",
)
@click.option("--quiet", is_flag=True, help="Print only errors on stderr; stdout still shows the demo.")
@click.option("--verbose", is_flag=True, help="Also print Ray's log and tracebacks.")
def demo(rows: int | None, engine: EngineName, quiet: bool, verbose: bool) -> None:
    r"""Fill a table of 17,269 job listings on an embedded server.

    Starts the embedded PostgreSQL, recreates the table public.jobs, fills a fifth of its vectors, shows how the upsert
    of the original job board fails, fills the rest on Ray, and searches. Needs pip install 'vecfill[demo]', but no
    network and no other database. Takes about two minutes on two CPU cores. The server and the table stay.

    \b
    vecfill demo
    vecfill demo --rows 2000

    Exit codes: 0 every row has a vector; otherwise the exit code of the run that failed, as for `vecfill run`.
    """
    log_to_stderr(Output(quiet=quiet, verbose=verbose))
    narrator = _Narrator(quiet)
    try:
        code = tell(narrator, rows=rows, engine=EngineOptions(engine=engine, verbose=verbose))
    finally:
        narrator.leave()
    sys.exit(code)


class _Narrator:
    """Prints the story to stdout in numbered parts."""

    def __init__(self, quiet: bool) -> None:
        self._console = Console(soft_wrap=True, highlight=False)
        self._quiet, self._part, self._ended = quiet, 0, False

    def board(self, board: Board) -> None:
        self._heading(f"A job board of {board.rows:,} real listings")
        self._say(f"PostgreSQL {board.postgres} with pgvector {board.pgvector}, a server of its own in {board.home}")
        self._code(board.ddl)

    def first_run(self, rows: int) -> None:
        self._heading("A first run fills a fifth")
        self._say(f"{count_of(rows, 'row')}, in this process, as a cron job would")

    def attempts(self, upsert: Attempt, update: Attempt) -> None:
        self._heading("The statement that failed")
        self._say("A job board's cron job sent this upsert, here for an existing row:")
        self._code(upsert.statement)
        self._answer(upsert)
        self._say("PostgreSQL checks NOT NULL on the proposed row before it looks at ON CONFLICT.")
        self._say("An UPDATE proposes no row, so it cannot fail this way; vecfill only sends UPDATEs:")
        self._code(update.statement)
        self._answer(update)

    def main_run(self, rows: int, engine: str) -> None:
        self._heading("The main job fills the rest")
        self._say(f"{count_of(rows, 'row')}{_WHERE.get(engine, '')}")

    def progress(self) -> AbstractContextManager[Callable[[Progress], None]]:
        return shown(quiet=self._quiet)

    def result(self, result: RunResult) -> None:
        print_result(result)

    def searches(self) -> None:
        self._heading("Searches by meaning")
        self._say(f"cosine distance, {' and '.join(SHOWN)} of the nearest rows")

    def hits(self, query: str, hits: tuple[Hit, ...]) -> None:
        self._console.print(f"“{query}”", style="cyan", markup=False)
        for hit in hits:
            values = " · ".join((value or "").strip() for value in hit.values)
            self._console.print(f"    {hit.distance:.3f}  {values}", markup=False)

    def end(self) -> None:
        self._ended = True
        self._heading("Yours to play with")
        self._say("The server keeps running and the table stays. Paste any of these:")
        for comment, command in _commands(_program()):
            self._console.print(f"\n# {comment}", style="dim")
            self._console.print(command, markup=False)

    def leave(self) -> None:
        """Says that the server keeps running, if the story broke off after starting it."""
        if self._part and not self._ended:
            self._say(f"\nThe server keeps running: {_program()} db stop stops it; another demo starts over.")

    def _heading(self, text: str) -> None:
        self._part += 1
        self._console.print(f"\n{self._part}. {text}", style="bold")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)

    def _code(self, text: str) -> None:
        self._console.print("\n".join(f"    {line}" for line in text.splitlines()), style="cyan", markup=False)

    def _answer(self, attempt: Attempt) -> None:
        state = f" (SQLSTATE {attempt.sqlstate})" if attempt.sqlstate else ", then rolled back"
        self._console.print(f"=>  {attempt.answer}{state}", style="red" if attempt.sqlstate else "green", markup=False)


def _commands(program: str) -> list[tuple[str, str]]:
    """Comments, and commands that work if pasted into the shell that started the demo."""
    place = f"--database embedded --table {TARGET.table}"
    text, model = f"--text {shlex.quote(TARGET.text or '')}", f"--model {MODEL.name}"
    home = os.environ.get("VECFILL_HOME")
    return [
        *([("use the same server folder as this demo", f"export VECFILL_HOME={shlex.quote(home)}")] if home else []),
        ("search for something else", f"{program} search {place} {model} --show {','.join(SHOWN)} 'night shift'"),
        ("empty some vectors", f"{program} db psql -- -c {_EMPTY}"),
        ("count the missing vectors", f"{program} status {place} {text}"),
        ("fill them", f"{program} run {place} {text} {model} --dtype {MODEL.dtype} --set {shlex.quote(TARGET.set[0])}"),
        ("open psql", f"{program} db psql"),
        ("stop the server; its data stays", f"{program} db stop"),
    ]


def _program() -> str:
    """Returns how to call this command from here: by its name if PATH finds it, else by its path."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m vecfill"
    on_path = shutil.which(started.name)
    if on_path and started.exists() and Path(on_path).samefile(started):
        return shlex.quote(started.name)
    near = os.path.relpath(started)
    return shlex.quote(str(started.resolve()) if near.startswith("..") else near if "/" in near else f"./{near}")
