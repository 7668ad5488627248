"""The database, and how to get its password."""

from __future__ import annotations

from vecfill.config.spec import Spec, option, spec


@spec
class DatabaseOptions(Spec):
    """The database. If neither option is set, libpq's environment variables name it."""

    database: str | None = option(
        "Database to connect to: postgresql://user@host/name, or 'embedded' for the demo server.",
        default=None,
        metavar="URL",
        short="-d",
        secret=True,
    )
    password_command: str | None = option(
        "Run COMMAND (a program with arguments, no shell) at each connect; its first output line is the password.",
        default=None,
        metavar="COMMAND",
        secret=True,
    )
