"""The embedded PostgreSQL with pgvector (extra ``demo``): our own server for the demo, the tests and a first look.

As root the server runs as another user, and no folder's mode is ever widened (see ``server_programs``): the home must
be a folder that every user can reach (see ``embedded_home``).
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psycopg

from vecfill.errors import ConfigError, DatabaseError
from vecfill.postgres import server_programs
from vecfill.postgres.embedded_home import (
    DATABASE,
    PORT,
    SOCKET,
    Cluster,
    check_socket_path,
    locked,
    os_errors_named,
    resolve,
    running,
)

_NO_PROCESS = str(2**31 - 1)  # Linux gives process numbers up to 2**22
_SECONDS = "60"
_LOG_LINES = 15

_LOCALE = {16: ("--locale=C",), 18: ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")}
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "timezone": "UTC",
    "log_timezone": "UTC",
    "unix_socket_directories": ".",  # the data folder, even after it is moved
    "unix_socket_permissions": "0700",  # the server trusts every login: only its user and root may reach the socket
}
_TERMINFO = "/etc/terminfo:/lib/terminfo:/usr/share/terminfo"


@dataclass(frozen=True, kw_only=True)
class Psql:
    """How to run the embedded server's own ``psql`` on its database."""

    program: Path
    environment: dict[str, str]


def start(version: int = 18, folder: Path | None = None) -> str:
    """Starts the embedded server unless it is running already; it keeps running after this process ends.

    Args:
        version: PostgreSQL's major version, 16 or 18; each has its own data.
        folder: the home to use instead of ``data_home()``.

    Returns:
        The libpq URI of the database ``vecfill``, in which the extension ``vector`` is installed.

    Raises:
        ConfigError: the extra is missing, the home cannot be used, the other version runs there, or the server does
            not start (with the end of its log).
        DatabaseError: the server runs but does not answer.
    """
    home = resolve(folder)
    cluster = Cluster(home=home, version=version)
    server_programs.installed(version)
    check_socket_path(cluster.data)
    with os_errors_named(home), locked(home):
        found = running(home)
        if found is None:
            _launch(cluster)
        elif found != cluster:
            raise ConfigError(
                f"PostgreSQL {found.version} is running in {home}, but {version} was asked for: "
                "stop it first with `vecfill db stop`"
            )
        _ensure_database(cluster)
    return cluster.uri()


def url(folder: Path | None = None) -> str:
    """Returns the URI of the running embedded server's database.

    Raises:
        ConfigError: no server is running.
    """
    return _need_running(folder).uri()


def psql(folder: Path | None = None) -> Psql:
    """Returns how to run the embedded server's own ``psql``.

    The environment names the server, so ``-d`` and ``-U`` still choose another database or role. The caller's PG*
    variables are left out: they belong to other servers. The program is built to look for descriptions of terminals in
    fewer folders than Debian uses, so the environment names those.

    Raises:
        ConfigError: no server is running, or the extra is missing.
    """
    cluster = _need_running(folder)
    server = {"PGHOST": str(cluster.data), "PGPORT": str(PORT), "PGUSER": "postgres", "PGDATABASE": DATABASE}
    own = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    program = server_programs.installed(cluster.version) / "bin" / "psql"
    return Psql(program=program, environment={"TERMINFO_DIRS": _TERMINFO, **own, **server})


def _need_running(folder: Path | None) -> Cluster:
    home = resolve(folder)
    with os_errors_named(home):
        cluster = running(home)
    if cluster is None:
        raise ConfigError(f"no embedded server is running in {home}: start it with `vecfill db start`")
    return cluster


def stop(folder: Path | None = None) -> bool:
    """Stops the embedded server and rolls back open transactions; returns whether a server was running."""
    home = resolve(folder)
    with os_errors_named(home):
        if running(home) is None:
            return False
        with locked(home):
            cluster = running(home)
            if cluster is not None:
                _execute(cluster, "pg_ctl", "stop", "-w", "-t", _SECONDS, "-m", "fast", "-D", str(cluster.data))
    return cluster is not None


def _launch(cluster: Cluster) -> None:
    if not (cluster.data / "PG_VERSION").exists():
        _initialise(cluster)
    if cluster.process() is not None:
        _disown(cluster)
    _execute(cluster, "pg_ctl", "start", "-w", "-t", _SECONDS, "-D", str(cluster.data), "-l", str(cluster.log))


def _disown(cluster: Cluster) -> None:
    """Rewrites stale lock files whose process number now belongs to another process: they get a number none has.

    PostgreSQL would take that process for a running server. It needs the files nonetheless: they hold the key of the
    shared memory, by which it checks for old backends that still use it.
    """
    for file in (cluster.lock, cluster.data / f"{SOCKET}.lock"):
        if file.exists():
            _replace_first_line(file, _NO_PROCESS)


def _replace_first_line(file: Path, line: str) -> None:
    # The folder belongs to the server's user: root must not follow a link that this user may have put there.
    with os.fdopen(os.open(file, os.O_RDWR | os.O_NOFOLLOW), "r+") as handle:
        lines = [line, *handle.read().split("\n")[1:]]
        handle.seek(0)
        handle.truncate()
        handle.write("\n".join(lines))


def _initialise(cluster: Cluster) -> None:
    """Creates the data folder under another name first, so that a killed initdb leaves no incomplete one behind."""
    server_programs.check_user_has_name()
    fresh = cluster.data.with_suffix(".new")
    if fresh.exists():
        shutil.rmtree(fresh)
    fresh.mkdir(mode=0o700)
    if account := server_programs.server_account():
        os.chown(fresh, account.pw_uid, account.pw_gid)
    settings = (argument for name, value in _SETTINGS.items() for argument in ("-c", f"{name}={value}"))
    login = ("-U", "postgres", "-A", "trust", "-E", "UTF8")
    _execute(cluster, "initdb", *login, *_LOCALE[cluster.version], *settings, "-D", str(fresh))
    fresh.rename(cluster.data)


def _execute(cluster: Cluster, program: str, *arguments: str) -> None:
    done = server_programs.execute(
        server_programs.reachable(cluster.version, cluster.home), cluster.home, program, *arguments
    )
    if done.returncode != 0:
        raise ConfigError(f"{program} failed in {cluster.data}:\n{_tail(done.stdout)}{_log_end(cluster)}")


def _log_end(cluster: Cluster) -> str:
    if not cluster.log.exists():
        return ""
    return f"\n{cluster.log} ends with:\n{_tail(cluster.log.read_text(errors='replace'))}"


def _tail(text: str) -> str:
    return "\n".join(text.rstrip().splitlines()[-_LOG_LINES:])


def _ensure_database(cluster: Cluster) -> None:
    try:
        with psycopg.connect(cluster.uri("postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", [DATABASE]).rowcount
            if not found:
                # template0: PostgreSQL refuses to copy template1 while a client is connected to it
                connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0")
        with psycopg.connect(cluster.uri(), autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    except psycopg.Error as error:
        raise DatabaseError(f"the embedded server in {cluster.data} does not answer as expected: {error}") from error
