"""``vecfill db``: the embedded server, started, found and stopped by hand."""

from __future__ import annotations

import click


@click.group()
def db() -> None:
    r"""Start, find and stop the embedded PostgreSQL (extra `demo`).

    It is a server of your own with pgvector, closed to other users, for a first look and for tests. Its data stays
    between starts, in the folder that VECFILL_HOME names or in a default one.

    \b
    Examples:
      vecfill db start
      psql "$(vecfill db url)"
      vecfill db stop
    """


@db.command()
@click.option(
    "--version",
    type=click.Choice(["16", "18"]),
    default="18",
    show_default=True,
    help="Major version of PostgreSQL. Each has data of its own; one runs at a time.",
)
def start(version: str) -> None:
    """Start the server, or find it running, and print its URL; it goes on in the background."""
    from vecfill.postgres import embedded

    url = embedded.start(int(version))
    click.echo(f"PostgreSQL {version} is running; `vecfill db stop` ends it", err=True)
    click.echo(url)


@db.command()
def url() -> None:
    """Print the running server's URL."""
    from vecfill.postgres import embedded

    click.echo(embedded.url())


@db.command()
def stop() -> None:
    """Stop the server; its data stays."""
    from vecfill.postgres import embedded

    stopped = embedded.stop()
    click.echo("stopped; the data stays" if stopped else "no embedded server was running", err=True)
