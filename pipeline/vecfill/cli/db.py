"""``vecfill db``: start, find, query and stop the embedded server."""

from __future__ import annotations

import os
import signal
import sys

import click


@click.group()
def db() -> None:
    r"""Start, query or stop the embedded PostgreSQL server (extra `demo`).

    The server has pgvector and accepts no other user of this machine; use it for a first look and for tests.
    It keeps its data between starts, in the folder VECFILL_HOME or in a default folder.

    \b
    Examples:
      vecfill db start
      vecfill db psql
      vecfill db psql -- -c 'SELECT count(*) FROM jobs'
      vecfill db stop
    """


@db.command()
@click.option(
    "--version",
    type=click.Choice(["16", "18"]),
    default="18",
    show_default=True,
    help="Major version of PostgreSQL. Each version has its own data; only one runs at a time.",
)
def start(version: str) -> None:
    """Start the server in the background, unless it is running already, and print its URL."""
    from vecfill.postgres import embedded

    url = embedded.start(int(version))
    click.echo(f"PostgreSQL {version} is running; `vecfill db stop` stops it", err=True)
    click.echo(url)


@db.command()
def url() -> None:
    """Print the running server's URL."""
    from vecfill.postgres import embedded

    click.echo(embedded.url())


@db.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- ARGS]")
def psql(arguments: tuple[str, ...]) -> None:
    r"""Open psql on the running server's database.

    The embedded server brings its own psql; you need not install one. Arguments after `--` go to psql, such as -d and
    -U for another database or role of this server.

    \b
    Examples:
      vecfill db psql
      vecfill db psql -- -c 'SELECT count(*) FROM jobs'
      vecfill db psql -- -At -f report.sql > report.txt

    Exit codes: those of psql; 2 if no server is running or the extra `demo` is missing.
    """
    from vecfill.errors import ConfigError
    from vecfill.postgres import embedded

    command = embedded.psql()
    sys.stdout.flush()
    # Python ignores SIGPIPE, and psql would inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        os.execve(command.program, ["psql", *arguments], command.environment)  # noqa: S606
    except OSError as error:
        raise ConfigError(f"{command.program} cannot be run ({error}): pip install 'vecfill[demo]' again") from error


@db.command()
def stop() -> None:
    """Stop the server; its data stays."""
    from vecfill.postgres import embedded

    stopped = embedded.stop()
    click.echo("stopped; the data stays" if stopped else "no embedded server was running", err=True)
